//go:build !amd64

package sha256pair

func possible() bool { return false }

func blocks(*[8]uint32, *[8]uint32, *byte, *byte, int, *[64]uint32) {
	panic("sha256pair: a form that this processor has not got")
}
