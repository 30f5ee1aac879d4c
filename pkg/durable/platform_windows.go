package durable

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// TryLock takes the lock on f without waiting, for itself (exclusive) or
// together with other readers. It returns false when another holder is in the
// way. The system frees the lock when f is closed or the process dies.
func TryLock(f *os.File, exclusive bool) (bool, error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	// Locks are mandatory here: one byte far behind the end guards the file
	// and leaves its text readable.
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("LockFileEx", err)
}

func cannotSyncDirs(error) bool { return true }

// isFull reports whether err is for want of space.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// advice tells what a person can do about err, or "".
func advice(err error) string {
	switch {
	case errors.Is(err, windows.ERROR_DISK_FULL), errors.Is(err, windows.ERROR_HANDLE_DISK_FULL):
		return "free space on this disk and run the same command again; what is finished is kept"
	case errors.Is(err, fs.ErrPermission):
		return "give this user the right to read and write there, or choose another directory"
	}
	return ""
}
