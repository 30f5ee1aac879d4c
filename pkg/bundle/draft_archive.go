package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
)

// partialSuffix is that of an archive's files while they are filled. It names us,
// for what others call so is not ours to remove. logSuffix is that of the log.
const (
	partialSuffix = ".ferry-partial"
	logSuffix     = tarSuffix + partialSuffix + ".log"
)

func partialName(name string) string { return name + partialSuffix }

// partial gives files the names that they have while they are filled.
func partial(files []contract.File) []contract.File {
	named := slices.Clone(files)
	for i := range named {
		named[i].Name = partialName(named[i].Name)
	}
	return named
}

// draftArchive is one archive of a Draft.
type draftArchive struct {
	opened *handles
	plan   *archivePlan
	// finished says that an earlier run finished it, and that it is result.
	finished bool
	result   contract.ArchiveFiles
	files    *parts // nil until the archive is laid out
	log      *draftLog
	said     progressOf // what earlier runs left

	mu      sync.Mutex
	changed *sync.Cond
	arrived []arrival // by entry
	front   int       // the first entry that has not arrived
}

func newDraftArchive(opened *handles, p *archivePlan) *draftArchive {
	a := &draftArchive{opened: opened, plan: p, arrived: make([]arrival, len(p.entries))}
	a.changed = sync.NewCond(&a.mu)
	return a
}

func (a *draftArchive) path(name string) string { return filepath.Join(a.opened.dir, name) }

func (a *draftArchive) logPath() string { return a.path(a.plan.name + logSuffix) }

// layOut makes the files with everything but the blobs, durably, and then the log:
// where there is a log, all of this is there.
func (a *draftArchive) layOut() error {
	files := partial(a.plan.files)
	for _, f := range files {
		if err := allocate(a.path(f.Name), f.Size); err != nil {
			return err
		}
	}
	var err error
	if a.files, err = newParts(a.opened, files); err != nil {
		return err
	}
	for _, e := range a.plan.entries {
		text, err := e.front()
		if err != nil {
			return err
		}
		at := e.offset - int64(len(text))
		if _, err := a.files.WriteAt(append(text, e.data...), at); err != nil {
			return err
		}
	}
	if err := errors.Join(a.files.Sync(), durable.SyncDir(a.opened.dir)); err != nil {
		return err
	}
	a.log, err = createLog(a.logPath(), layoutFor(a.plan))
	return err
}

// allocate makes a file anew, of its size, and takes the room for it on the disk
// where the file system can: what cannot end is not begun (B13).
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return durable.Fault(path, err)
	}
	return durable.Fault(path, errors.Join(durable.Allocate(f, size), f.Close()))
}

// goOn opens the log of an archive that was laid out earlier.
func (a *draftArchive) goOn() error {
	if a.finished || a.log != nil {
		return nil
	}
	log, err := openLog(a.logPath(), a.said.length)
	if err != nil {
		return err
	}
	a.log = log
	return nil
}

// name gives the files their names, the first one last: a reader that knows no
// bundle.json begins with it, and so never finds a set of chunks that is not
// complete.
func (a *draftArchive) name() error {
	for i := len(a.plan.files) - 1; i >= 0; i-- {
		now, final := a.path(a.files.files[i].name), a.path(a.plan.files[i].Name)
		if now == final {
			continue
		}
		if i == 0 { // all others are to survive a power loss before it
			if err := durable.SyncDir(a.opened.dir); err != nil {
				return err
			}
		}
		if err := os.Rename(now, final); err != nil {
			return durable.Fault(final, err)
		}
	}
	return durable.SyncDir(a.opened.dir)
}

// dropLog removes the log of a finished archive.
func (a *draftArchive) dropLog() error {
	if a.log != nil {
		a.log.Close()
		a.log = nil
	}
	if err := os.Remove(a.logPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return durable.Fault(a.logPath(), err)
	}
	return nil
}

// abandon removes the drafts in dir but those of the archives in kept, which are
// of no use any more. of is told before what each of them has.
func abandon(dir string, kept map[string]bool, of func(progressOf) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return durable.Fault(dir, err)
	}
	var files, logs []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), logSuffix); ok && !kept[name] {
			logs = append(logs, e.Name())
		}
		name, ok := strings.CutSuffix(e.Name(), partialSuffix)
		if archive, _, is := archiveOf(name); ok && is && !kept[archive] {
			files = append(files, e.Name())
		}
	}
	for _, name := range logs {
		said, ok, err := readLog(filepath.Join(dir, name))
		if err == nil && ok {
			err = of(said)
		}
		if err != nil {
			return err
		}
	}
	// The logs go first: what one says must be there.
	return removeFiles(dir, append(logs, files...))
}
