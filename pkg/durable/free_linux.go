package durable

import "golang.org/x/sys/unix"

// largestFile is the largest file that FAT holds: 4 GiB less one byte. Of others
// no such limit is known.
func largestFile(s *unix.Statfs_t) int64 {
	if s.Type == unix.MSDOS_SUPER_MAGIC {
		return 4<<30 - 1
	}
	return 0
}
