package store_test

import (
	"bytes"
	"testing"

	"ferry/pkg/oci"
	"ferry/pkg/store"
	"ferry/pkg/store/storetest"
)

func openDir(t testing.TB, path string, mode store.Lock, opts ...store.Option) *store.Dir {
	t.Helper()
	d, err := store.OpenDir(t.Context(), path, mode, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func put(t testing.TB, d *store.Dir, content []byte) oci.Digest {
	t.Helper()
	desc := oci.Descriptor{Digest: oci.DigestOf(content), Size: int64(len(content))}
	ing, err := d.Ingest(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer ing.Close()
	if _, err := ing.CopyFrom(t.Context(), 0, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := ing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

func TestDirIngester(t *testing.T) {
	for name, opts := range map[string][]store.Option{
		"default groups": nil,
		"groups of 3":    {store.GroupLimit(3, 1<<40)},
		"one by one":     {store.GroupLimit(1, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Ingester(t, func(t *testing.T, dir string) store.Ingester {
				return openDir(t, dir, store.Exclusive, opts...)
			})
		})
	}
}

func TestDirReader(t *testing.T) {
	storetest.Reader(t, func(t *testing.T) (store.Reader, map[oci.Digest][]byte) {
		dir := t.TempDir()
		d := openDir(t, dir, store.Exclusive)
		for _, content := range storetest.Blobs() {
			put(t, d, content)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return openDir(t, dir, store.Shared), storetest.Blobs()
	})
}
