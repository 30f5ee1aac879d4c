package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Allocate makes f size bytes long, of zeros, and takes the room for them on the
// disk where the file system can do so without writing.
func Allocate(f *os.File, size int64) error {
	if size == 0 {
		return nil // the system call refuses it
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return f.Truncate(size)
		case err != nil:
			return os.NewSyscallError("fallocate", err)
		}
		return nil
	}
}
