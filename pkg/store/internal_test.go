package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

func commit(t *testing.T, d *Dir, text string) oci.Digest {
	t.Helper()
	desc := oci.Descriptor{Digest: oci.DigestOf([]byte(text)), Size: int64(len(text))}
	ing, err := d.Ingest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer ing.Close()
	if _, err := ing.CopyFrom(t.Context(), 0, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := ing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

// A sync that failed once has lost bytes, though a second one would succeed.
func TestFailedSyncStays(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDir(t.Context(), dir, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	lost, kept := commit(t, d, "lost"), commit(t, d, "kept")
	d.queue[0].Place.(*filePlace).f.Close() // syncing it fails now
	first := d.Sync(t.Context())
	if fault.KindOf(first) != fault.Local {
		t.Fatalf("Sync is %v, want local disk", first)
	}
	if _, err := d.Stat(lost); !errors.Is(err, fault.NotFound) {
		t.Errorf("the blob that failed: %v, want not found", err)
	}
	if _, err := d.Stat(kept); err != nil {
		t.Errorf("the other blob of the group: %v", err)
	}
	if err := d.Sync(t.Context()); !errors.Is(err, first) {
		t.Errorf("the next Sync is %v, want the same failure", err)
	}
	if _, err := d.Ingest(t.Context(), oci.Descriptor{Digest: oci.DigestOf(nil)}); !errors.Is(err, first) {
		t.Errorf("the next Ingest is %v, want the same failure", err)
	}
	if _, err := os.Lstat(d.ingestPath(lost)); err == nil {
		t.Error("bytes that the kernel dropped lie ready to be believed")
	}
	if err := d.Close(); !errors.Is(err, first) {
		t.Errorf("Close is %v, want the same failure", err)
	}
	again, err := OpenDir(t.Context(), dir, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	commit(t, again, "lost")
	if err := again.Sync(t.Context()); err != nil {
		t.Errorf("the next process: %v", err)
	}
}

func TestFailedRenameStaysHidden(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	digest := oci.DigestOf([]byte("text"))
	if err := os.MkdirAll(d.blobPath(digest), 0o755); err != nil {
		t.Fatal(err)
	}
	commit(t, d, "text")
	if err := d.Sync(t.Context()); fault.KindOf(err) != fault.Local {
		t.Errorf("Sync is %v, want local disk", err)
	}
	if _, err := d.Stat(digest); !errors.Is(err, fault.NotFound) {
		t.Errorf("Stat is %v, want not found", err)
	}
}

// The files that wait for a sync are open: their number has a bound.
func TestGroupsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		name  string
		limit Option
	}{
		{"by count", GroupLimit(4, 1<<40)},
		{"by bytes", GroupLimit(1000, 8)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := OpenDir(t.Context(), t.TempDir(), Exclusive, tc.limit)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			for i, text := range []string{"b0", "b1", "b2", "b3", "b4"} {
				digest := commit(t, d, text)
				_, err := d.Stat(digest)
				if full := i == 3; full != (err == nil) || full != (len(d.queue) == 0) {
					t.Errorf("blob %d: Stat is %v and %d are queued; want a sync: %v", i, err, len(d.queue), full)
				}
			}
		})
	}
}

func TestClosedDirTakesNothing(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Ingest(t.Context(), oci.Descriptor{Digest: oci.DigestOf(nil)}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Ingest is %v, want closed: the lock is gone", err)
	}
}

func FuzzParseLayout(f *testing.F) {
	f.Add([]byte(layoutJSON))
	f.Add([]byte(`{"imageLayoutVersion":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if parseLayout(text) == nil && (!json.Valid(text) || !bytes.Contains(text, []byte("1"))) {
			t.Errorf("%q passes", text)
		}
	})
}

// FuzzHolderName: what a lock file says must not steer the terminal.
func FuzzHolderName(f *testing.F) {
	f.Add([]byte("process 1 on host\n"))
	f.Add([]byte("\x1b[2Jgone"))
	f.Add([]byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		name := holderName(text)
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q becomes %q", text, name)
		}
	})
}
