//go:build linux || darwin

package durable

import "golang.org/x/sys/unix"

// Free tells how many bytes this user can still write to the file system of path;
// known is false where the system does not tell.
func Free(path string) (bytes int64, known bool) {
	r := roomOf(path)
	return r.free, r.known
}

func roomOf(path string) room {
	r := room{block: smallestBlock}
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err == nil {
		r.known, r.free = true, int64(s.Bavail)*int64(s.Bsize)
		r.block = max(1, min(r.block, int64(s.Bsize)))
		// Some make inodes as they need them, and tell of none.
		r.inodesKnown, r.inodes = s.Files > 0, int64(s.Ffree)
		r.largest = largestFile(&s)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err == nil && limit.Cur < 1<<62 {
		if r.largest == 0 || int64(limit.Cur) < r.largest {
			r.largest = int64(limit.Cur)
		}
	}
	return r
}
