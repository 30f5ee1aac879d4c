//go:build unix

package durable

import (
	"errors"
	"os"
	"syscall"
)

// TryLock takes the advisory lock (flock) on f without waiting, for itself
// (exclusive) or together with other readers. It returns false when another
// holder is in the way, or when f no longer stands at its name, so that locking
// it would guard nothing. The kernel frees the lock when f is closed or the
// process dies.
func TryLock(f *os.File, exclusive bool) (bool, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case err != nil:
			return false, os.NewSyscallError("flock", err)
		}
		return standsAtItsName(f), nil
	}
}

func standsAtItsName(f *os.File) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(held, named)
}

// cannotSyncDirs recognises file systems (some network and FUSE ones) that
// offer no sync of directories; they order renames by themselves or not at all.
func cannotSyncDirs(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}

// isFull reports whether err is for want of space or quota.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// advice tells what a person can do about err, or "".
func advice(err error) string {
	for _, known := range []struct {
		errno syscall.Errno
		hint  string
	}{
		{syscall.ENOSPC, "free space (or inodes) on this file system and run the same command again; what is finished is kept"},
		{syscall.EDQUOT, "the user's disk quota is used up; free space or raise it, and run the same command again"},
		{syscall.EFBIG, hintSmallerFiles},
		{syscall.EROFS, "the file system is read-only; remount it for writing or choose another directory"},
		{syscall.EACCES, "give this user the right to read and write there, or choose another directory"},
		{syscall.EPERM, "give this user the right to read and write there, or choose another directory"},
		{syscall.EIO, "the disk failed; check it (dmesg, smartctl) before running the command again"},
		{syscall.EMFILE, "raise the limit of open files (ulimit -n) or lower the parallelism"},
		{syscall.ENOLCK, "this file system has no locks; choose another directory"},
		{syscall.ENOTSUP, "this file system lacks what is needed here; choose another directory"},
	} {
		if errors.Is(err, known.errno) {
			return known.hint
		}
	}
	return ""
}
