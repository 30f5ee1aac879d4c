package bench

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// memory fills the memory that nobody uses with the page cache of a file that has
// a length and no blocks.
//
// So it is on a machine that has been up for some time: who wants a page gets one
// that held something else. In a virtual machine a page that was free for some
// seconds may belong to the host, and to have it back takes longer than to write it
// to a file: with free memory, the time of a turn depended on how much of it the
// one before had given back, and when.
type memory struct {
	hole *os.File
	buf  []byte
}

const (
	holeSize = 1 << 40 // bytes
	fillStep = 256 << 20
)

func newMemory(dir string) (*memory, error) {
	hole, err := os.CreateTemp(dir, "hole-")
	if err != nil {
		return nil, err
	}
	// Nothing of it is left, however the run ends.
	err = errors.Join(os.Remove(hole.Name()), hole.Truncate(holeSize))
	if err != nil {
		return nil, errors.Join(err, hole.Close())
	}
	return &memory{hole: hole, buf: make([]byte, 1<<20)}, nil
}

// close gives back what was filled.
func (m *memory) close() error { return m.hole.Close() }

// fill reads on until reading takes pages that held something else: until a step
// leaves more than half as much memory free as it should have taken.
func (m *memory) fill() error {
	for {
		before, err := freeMemory()
		if err != nil {
			return err
		}
		if err := m.step(); err != nil {
			return err
		}
		after, err := freeMemory()
		if err != nil || before-after < fillStep/2 {
			return err
		}
	}
}

// step reads what was not read before.
func (m *memory) step() error {
	for left := fillStep; left > 0; {
		n, err := m.hole.Read(m.buf)
		left -= n
		if errors.Is(err, io.EOF) {
			_, err = m.hole.Seek(0, io.SeekStart)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func freeMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, os.NewSyscallError("sysinfo", err)
	}
	return int64(info.Freeram) * int64(info.Unit), nil
}
