package content

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"ferry/pkg/oci"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	plan := List(1, 12, 4, 3_000_000)
	dir := t.TempDir()
	e, err := plan.Write(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := plan.Write(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, again); diff != "" {
		t.Errorf("the same plan makes something else (-first +second):\n%s", diff)
	}
	other, err := List(2, 12, 4, 3_000_000).Write(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if e.Images[0].Digest == other.Images[0].Digest {
		t.Error("another seed makes the same images")
	}
	if e.Bytes < 2_700_000 || e.Bytes > 3_500_000 || len(e.Images) != 12 || e.Repositories != 4 || len(e.Manifests) != 12 {
		t.Errorf("%d bytes, %d images in %d repositories, %d manifests", e.Bytes, len(e.Images), e.Repositories, len(e.Manifests))
	}
	data := filepath.Join(dir, "docker/registry/v2/blobs/sha256")
	named := 0
	for _, im := range e.Images {
		named += assertImage(t, data, im.Digest)
	}
	if e.Placed <= len(e.Blobs) || e.Placed >= named {
		t.Errorf("%d blobs in repositories, of %d distinct ones that are named %d times", e.Placed, len(e.Blobs), named)
	}
	if shared := named - len(e.Blobs); shared < len(e.Images) {
		t.Errorf("images name %d blobs, and there are %d: next to nothing is shared", named, len(e.Blobs))
	}
}

// assertImage checks what tools that unpack images rely on, and returns how many
// blobs the image names.
func assertImage(t *testing.T, data string, digest oci.Digest) int {
	t.Helper()
	read := func(d oci.Digest) []byte {
		text, err := os.ReadFile(filepath.Join(data, d.Hex()[:2], d.Hex(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		if got := oci.DigestOf(text); got != d {
			t.Errorf("%s has the content %s", d, got)
		}
		return text
	}
	var manifest struct {
		Config oci.Descriptor
		Layers []oci.Descriptor
	}
	if err := json.Unmarshal(read(digest), &manifest); err != nil {
		t.Fatal(err)
	}
	var config struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(read(manifest.Config.Digest), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		t.Fatalf("%d layers, %d diff ids", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	for i, layer := range manifest.Layers {
		if n := len(read(layer.Digest)); int64(n) != layer.Size {
			t.Errorf("%s has %d bytes, want %d", layer.Digest, n, layer.Size)
		}
		f, err := os.Open(filepath.Join(data, layer.Digest.Hex()[:2], layer.Digest.Hex(), "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		zip, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		plain := sha256.New()
		archive := tar.NewReader(io.TeeReader(zip, plain))
		if _, err := archive.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Next(); err != io.EOF {
			t.Errorf("%s: after the first file: %v", layer.Digest, err)
		}
		if _, err := io.Copy(plain, zip); err != nil {
			t.Error(err)
		}
		if got := oci.DigestFromSum(plain.Sum(nil)); got != config.RootFS.DiffIDs[i] {
			t.Errorf("%s unpacks to %s, want %s", layer.Digest, got, config.RootFS.DiffIDs[i])
		}
	}
	return 1 + len(manifest.Layers)
}
