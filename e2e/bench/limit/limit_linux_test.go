package limit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/bench/content"
	"ferry/e2e/bench/origin"
	"ferry/pkg/oci"

	"github.com/google/go-cmp/cmp"
)

func serve(t *testing.T, dir string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- origin.Serve(ctx, dir, listener, os.Stderr) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// What is downloaded is there byte for byte, with direct I/O too, and what is
// uploaded arrives.
func TestGetAndPut(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprint("direct ", direct), func(t *testing.T) {
			source := t.TempDir()
			// More than the buffer, so that blobs lie across its end.
			made, err := content.List(1, 6, 2, 5*bufferSize).Write(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			lists := t.TempDir()
			list, manifests := filepath.Join(lists, "blobs"), filepath.Join(lists, "manifests")
			if err := errors.Join(WriteList(list, made.Blobs), WriteManifests(manifests, made.Manifests)); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			get := Get{Host: serve(t, source), List: list, Manifests: manifests, Dir: dir, Connections: 2, Direct: direct}
			if err := get.Run(t.Context()); err != nil {
				if direct && strings.Contains(err.Error(), "invalid argument") {
					t.Skip("the file system has no direct I/O")
				}
				t.Fatal(err)
			}
			assertContent(t, dir, len(made.Blobs)+len(made.Manifests))
			target := serve(t, t.TempDir())
			put := Put{Host: target, Dir: dir, Manifests: manifests, Connections: 2}
			if err := put.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, blob := range made.Blobs {
				if resp := head(t, target, "blobs/"+string(blob.Digest)); resp.ContentLength != blob.Size {
					t.Errorf("%s: %s with %d bytes at the target", blob.Digest, resp.Status, resp.ContentLength)
				}
			}
			for _, m := range made.Manifests {
				if resp := head(t, target, "manifests/"+m.Digest.Hex()[:32]+"-0"); resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %s for its tag", m.Digest, resp.Status)
				}
			}
		})
	}
}

func head(t *testing.T, target, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodHead, "http://"+target+"/v2/"+repository+"/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", oci.MediaTypeManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// An index comes behind what it names, and each manifest as often as it has places.
func TestWaves(t *testing.T) {
	dg := func(text string) oci.Digest { return oci.DigestOf([]byte(text)) }
	at := func(text string) extent { return extent{file: text, digest: dg(text)} }
	got := waves([]extent{at("index"), at("blob"), at("image")}, []content.Manifest{
		{Digest: dg("index"), MediaType: oci.MediaTypeIndex, Height: 1, Tags: 2},
		{Digest: dg("image"), MediaType: oci.MediaTypeManifest, Untagged: 1},
	})
	name := dg("index").Hex()[:32]
	want := [][]load{
		{{extent: at("blob")}},
		{{at("image"), oci.MediaTypeManifest, string(dg("image"))}},
		{{at("index"), oci.MediaTypeIndex, name + "-0"}, {at("index"), oci.MediaTypeIndex, name + "-1"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(load{}, extent{})); diff != "" {
		t.Errorf("waves (-want +got):\n%s", diff)
	}
}

func assertContent(t *testing.T, dir string, number int) {
	t.Helper()
	extents, err := readExtents(dir)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, e := range extents {
		text, err := os.ReadFile(filepath.Join(dir, e.file))
		if err != nil {
			t.Fatal(err)
		}
		if got := oci.DigestOf(text[e.offset : e.offset+e.size]); got != e.digest {
			t.Errorf("%s is %s", e.digest, got)
		}
		total += e.size
	}
	if len(extents) != number {
		t.Errorf("%d blobs and manifests, want %d", len(extents), number)
	}
	files, err := filepath.Glob(filepath.Join(dir, "content-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total -= info.Size()
	}
	if total != 0 {
		t.Errorf("the blobs have %d bytes more than the files", total)
	}
}

// A limit that carries something else is none.
func TestGetHashes(t *testing.T) {
	source := t.TempDir()
	made, err := content.Small(1, 1, 2, 1000).Write(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	victim := made.Blobs[0]
	path := filepath.Join(source, "docker/registry/v2/blobs/sha256", victim.Digest.Hex()[:2], victim.Digest.Hex(), "data")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[0] ^= 1
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "list")
	if err := WriteList(list, made.Blobs); err != nil {
		t.Fatal(err)
	}
	get := Get{Host: serve(t, source), List: list, Dir: t.TempDir(), Connections: 2}
	if err := get.Run(t.Context()); err == nil || !strings.Contains(err.Error(), string(victim.Digest)) {
		t.Errorf("error is %v, want one about %s", err, victim.Digest)
	}
}
