//go:build linux || darwin

package durable

import "golang.org/x/sys/unix"

// Free tells how many bytes this user can still write to the file system of path;
// known is false where the system does not tell.
func Free(path string) (bytes int64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
