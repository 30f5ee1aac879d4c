package bundle

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Draft is the archives of some contents while they are filled in place: it knows
// where in its archives each blob belongs, and is a store.Ingester that receives
// it there, so that no byte is written twice. Blobs may come in any order. What a
// run has received stays when it fails, and the next one with the same contents
// goes on there, in the middle of a blob too. The archives are those of [Write],
// byte for byte.
//
// While it is filled, an archive's files are called NAME.ferry-partial, and a log
// beside them says what has been received. The sums of an archive follow behind what has
// arrived. On that way what an earlier run received is hashed once more, and with
// [Options.HashLater] what comes in this run, unless its receiver wants to know at once
// (see store.Ingest): Finish tells what is not as it should be.
type Draft struct {
	*store.Intake
	dir      string
	gost     bool
	later    bool // blobs may be hashed behind their arrival
	journal  *journal
	opened   *handles // of all files, so that they are not too many
	progress *lateProgress
	archives []*draftArchive // sorted by name
	spots    map[oci.Digest][]spot

	stop      context.CancelFunc
	following *errgroup.Group
	close     sync.Once
	unlock    func() error

	mu       sync.Mutex
	received map[oci.Digest]bool
	held     map[oci.Digest]int64 // bytes of blobs that are not whole
	uneven   map[oci.Digest]bool  // held in the first spot, perhaps not in others
	refused  map[oci.Digest]error // not what they should be; received in the next run
	failure  error                // of a sum, or too much is refused: nothing more is taken in
}

// spot is a place of a blob in an archive.
type spot struct {
	archive *draftArchive
	entry   int
}

func (s spot) planned() plannedEntry { return s.archive.plan.entries[s.entry] }

// OpenDraft begins, or goes on with, the archives of valid, normalized contents in
// dir. What earlier runs received for archives that have to be laid out otherwise
// now is moved into rescue, as far as these contents need it; a caller that brings
// the content of rescue into the Draft loses nothing. The caller calls Close, and
// Finish before when all is there.
//
// Kinds: as [Write], and fault.Local where the archives find no room.
func OpenDraft(ctx context.Context, dir string, contents *contract.Contents, rescue store.Ingester, opts Options) (*Draft, error) {
	plans, unlock, err := begin(dir, contents, opts)
	if err != nil {
		return nil, err
	}
	d := &Draft{
		dir: dir, gost: opts.Gost, later: opts.HashLater, opened: newWriters(dir), unlock: unlock, stop: func() {}, following: &errgroup.Group{},
		spots: map[oci.Digest][]spot{}, received: map[oci.Digest]bool{},
		held: map[oci.Digest]int64{}, uneven: map[oci.Digest]bool{}, refused: map[oci.Digest]error{},
		progress: &lateProgress{to: audible(opts.Progress)},
	}
	d.Intake = store.NewIntake(dir, draftPlaces{d})
	if err := d.open(ctx, plans, rescue, opts); err != nil {
		d.Close()
		return nil, err
	}
	d.follow(ctx)
	return d, nil
}

func (d *Draft) open(ctx context.Context, plans []*archivePlan, rescue store.Ingester, opts Options) (err error) {
	if d.journal, err = prepare(d.dir, plans, opts.Force); err != nil {
		return err
	}
	for _, p := range plans {
		a, err := d.find(ctx, p)
		if err != nil {
			return err
		}
		d.archives = append(d.archives, a)
		for i, e := range p.entries {
			if e.data == nil {
				d.spots[e.digest] = append(d.spots[e.digest], spot{a, i})
			}
		}
	}
	if err := d.clear(ctx, rescue); err != nil {
		return err
	}
	if err := d.layOut(); err != nil {
		return err
	}
	d.recall()
	if err := d.spread(ctx); err != nil {
		return err
	}
	for _, a := range d.archives {
		if !a.finished {
			a.begin()
		}
	}
	return nil
}

// follow has the sums of all archives follow behind what arrives, a few at a time.
func (d *Draft) follow(ctx context.Context) {
	ctx, d.stop = context.WithCancel(ctx)
	buffers := make(chan []byte, runtime.GOMAXPROCS(0))
	for range cap(buffers) {
		buffers <- make([]byte, copySize)
	}
	for _, a := range d.archives {
		if a.finished {
			continue
		}
		d.progress.total += a.plan.size
		d.following.Go(func() error {
			f := newFollower(a, d.gost, d.refuse)
			if err := f.run(ctx, buffers, d.progress); err != nil {
				d.fail(err)
				return err
			}
			a.result = f.sums.result()
			return nil
		})
	}
}

// lateProgress tells of the bytes in sums only when nothing but these is left to
// wait for: until then what is received counts, and the two do not add up.
type lateProgress struct {
	to    Progress
	total int64

	mu    sync.Mutex
	begun bool
	done  int64
}

func (p *lateProgress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.begun {
		p.to.AddBytes(n)
	}
}

func (p *lateProgress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = true
	p.to.SetTotal(p.total, 0)
	p.to.AddBytes(p.done)
}

// fail makes the Draft take nothing more in: without that sum it cannot end.
func (d *Draft) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = err
	}
}

// maxRefused is how many blobs may be other ones than they should before nothing more
// is taken in: who sends so many sends no others.
const maxRefused = 20

// refuse has a blob received again, by the next run: it is not what it should be, as
// cause tells. All others are still of use.
func (d *Draft) refuse(digest oci.Digest, cause error) error {
	d.mu.Lock()
	_, known := d.refused[digest]
	if !known {
		d.refused[digest] = cause
	}
	delete(d.received, digest)
	if len(d.refused) == maxRefused && d.failure == nil {
		d.failure = fault.Newf(fault.Protocol, d.dir, "%d blobs are not what their digests say; nothing more is received", maxRefused)
	}
	d.mu.Unlock()
	if known { // in another place
		return nil
	}
	return d.forget(digest)
}

// Refused is why blobs that came, or that an earlier run received, were found to be
// other ones than they should be, sorted by digest; nil when none was yet.
func (d *Draft) Refused() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var causes []error
	for _, digest := range slices.Sorted(maps.Keys(d.refused)) {
		causes = append(causes, d.refused[digest])
	}
	return errors.Join(causes...)
}

// find looks for what an earlier run left of an archive.
func (d *Draft) find(ctx context.Context, p *archivePlan) (*draftArchive, error) {
	a := newDraftArchive(d.opened, p)
	finished, ok, err := d.journal.finished(ctx, p, d.gost, silent{}, func(int64) {})
	if err != nil {
		return nil, err
	}
	if ok {
		a.finished, a.result = true, finished
		a.files, err = newParts(d.opened, p.files)
		return a, err
	}
	said, ok, err := readLog(a.logPath())
	if err != nil || !ok || !said.equal(layoutFor(p)) {
		return a, err
	}
	files, err := newParts(d.opened, d.named(p.files))
	switch {
	case fault.KindOf(err) == fault.Damaged: // gone: it is laid out anew
		return a, nil
	case err != nil:
		return nil, err
	case !files.sized(p.files):
		return a, nil
	}
	a.files, a.said = files, said
	return a, nil
}

// named gives files the names that they have now: a run that was killed while it
// named them has named some.
func (d *Draft) named(files []contract.File) []contract.File {
	named := slices.Clone(files)
	for i, f := range files {
		if _, err := os.Lstat(filepath.Join(d.dir, partialName(f.Name))); err == nil {
			named[i].Name = partialName(f.Name)
		}
	}
	return named
}

// clear removes what earlier runs left that is of no use in its place. What these
// contents need of it goes to rescue before.
func (d *Draft) clear(ctx context.Context, rescue store.Ingester) error {
	kept := map[string]bool{}
	for _, a := range d.archives {
		if a.said.MadeFrom.Valid() {
			kept[a.plan.name] = true
		}
	}
	return abandon(d.dir, kept, func(said progressOf) error {
		if rescue == nil {
			return nil
		}
		return d.salvage(ctx, said, rescue)
	})
}

// salvage moves the blobs that an abandoned draft has, and these contents need,
// into rescue. What is damaged is left: it is received again.
func (d *Draft) salvage(ctx context.Context, said progressOf, rescue store.Ingester) error {
	opened := newHandles(d.dir)
	defer opened.Close()
	files, err := newParts(opened, partial(said.Files))
	if fault.KindOf(err) == fault.Damaged {
		return nil // gone
	}
	if err != nil {
		return err
	}
	// What was all there and not yet durable is looked at too: it is hashed.
	maps.Copy(said.held, said.received)
	for digest, at := range said.held {
		spots := d.spots[digest]
		if len(spots) == 0 || spots[0].planned().size != at.size || at.offset > files.size-at.size {
			continue
		}
		desc := oci.Descriptor{Digest: digest, Size: at.size}
		if err := store.Put(ctx, rescue, desc, rangeOf(files, at.offset, at.size)); err != nil && fault.KindOf(err) != fault.Protocol {
			return err
		}
	}
	return rescue.Sync(ctx)
}

// layOut makes the archives that are not there yet: everything but the blobs.
func (d *Draft) layOut() error {
	var fresh []*draftArchive
	var sizes []int64
	for _, a := range d.archives {
		if a.files == nil {
			fresh = append(fresh, a)
			sizes = append(sizes, a.plan.fileSizes()...)
		}
	}
	if err := durable.Fits(d.dir, sizes, 0, hintBundleSpace); err != nil {
		return err
	}
	for _, a := range fresh {
		if err := a.layOut(); err != nil {
			return err
		}
	}
	for _, a := range d.archives {
		if err := a.goOn(); err != nil {
			return err
		}
	}
	return nil
}

// recall takes over what earlier runs received.
func (d *Draft) recall() {
	for digest, spots := range d.spots {
		open := openSpots(spots)
		if len(open) == 0 {
			d.received[digest] = true
			continue
		}
		first := open[0]
		if n := first.archive.said.held[digest].size; n > 0 {
			d.held[digest], d.uneven[digest] = n, len(open) > 1
		}
	}
}

// openSpots are those that are still to be filled, in archives that an earlier run
// has neither finished nor received them in.
func openSpots(spots []spot) []spot {
	return slices.DeleteFunc(slices.Clone(spots), spot.filled)
}

// filled reports whether an earlier run has filled the spot.
func (s spot) filled() bool {
	if s.archive.finished {
		return true
	}
	_, ok := s.archive.said.received[s.planned().digest]
	return ok
}

// spread copies blobs that an earlier run received in one archive, and another
// archive needs now, on this disk.
func (d *Draft) spread(ctx context.Context) error {
	for digest, spots := range d.spots {
		i := slices.IndexFunc(spots, spot.filled)
		if i < 0 || d.received[digest] {
			continue
		}
		from, e := spots[i].archive.files, spots[i].planned()
		err := store.Put(ctx, d.Intake, oci.Descriptor{Digest: digest, Size: e.size}, rangeOf(from, e.offset, e.size))
		if fault.KindOf(err) == fault.Protocol { // damaged there: it is received again
			err = d.forget(digest)
			for _, s := range spots {
				delete(s.archive.said.received, digest)
			}
		}
		if err != nil {
			return err
		}
	}
	return d.Sync(ctx)
}

// Finish gives the archives their names when everything has been received, and
// returns their files, sorted by name. The directory is no finished bundle until
// [Finish]. Kinds: fault.Damaged where something is missing, fault.Protocol where what
// came is not what it should be, and fault.Transient where what an earlier run received
// is damaged, both of which the next run receives again, Local, Cancelled.
func (d *Draft) Finish(ctx context.Context) ([]contract.ArchiveFiles, error) {
	if err := d.Sync(ctx); err != nil {
		return nil, err
	}
	for digest := range d.spots {
		if !d.has(digest) && !d.isRefused(digest) {
			return nil, fault.Newf(fault.Damaged, string(digest), "the archives lack it")
		}
	}
	d.progress.begin()
	if err := errors.Join(d.following.Wait(), d.Refused()); err != nil {
		return nil, err
	}
	for _, a := range d.archives {
		if err := a.files.Sync(); err != nil {
			return nil, err
		}
	}
	d.opened.Close() // not every system renames open files
	list := make([]contract.ArchiveFiles, len(d.archives))
	for i, a := range d.archives {
		if err := d.finish(a); err != nil {
			return nil, err
		}
		list[i] = a.result
	}
	return list, nil
}

// finish names the files of an archive. The journal comes last: what it calls
// finished is whole.
func (d *Draft) finish(a *draftArchive) error {
	if err := a.name(); err != nil {
		return err
	}
	if err := putGostSums(d.dir, a.result); err != nil {
		return err
	}
	if err := d.journal.set(a.plan.name, record{MadeFrom: a.plan.madeFrom, Archive: a.result}); err != nil {
		return err
	}
	a.finished = true
	return a.dropLog()
}

// Close keeps what there is for the next run. It is safe to call twice.
func (d *Draft) Close() (err error) {
	d.close.Do(func() {
		err = d.Intake.Close()
		d.stop()
		_ = d.following.Wait() // Finish tells
		for _, a := range d.archives {
			if a.log != nil {
				a.log.Close()
			}
		}
		err = errors.Join(err, d.opened.Close(), d.unlock())
	})
	return err
}

// arrangeWindow is how far, in bytes of an archive, blobs may come out of their
// order: its sum cannot follow behind what is missing.
const arrangeWindow = 64 << 20

// Arrange sorts parts of the contents into the order in which they should come:
// archive by archive, the largest first, so that sums follow close behind; and in
// each stretch of an archive the largest blob first, so that many connections end
// at the same time.
func (d *Draft) Arrange(parts []contract.Part) {
	archives := slices.SortedStableFunc(slices.Values(d.archives), func(a, b *draftArchive) int {
		return cmp.Compare(b.plan.size, a.plan.size)
	})
	turn := map[*draftArchive]int64{}
	passed := int64(0)
	for _, a := range archives {
		turn[a] = passed
		passed += a.plan.size/arrangeWindow + 1
	}
	window := make(map[oci.Digest]int64, len(parts))
	for _, p := range parts {
		if spots := d.spots[p.Digest]; len(spots) > 0 {
			first := slices.MinFunc(spots, func(a, b spot) int { return cmp.Compare(turn[a.archive], turn[b.archive]) })
			window[p.Digest] = turn[first.archive] + first.planned().offset/arrangeWindow
		}
	}
	slices.SortStableFunc(parts, func(a, b contract.Part) int {
		return cmp.Or(cmp.Compare(window[a.Digest], window[b.Digest]), cmp.Compare(b.Size, a.Size))
	})
}
