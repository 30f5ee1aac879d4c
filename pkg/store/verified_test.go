package store_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

// memoryBlob is a blob that may not be what it is taken for.
type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error { return nil }

func blobOf(content []byte) store.Blob { return memoryBlob{bytes.NewReader(content)} }

// brokenBlob fails to read from byte 10 on.
type brokenBlob struct{ store.Blob }

var errMedium = errors.New("medium error")

func (b brokenBlob) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 10 {
		return 0, errMedium
	}
	return b.Blob.ReadAt(p, off)
}

// shrunkBlob has lost its end since it was opened.
type shrunkBlob struct {
	store.Blob
	size int64
}

func (b shrunkBlob) Size() int64 { return b.size }

func describe(content []byte) oci.Descriptor {
	return oci.Descriptor{Digest: oci.DigestOf(content), Size: int64(len(content))}
}

func TestVerifiedIsAReader(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 200_000} {
		content := storetest.Content(size)
		if err := iotest.TestReader(store.Verified(blobOf(content), describe(content)), content); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestVerifiedRefuses(t *testing.T) {
	content := storetest.Content(100_000)
	flipped := bytes.Clone(content)
	flipped[0] ^= 1
	for _, tc := range []struct {
		name string
		blob store.Blob
		want error
	}{
		{"altered", blobOf(flipped), fault.Damaged},
		{"cut", blobOf(content[:99_999]), fault.Damaged},
		{"longer", blobOf(append(bytes.Clone(content), 0)), fault.Damaged},
		{"empty", blobOf(nil), fault.Damaged},
		{"cut after it was opened", shrunkBlob{blobOf(content[:50_000]), 100_000}, fault.Damaged},
		{"unreadable", brokenBlob{blobOf(content)}, errMedium},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := store.Verified(tc.blob, describe(content))
			for range 2 { // a retry meets the same
				got, err := io.ReadAll(r)
				if !errors.Is(err, tc.want) {
					t.Errorf("error is %v, want %v", err, tc.want)
				}
				if len(got) >= len(content) {
					t.Errorf("%d of %d bytes were given out before the error", len(got), len(content))
				}
				if _, again := r.Read(make([]byte, 1)); !errors.Is(again, tc.want) {
					t.Errorf("the error does not stay: %v", again)
				}
				if _, err := r.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestVerifiedEmptyBlobOfAnotherDigest(t *testing.T) {
	r := store.Verified(blobOf(nil), oci.Descriptor{Digest: oci.DigestOf([]byte("x"))})
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, fault.Damaged) {
		t.Errorf("error is %v, want damaged", err)
	}
}

func TestVerifiedSeekOutside(t *testing.T) {
	r := store.Verified(blobOf([]byte("abc")), describe([]byte("abc")))
	for _, off := range []int64{-1, 4} {
		if _, err := r.Seek(off, io.SeekStart); err == nil {
			t.Errorf("seek to %d of 3 succeeds", off)
		}
	}
}

// FuzzVerified reads in odd steps with seeks between. All bytes come out only
// when they are right.
func FuzzVerified(f *testing.F) {
	f.Add([]byte("content"), []byte("content"), 3, int64(2))
	f.Add([]byte("content"), []byte("contenT"), 7, int64(0))
	f.Add([]byte(""), []byte(""), 1, int64(0))
	f.Fuzz(func(t *testing.T, content, stored []byte, step int, seek int64) {
		r := store.Verified(blobOf(stored), describe(content))
		_, _ = r.Read(make([]byte, max(1, step%64)))
		from, err := r.Seek(seek, io.SeekStart)
		if (err == nil) != (seek >= 0 && seek <= int64(len(content))) {
			t.Fatalf("Seek(%d) of %d: %v", seek, len(content), err)
		}
		if err != nil {
			return
		}
		got, err := io.ReadAll(iotest.OneByteReader(r))
		if (err == nil) != bytes.Equal(content, stored) {
			t.Fatalf("reading %q as %q: %v", stored, content, err)
		}
		if err == nil && !bytes.Equal(got, content[from:]) {
			t.Errorf("read %q, want %q", got, content[from:])
		}
	})
}
