package measure

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is how much the files below directories hold.
type Tree struct {
	Bytes int64 // lengths of the files
	Disk  int64 // bytes of the disk that they occupy
}

// Sum measures what lies below dirs.
func Sum(dirs ...string) (Tree, error) {
	var sum Tree
	err := walk(dirs, func(_ string, info fs.FileInfo) error {
		sum.Bytes += info.Size()
		sum.Disk += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return sum, err
}

// Settle brings what was written to the disk, so that nobody pays for the one
// before, and drops the files below dirs from memory, so that whoever comes next
// reads them from the disk.
func Settle(dirs ...string) error {
	syscall.Sync()
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	return walk(dirs, func(path string, _ fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			return &os.PathError{Op: "fadvise", Path: path, Err: errno}
		}
		return nil
	})
}

// Watch samples what the files below dirs occupy until stop is called, which
// returns the largest sum seen, that at the end included.
//
// Looking costs time of the processors on which the program works that is being
// measured, so a look is followed by a pause of twenty times its length.
func Watch(dirs ...string) (stop func() (int64, error)) {
	done := make(chan struct{})
	peak := make(chan int64)
	go func() {
		var most int64
		for pause := shortestPause; ; {
			select {
			case <-time.After(pause):
			case <-done:
				peak <- most
				return
			}
			began := time.Now()
			// A file may go while we look: the next look tells.
			if sum, err := Sum(dirs...); err == nil {
				most = max(most, sum.Disk)
			}
			pause = max(shortestPause, 20*time.Since(began))
		}
	}()
	return func() (int64, error) {
		close(done)
		most := <-peak
		sum, err := Sum(dirs...)
		return max(most, sum.Disk), err
	}
}

const shortestPause = 200 * time.Millisecond

// SyncFS writes what the file system below dir has in memory to its disk.
func SyncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}

// Free is how many bytes are free below dir.
func Free(dir string) (int64, error) {
	var s syscall.Statfs_t
	err := syscall.Statfs(dir, &s)
	return int64(s.Bavail) * s.Bsize, err
}

// walk calls visit with each regular file below dirs.
func walk(dirs []string, visit func(path string, info fs.FileInfo) error) error {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			return visit(path, info)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
