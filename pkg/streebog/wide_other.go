//go:build !amd64

package streebog

// haveWide tells that there is no other form than that with tables.
const haveWide = false

func compressWide(*words, uint64, *[BlockSize]byte) {
	panic("streebog: a digest of a form that this processor has not got")
}
