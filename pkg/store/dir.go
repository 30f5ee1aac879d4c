package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// The names in a store's directory. The first three are those of the OCI image
// layout, so that other tools recognise it; the index stays empty, for what the
// blobs belong to is said by documents.
const (
	layoutName  = "oci-layout"
	indexName   = "index.json"
	blobsName   = "blobs/sha256"
	ingestName  = "ingest"
	damagedName = "damaged"
	lockName    = "lock"

	layoutJSON = `{"imageLayoutVersion":"1.0.0"}`
	indexJSON  = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`
)

// Dir is a store in a directory. It is safe for concurrent use; other
// processes are kept out by a lock.
type Dir struct {
	*Intake
	path   string
	mode   Lock
	lock   *os.File // nil for a reader of a medium that nobody can write
	onWait func(holder string)
}

var _ Ingester = (*Dir)(nil)

// Option changes how OpenDir works.
type Option func(*Dir)

// OnWait has f called once when another process holds the store and OpenDir
// begins to wait. holder tells who it is, for people.
func OnWait(f func(holder string)) Option { return func(d *Dir) { d.onWait = f } }

// GroupLimit sets how many blobs, or bytes, are made durable together. One blob
// is one sync each.
func GroupLimit(blobs int, bytes int64) Option {
	return func(d *Dir) { d.groupBlobs, d.groupBytes = blobs, bytes }
}

// OpenDir opens the store at path, waiting until no other process holds it in a
// conflicting mode, or ctx ends. Exclusive creates what is missing; Shared
// reports fault.Damaged where there is no store. (It is not fault.NotFound: an
// image may be skipped for that, and a missing store has all images missing.)
// Kinds: fault.Damaged, Usage, Local, Cancelled.
func OpenDir(ctx context.Context, dir string, mode Lock, opts ...Option) (*Dir, error) {
	d := &Dir{path: dir, mode: mode}
	d.Intake = NewIntake(dir, files{d})
	for _, opt := range opts {
		opt(d)
	}
	if mode == Exclusive {
		if err := durable.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := d.refuseForeign(); err != nil {
			return nil, err
		}
	}
	if err := d.acquire(ctx); err != nil {
		return nil, err
	}
	prepare := d.checkLayout
	if mode == Exclusive {
		prepare = d.createLayout
	}
	if err := prepare(); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// refuseForeign keeps a store from settling between somebody's files, which a
// later prune, or the removal of the store, would endanger.
func (d *Dir) refuseForeign() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return durable.Fault(d.path, err)
	}
	ours := []string{layoutName, indexName, path.Dir(blobsName), ingestName, damagedName, lockName}
	for _, e := range entries {
		if e.Name() == layoutName {
			return nil
		}
	}
	for _, e := range entries {
		// What a killed first run left: directories and temporary files.
		if !slices.Contains(ours, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
			return fault.Newf(fault.Usage, d.path, "it is no store, and holds other files, such as %s", e.Name()).
				Hint("name an empty directory, or one that does not exist")
		}
	}
	return nil
}

func (d *Dir) createLayout() error {
	for _, name := range []string{blobsName, ingestName} {
		if err := durable.MkdirAll(d.file(name), 0o755); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, text string }{
		{indexName, indexJSON},
		{layoutName, layoutJSON}, // last: it says that the rest is there
	} {
		if _, err := os.Lstat(d.file(f.name)); err == nil {
			continue
		}
		if err := durable.WriteFile(d.file(f.name), []byte(f.text), 0o644); err != nil {
			return err
		}
	}
	// A process that died between renaming and syncing left names here that
	// are visible but might not survive a power loss.
	if err := durable.SyncDir(d.file(blobsName)); err != nil {
		return err
	}
	return d.checkLayout()
}

// file and its kin name files of the store.
func (d *Dir) file(name string) string          { return filepath.Join(d.path, filepath.FromSlash(name)) }
func (d *Dir) blobPath(dg oci.Digest) string    { return filepath.Join(d.file(blobsName), dg.Hex()) }
func (d *Dir) ingestPath(dg oci.Digest) string  { return filepath.Join(d.file(ingestName), dg.Hex()) }
func (d *Dir) damagedPath(dg oci.Digest) string { return filepath.Join(d.file(damagedName), dg.Hex()) }
func notFound(dg oci.Digest, cause string) error {
	return fault.Newf(fault.NotFound, string(dg), "%s", cause)
}

// Ingest implements Ingester.
func (d *Dir) Ingest(ctx context.Context, desc oci.Descriptor) (Ingest, error) {
	if err := d.writable(); err != nil {
		return nil, err // before waiting for anybody
	}
	return d.Intake.Ingest(ctx, desc)
}

// Close makes what was committed durable, as Sync does, and frees the lock.
// Ingests must be closed before. It is safe to call twice.
func (d *Dir) Close() error {
	defer d.release()
	return d.Intake.Close()
}

// FreeBytes tells how many bytes this user can still write to the store's file
// system; known is false where the system does not tell.
func (d *Dir) FreeBytes() (free int64, known bool) { return durable.Free(d.path) }

func (d *Dir) writable() error {
	if d.mode == Exclusive {
		return nil
	}
	return fault.Newf(fault.Local, d.path, "the store was opened for reading only")
}

func (d *Dir) checkLayout() error {
	text, err := readSmall(d.file(layoutName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Newf(fault.Damaged, d.path, "there is no content store here (no file %s)", layoutName).
			Hint("give the directory that fetch or unpack wrote")
	case err != nil:
		return durable.Fault(d.file(layoutName), err)
	}
	if err := parseLayout(text); err != nil {
		return fault.New(fault.Damaged, d.file(layoutName), err).
			Hint("remove this file and run fetch or unpack again if the directory is a store; choose another directory if it is not")
	}
	if info, err := os.Stat(d.file(blobsName)); err != nil || !info.IsDir() {
		return fault.Newf(fault.Damaged, d.path, "the content store has no directory %s", blobsName).
			Hint("run fetch or unpack into this directory again")
	}
	return nil
}

// readSmall reads at most 4 KiB.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4<<10))
}

// fileBlob is a file of the store opened for reading. It classifies errors.
type fileBlob struct {
	f    *os.File
	size int64
}

func (b *fileBlob) Size() int64  { return b.size }
func (b *fileBlob) Close() error { return durable.Fault(b.f.Name(), b.f.Close()) }

func (b *fileBlob) Read(p []byte) (int, error) {
	n, err := b.f.Read(p)
	return n, b.readFault(err)
}

func (b *fileBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.f.ReadAt(p, off)
	return n, b.readFault(err)
}

func (b *fileBlob) Seek(offset int64, whence int) (int64, error) {
	n, err := b.f.Seek(offset, whence)
	return n, b.readFault(err)
}

func (b *fileBlob) readFault(err error) error {
	if err == io.EOF {
		return err
	}
	return durable.Fault(b.f.Name(), err)
}

// parseLayout accepts the content of an oci-layout file of version 1.
func parseLayout(text []byte) error {
	var layout struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(text, &layout); err != nil {
		return fmt.Errorf("is not an OCI layout file: %w", err)
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return fmt.Errorf("is of OCI layout version %q, want 1.0.0", layout.Version)
	}
	return nil
}
