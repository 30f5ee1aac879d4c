package durable

import (
	"ferry/pkg/fault"
)

// smallestBlock is what a file takes at least, and by what it grows: that of most
// file systems. Some tell a block of a megabyte, which is only what they like best.
const smallestBlock = 4 << 10

// Fits tells before hours of work whether the file system of dir takes new files of
// these sizes, in bytes: whether it has the space and the inodes, and allows files so
// large (B13, B14). reclaimed is how much of what lies there the work frees.
// What the system does not tell counts as enough. The error is of the kind
// fault.Local and says how much is missing; advice is its hint where space is.
func Fits(dir string, sizes []int64, reclaimed int64, advice string) error {
	var need, largest int64
	room := roomOf(dir)
	for _, size := range sizes {
		need += (size + room.block - 1) / room.block * room.block
		largest = max(largest, size)
	}
	files := int64(len(sizes))
	switch free := room.free + reclaimed; {
	case room.known && free < need:
		return fault.Newf(fault.Local, dir, "%d bytes are still to be written, but only %d are free: %d are missing", need, free, need-free).
			Because(fault.DiskFull).Hint("%s", advice)
	case room.inodesKnown && room.inodes < files:
		return fault.Newf(fault.Local, dir, "%d files are still to be made, but the file system takes only %d more (inodes): %d are missing",
			files, room.inodes, files-room.inodes).
			Because(fault.DiskFull).Hint("%s", advice)
	case room.largest > 0 && room.largest < largest:
		return fault.Newf(fault.Local, dir, "a file of %d bytes is to be written, and here files may have at most %d", largest, room.largest).
			Hint("%s", hintSmallerFiles)
	}
	return nil
}

// hintSmallerFiles is for FAT, whose files end at 4 GiB, and for limits such as
// that of ulimit -f (B14).
const hintSmallerFiles = "choose another disk, raise the limit if it is one of this user's (ulimit -f), or write smaller files: " +
	"ferry-pack and ferry-fetch --bundle cut archives with --chunk-size"

// room is what a file system takes.
type room struct {
	known  bool
	free   int64 // bytes
	block  int64 // bytes by which files grow
	inodes int64 // files that can be made

	inodesKnown bool
	largest     int64 // bytes of one file; 0 for what nobody tells
}
