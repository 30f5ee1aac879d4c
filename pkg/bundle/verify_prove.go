package bundle

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/sha256pair"
)

// proveAll proves one archive after the other, for media are slow where they are
// read at two places. With sums it proves two at a time: a sum takes one core
// longer than most media take.
func (v *verifier) proveAll(ctx context.Context, sums []gostSums) error {
	atATime := 1
	if slices.ContainsFunc(sums, func(s gostSums) bool { return len(s) > 0 }) {
		atATime = 2
	}
	free := make(chan *buffers, atATime)
	for range atATime {
		free <- newBuffers(readAheadCount/atATime, v.doc.Archives)
	}
	return nameAll(ctx, len(v.doc.Archives), atATime, func(ctx context.Context, i int) error {
		mine := <-free
		defer func() { free <- mine }()
		return v.proveArchive(ctx, v.doc.Archives[i], sums[i], mine)
	})
}

// proveArchive proves an archive by its plan, where it has one.
func (v *verifier) proveArchive(ctx context.Context, archive contract.ArchiveFiles, sums gostSums, with *buffers) error {
	plan := v.planOf(archive)
	if plan == nil {
		return v.examine(ctx, archive, sums)
	}
	p := &archiveProof{v: v, plan: plan, sequence: &sequence{v: v, files: archive.Files, buffers: with}}
	err := p.run(ctx, sums)
	return v.lookAgain(ctx, archive, sums, p.sequence.read, err)
}

// archiveProof proves one archive by its plan.
type archiveProof struct {
	v        *verifier
	plan     *archivePlan
	sequence *sequence
	jobs     chan job
	sums     sha256pair.Group
	room     *semaphore.Weighted // bytes for manifests: they are kept to be parsed
	stop     context.CancelFunc

	mu    sync.Mutex
	found *difference
}

// job is a blob to be hashed, as its pieces come. A manifest is one that is also
// to be compared with the document.
type job struct {
	blob     *plannedEntry
	manifest *contract.Manifest
	pieces   chan piece
}

// run reads the archive while several goroutines hash it. It returns a difference
// where the archive is not what was planned.
func (p *archiveProof) run(ctx context.Context, sums gostSums) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	p.stop, p.jobs, p.room = stop, make(chan job, readAheadCount), semaphore.NewWeighted(oci.ManifestLimit)
	if len(sums) > 0 {
		p.sequence.gost = newGostHasher(reading)
	}
	var hashing sync.WaitGroup
	for range hashers() {
		hashing.Go(p.hash)
	}
	err := p.walk(reading)
	if d := (*difference)(nil); errors.As(err, &d) {
		p.differs(d)
	}
	close(p.jobs)
	p.sequence.close()
	hashing.Wait()
	var files []contract.File
	if p.sequence.gost != nil {
		files = p.sequence.gost.finish()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case p.found != nil:
		return p.found
	case err != nil:
		return err
	}
	return sums.compare(files, true)
}

// hashers is how many blobs are hashed at a time: one a core, two where a core does two
// for less than twice the price.
func hashers() int {
	if sha256pair.Fast() {
		return 2 * runtime.GOMAXPROCS(0)
	}
	return runtime.GOMAXPROCS(0)
}

// differs keeps the first place that differs, one of bytes before all others, and
// ends the reading.
func (p *archiveProof) differs(d *difference) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil || p.found.opinion && !d.opinion || p.found.opinion == d.opinion && d.offset < p.found.offset {
		p.found = d
	}
	p.stop()
}

// walk reads the archive to its end, compares what is known, and gives blobs to
// those who hash them.
func (p *archiveProof) walk(ctx context.Context) error {
	for r, err := range p.plan.regions() {
		switch {
		case err != nil:
		case r.blob != nil:
			err = p.send(ctx, r.blob)
		default:
			err = p.compare(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return p.sequence.end(ctx)
}

func (p *archiveProof) compare(ctx context.Context, r region) error {
	for known := r.known; len(known) > 0; {
		data, _, err := p.sequence.next(ctx, int64(len(known)))
		if err != nil {
			return err
		}
		if !bytes.Equal(data, known[:len(data)]) {
			return &difference{offset: r.offset, layout: &r}
		}
		known = known[len(data):]
	}
	return nil
}

// send makes a job of a blob. Jobs begin in the order of the archive, so that the
// one that lacks pieces never keeps those waiting that hold all buffers.
func (p *archiveProof) send(ctx context.Context, blob *plannedEntry) error {
	m := p.v.manifests.unseen(blob.digest)
	if m != nil {
		if err := p.room.Acquire(ctx, m.Size); err != nil {
			return err
		}
	}
	pieces := make(chan piece, min(blob.size/copySize+2, readAheadCount))
	defer close(pieces)
	p.jobs <- job{blob, m, pieces}
	for left := blob.size; left > 0; {
		data, buf, err := p.sequence.next(ctx, left)
		if err != nil {
			return err
		}
		pieces <- buf.share(data)
		left -= int64(len(data))
	}
	return nil
}

func (p *archiveProof) hash() {
	sum := p.sums.New()
	for j := range p.jobs {
		if d := p.check(j, sum); d != nil {
			p.differs(d)
		}
	}
}

// check takes all pieces of a blob, and drops those of one that the walk gave up.
func (p *archiveProof) check(j job, sum hash.Hash) *difference {
	sum.Reset()
	var body []byte
	if j.manifest != nil {
		body = make([]byte, 0, j.manifest.Size)
		defer p.room.Release(j.manifest.Size)
	}
	var size int64
	for piece := range j.pieces {
		sum.Write(piece.data)
		if j.manifest != nil {
			body = append(body, piece.data...)
		}
		size += int64(len(piece.data))
		piece.done()
	}
	switch {
	case size < j.blob.size:
		return nil
	case oci.DigestFromSum(sum.Sum(nil)) != j.blob.digest:
		return &difference{offset: j.blob.offset}
	case j.manifest != nil && !p.v.manifests.agrees(j.manifest, body):
		return &difference{offset: j.blob.offset, opinion: true}
	}
	return nil
}

// lookAgain answers for an archive that the proof found to be different, after it
// had read so many bytes; any other outcome of the proof stands.
func (v *verifier) lookAgain(ctx context.Context, archive contract.ArchiveFiles, sums gostSums, read int64, proof error) error {
	var d *difference
	if !errors.As(proof, &d) {
		return proof
	}
	v.told.expect(read)
	if err := v.examine(ctx, archive, sums); err != nil || d.opinion {
		return err
	}
	if d.layout != nil {
		if other, err := v.laidOutOtherwise(archive, d.layout); err != nil || other {
			return err
		}
	}
	return fault.Newf(fault.Damaged, fileAt(archive.Files, d.offset), "what begins at byte %d of the archive was read twice, and was right only the second time", d.offset).
		Hint("the medium or its drive is failing, or somebody is writing to the files; copy the bundle to another disk and verify it there")
}

// laidOutOtherwise tells whether an archive that is right has other bytes at a
// place, now too, than this version writes.
func (v *verifier) laidOutOtherwise(archive contract.ArchiveFiles, r *region) (bool, error) {
	opened := newHandles(v.dir)
	defer opened.Close()
	p, err := newParts(opened, archive.Files)
	if err != nil {
		return false, err
	}
	have := make([]byte, len(r.known))
	_, err = p.ReadAt(have, r.offset)
	return !bytes.Equal(have, r.known), err
}

// fileAt names the file that holds the byte at offset, the last one beyond the end.
func fileAt(files []contract.File, offset int64) string {
	for _, f := range files[:len(files)-1] {
		if offset < f.Size {
			return f.Name
		}
		offset -= f.Size
	}
	return files[len(files)-1].Name
}
