package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// Lock says how a process uses a store.
type Lock int

const (
	// Shared is for readers, any number at a time.
	Shared Lock = iota
	// Exclusive is for the one process that writes.
	Exclusive
)

// lockPoll is how often a held lock is tried again. Waiting in the kernel could
// not be interrupted.
const lockPoll = 100 * time.Millisecond

// acquire takes the lock of the store. The kernel frees it when the process
// dies, so no stale lock is ever left to be removed by hand.
func (d *Dir) acquire(ctx context.Context) error {
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for waited := false; ; waited = true {
		f, err := d.openLock()
		if f == nil || err != nil {
			return err
		}
		locked, err := durable.TryLock(f, d.mode == Exclusive)
		if err != nil {
			f.Close()
			return durable.Fault(f.Name(), err)
		}
		if locked {
			d.lock = f
			d.sign()
			return nil
		}
		holder := readHolder(f)
		f.Close()
		if !waited && d.onWait != nil {
			d.onWait(holder)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fault.New(fault.KindOf(ctx.Err()), d.path, fmt.Errorf("the store is in use by %s: %w", holder, ctx.Err())).
				Hint("run the command again when the other one has ended")
		}
	}
}

// openLock opens the lock file. It returns nil for a reader of a store whose
// medium is read-only and has no lock file: nobody can write to it either.
func (d *Dir) openLock() (*os.File, error) {
	path := d.file(lockName)
	if d.mode == Exclusive {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		return f, durable.Fault(path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(path) // no right to write, or a read-only medium
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return f, durable.Fault(path, err)
	}
	// A lock file must not be left in a directory named by mistake.
	if err := d.checkLayout(); err != nil {
		return nil, err
	}
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err == nil {
		return f, nil
	}
	return nil, nil
}

// sign leaves a word for those who wait: the writer's name, or nothing in place
// of the name that a killed writer left. Failing to is no reason to stop.
func (d *Dir) sign() {
	if d.lock.Truncate(0) != nil || d.mode != Exclusive {
		return
	}
	host, _ := os.Hostname()
	_, _ = fmt.Fprintf(d.lock, "process %d on %s\n", os.Getpid(), host)
}

// readHolder returns who holds the lock f, for people.
func readHolder(f *os.File) string {
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 200))
	return holderName(text)
}

// holderName cleans what a lock file says: it goes to a terminal.
func holderName(text []byte) string {
	name := strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, string(text)))
	if name == "" {
		return "a process that reads it"
	}
	return name
}

func (d *Dir) release() {
	if d.lock == nil {
		return
	}
	if d.mode == Exclusive {
		_ = d.lock.Truncate(0)
	}
	d.lock.Close()
	d.lock = nil
}
