//go:build !amd64

package streebog

// haveWide tells that there is no other form than that with tables.
const haveWide = false

func takeWide(*words, *words, uint64, []byte) {
	panic("streebog: a digest of a form that this processor has not got")
}
