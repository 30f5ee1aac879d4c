package durable

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenDirect opens an existing file to be read and written around the page cache:
// what is written once and read once, and is larger than memory, only drives out of
// it what others need, and is copied for nothing. Offsets, lengths and addresses
// of the buffers have to be multiples of [DirectAlign]; file systems that have more
// demands, or no such way, refuse to open or to write (EINVAL).
//
// A page that is written both ways at once may keep either: whoever mixes the ways
// keeps them on different pages.
func OpenDirect(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
}

// DirectAlign is the size of a page, which is at least that of a block.
const DirectAlign = 4 << 10

// DirectBuffer reports whether p may be handed to a file of OpenDirect: some devices
// want whole sectors in memory, too.
func DirectBuffer(p []byte) bool {
	const sector = 512
	return len(p) > 0 && len(p)%DirectAlign == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%sector == 0
}
