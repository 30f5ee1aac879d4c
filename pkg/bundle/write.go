package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Options are the choices of Write.
type Options struct {
	// ChunkSize is the largest size of a file in bytes; 0 for no chunks.
	ChunkSize int64
	// Gost adds a file with the GOST sum to each file (S6.7).
	Gost bool
	// Force lets Write remove archives of an earlier bundle that stand in
	// the way, and overwrite archives of the planned names.
	Force bool
	// Parallel is how many archives are written at a time; 0 means 2.
	Parallel int
	// Proven are archives that lie in the directory already and were hashed
	// there, as a Draft does: where they are what Write would make, they are
	// kept and not read again.
	Proven []contract.ArchiveFiles
	// HashLater lets a Draft hash blobs together with their archives, not when they
	// come, where their receiver agrees. It costs less where sha256pair.Fast says so.
	HashLater bool
	// Progress is told about the bytes of the archives; it may be nil.
	Progress Progress
	// Seal, when not nil, is called with the archives once all is written, while
	// others are still kept out of the directory: for [Finish] and [WriteSignature].
	// Layouts have no archives.
	Seal func(archives []contract.ArchiveFiles) error
}

// Write makes the archives of valid, normalized contents in dir and returns
// their files, sorted by name. The same contents give the same bytes. Each blob
// is hashed on its way; a file has its final name only when it is whole. After
// a failure or a kill the same call goes on: archives that are finished are
// hashed again, and kept. The directory is no finished bundle until [Finish].
//
// Kinds: fault.Usage when other archives are in dir, fault.Damaged when the
// store lacks a blob or has a wrong one, fault.Local, fault.Cancelled.
func Write(ctx context.Context, dir string, contents *contract.Contents, content store.Reader, opts Options) ([]contract.ArchiveFiles, error) {
	plans, unlock, err := begin(dir, contents, opts)
	if err != nil {
		return nil, err
	}
	defer unlock()
	journal, err := prepare(dir, plans, opts.Force)
	if err != nil {
		return nil, err
	}
	// What a Draft left here the content has too, or nobody needs.
	if err := abandon(dir, nil, func(progressOf) error { return nil }); err != nil {
		return nil, err
	}
	w := &writer{dir: dir, content: content, gost: opts.Gost, proven: opts.Proven, journal: journal, progress: audible(opts.Progress)}
	if err := w.fits(plans); err != nil {
		return nil, err
	}
	archives, err := w.writeAll(ctx, plans, opts.Parallel)
	if fault.CauseOf(err) == fault.DiskFull {
		// Somebody else has filled it meanwhile: how much is missing now?
		err = errors.Join(err, w.fits(plans))
	}
	if err != nil {
		return nil, err
	}
	return archives, opts.seal(archives)
}

func (o Options) seal(archives []contract.ArchiveFiles) error {
	if o.Seal == nil {
		return nil
	}
	return o.Seal(archives)
}

const hintBundleSpace = "free some space, or choose another disk for the bundle; what is finished is kept"

// fits tells whether the disk takes what is still to be written. Files that will be
// replaced, and what killed runs left, do not count: their room comes back.
func (w *writer) fits(plans []*archivePlan) error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return durable.Fault(w.dir, err)
	}
	have := map[string]int64{}
	var reclaimed int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // gone, or none of ours
		}
		have[e.Name()] = info.Size()
		if durable.IsUnfinished(e.Name()) {
			reclaimed += info.Size()
		}
	}
	var sizes []int64
	for _, p := range plans {
		if w.journal.seemsFinished(p, have) {
			continue
		}
		sizes = append(sizes, p.fileSizes()...)
		for _, f := range p.files {
			reclaimed += have[f.Name]
		}
	}
	return durable.Fits(w.dir, sizes, reclaimed, hintBundleSpace)
}

// begin plans the archives, makes dir, and keeps others out of it until unlock.
func begin(dir string, contents *contract.Contents, opts Options) (plans []*archivePlan, unlock func() error, err error) {
	if plans, err = planArchives(contents, opts.ChunkSize); err != nil {
		return nil, nil, err
	}
	unlock, err = lock(dir)
	return plans, unlock, err
}

// lock makes dir and keeps two runs from writing into it (B18), until unlock. It ends
// with the process. Kinds: fault.Usage when another run holds it, fault.Local.
func lock(dir string) (unlock func() error, err error) {
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, durable.Fault(dir, err)
	}
	locked, err := durable.TryLock(f, true)
	if err == nil && !locked {
		f.Close()
		return nil, fault.Newf(fault.Usage, dir, "another run is writing into the directory").Hint("wait until it has finished")
	}
	return f.Close, nil // a file system without locks has to do without
}

type writer struct {
	dir      string
	content  store.Reader
	gost     bool
	proven   []contract.ArchiveFiles
	journal  *journal
	progress Progress
	total    atomic.Int64 // bytes to write, and to read again
}

func (w *writer) writeAll(ctx context.Context, plans []*archivePlan, parallel int) ([]contract.ArchiveFiles, error) {
	if parallel <= 0 {
		parallel = 2
	}
	for _, p := range plans {
		w.addTotal(p.size)
	}
	archives := make([]contract.ArchiveFiles, len(plans))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, p := range plans {
		group.Go(func() (err error) {
			archives[i], err = w.writeOrKeep(ctx, p)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return archives, nil
}

func (w *writer) addTotal(bytes int64) { w.progress.SetTotal(w.total.Add(bytes), 0) }

func (w *writer) writeOrKeep(ctx context.Context, p *archivePlan) (contract.ArchiveFiles, error) {
	archive, finished, err := w.keepProven(p)
	if err == nil && !finished {
		archive, finished, err = w.journal.finished(ctx, p, w.gost, w.progress, w.addTotal)
	}
	if err == nil && !finished {
		archive, err = w.write(ctx, p)
	}
	if err != nil {
		return archive, err
	}
	// Before the journal: what it calls finished is whole.
	if err := putGostSums(w.dir, archive); err != nil {
		return archive, err
	}
	return archive, w.journal.set(p.name, record{MadeFrom: p.madeFrom, Archive: archive})
}

// keepProven returns the archive if it was proven to be the planned one, by its
// journal's word, and its files have not changed their sizes since.
func (w *writer) keepProven(p *archivePlan) (contract.ArchiveFiles, bool, error) {
	i := slices.IndexFunc(w.proven, func(a contract.ArchiveFiles) bool { return a.Name == p.name })
	if i < 0 || !w.journal.knows(p, w.proven[i]) {
		return contract.ArchiveFiles{}, false, nil
	}
	archive := w.proven[i]
	archive.Files = slices.Clone(archive.Files)
	for i := range archive.Files {
		f := &archive.Files[i]
		if w.gost && f.Gost == "" {
			return archive, false, nil
		}
		if !w.gost {
			f.Gost = ""
		}
		info, err := statRegular(w.dir, f.Name)
		if err != nil && !errors.Is(err, fault.Damaged) {
			return archive, false, err
		}
		if err != nil || info.Size() != f.Size {
			return archive, false, nil
		}
	}
	w.progress.AddBytes(p.size)
	return archive, true, nil
}

// write writes one archive.
func (w *writer) write(ctx context.Context, p *archivePlan) (contract.ArchiveFiles, error) {
	out := newSplitter(w.dir, p, w.gost)
	defer out.Close()
	buf := make([]byte, min(copySize, p.size))
	for _, e := range p.entries {
		if err := w.writeEntry(ctx, out, e, buf); err != nil {
			return contract.ArchiveFiles{}, err
		}
	}
	if _, err := out.Write(zeros[:trailerSize]); err != nil {
		return contract.ArchiveFiles{}, err
	}
	w.progress.AddBytes(trailerSize)
	return out.Finish()
}

// zeros fill blocks up, and end archives.
var zeros [trailerSize]byte

func (w *writer) writeEntry(ctx context.Context, out *splitter, e plannedEntry, buf []byte) error {
	front, err := e.front()
	if err != nil {
		return err
	}
	if _, err := out.Write(front); err != nil {
		return err
	}
	if err := w.writeContent(ctx, out, e, buf); err != nil {
		return err
	}
	padding := padded(e.size) - e.size
	if _, err := out.Write(zeros[:padding]); err != nil {
		return err
	}
	w.progress.AddBytes(int64(len(front)) + padding)
	return nil
}

func (w *writer) writeContent(ctx context.Context, out *splitter, e plannedEntry, buf []byte) error {
	if e.data != nil {
		w.progress.AddBytes(e.size)
		_, err := out.Write(e.data)
		return err
	}
	blob, err := openContent(w.content, e.digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	if size := blob.Size(); size != e.size {
		return store.Damaged(e.digest, fmt.Errorf("has %d bytes, want %d", size, e.size))
	}
	out.blob = sha256.New()
	defer func() { out.blob = nil }()
	if err := copyHeard(ctx, out, io.NewSectionReader(blob, 0, e.size), buf, w.progress); err != nil {
		return err
	}
	if got := oci.DigestFromSum(out.blob.Sum(nil)); got != e.digest {
		return store.Damaged(e.digest, store.HasDigest(got))
	}
	return nil
}

// openContent opens a blob that must be there.
func openContent(content store.Reader, d oci.Digest) (store.Blob, error) {
	blob, err := content.Open(d)
	if errors.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Damaged, string(d), err).Hint("run fetch again, it completes the store")
	}
	return blob, err
}

// splitter writes an archive into its files and hashes them. The first file
// gets its name last: a reader that knows no bundle.json begins with it, and so
// never finds a set of chunks that is not complete.
type splitter struct {
	dir   string
	files []contract.File // still to be written, by name and size
	sums  *sums
	blob  hash.Hash // takes in what is written, too, unless it is nil
	room  int64     // bytes left in current

	current, first *durable.File
}

func newSplitter(dir string, p *archivePlan, gost bool) *splitter {
	return &splitter{dir: dir, files: p.files, sums: newSums(p.name, len(p.files) > 1, gost)}
}

// Write is io.Writer. Kinds: fault.Local.
func (s *splitter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if s.room == 0 {
			if err := s.next(); err != nil {
				return done, err
			}
		}
		n := min(int64(len(p)-done), s.room)
		piece := p[done : done+int(n)]
		if err := s.writePiece(piece); err != nil {
			return done, err
		}
		s.room -= n
		done += int(n)
	}
	return done, nil
}

// writePiece hashes and writes at the same time: hashing would else cost as much as
// the disk.
func (s *splitter) writePiece(piece []byte) error {
	var hashing sync.WaitGroup
	hashing.Go(func() { s.sums.add(piece, s.blob) })
	_, err := s.current.Write(piece)
	hashing.Wait()
	return err
}

// next begins the next file.
func (s *splitter) next() error {
	if err := s.endFile(); err != nil {
		return err
	}
	if len(s.files) == 0 {
		return errors.New("the archive is larger than planned")
	}
	f, err := durable.Create(filepath.Join(s.dir, s.files[0].Name))
	if err != nil {
		return err
	}
	s.current, s.room = f, s.files[0].Size
	return nil
}

func (s *splitter) endFile() error {
	if s.current == nil {
		return nil
	}
	s.sums.endFile(s.files[0].Name)
	s.files = s.files[1:]
	f := s.current
	s.current = nil
	if s.first == nil {
		s.first = f
		return nil
	}
	return f.Commit()
}

// Finish makes the archive durable and visible.
func (s *splitter) Finish() (contract.ArchiveFiles, error) {
	if s.room != 0 || len(s.files) != 1 {
		return contract.ArchiveFiles{}, errors.New("the archive is smaller than planned")
	}
	if err := s.endFile(); err != nil {
		return contract.ArchiveFiles{}, err
	}
	return s.sums.result(), s.first.Commit()
}

// Close drops what was not finished.
func (s *splitter) Close() {
	for _, f := range []*durable.File{s.current, s.first} {
		if f != nil {
			f.Close()
		}
	}
}
