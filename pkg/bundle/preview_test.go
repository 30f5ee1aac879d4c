package bundle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
)

// A preview is what Write does, but for the digests (S5.12), with chunks and
// without.
func TestPreview(t *testing.T) {
	for _, chunk := range []int64{0, 1000} {
		contents, st := sample(t)
		dir := filepath.Join(t.TempDir(), "new")
		planned, err := Preview(dir, contents, Options{ChunkSize: chunk})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("the preview made the directory")
		}
		made, err := Write(t.Context(), dir, contents, st, Options{ChunkSize: chunk})
		if err != nil {
			t.Fatal(err)
		}
		for i := range made {
			made[i].Digest = ""
			for j := range made[i].Files {
				made[i].Files[j].Digest = ""
			}
		}
		if diff := cmp.Diff(made, planned); diff != "" {
			t.Errorf("chunks of %d (-write +preview):\n%s", chunk, diff)
		}
	}
}

// What Write would refuse is refused, and nothing is touched (S5.12).
func TestPreviewRefuses(t *testing.T) {
	contents, _ := sample(t)
	foreign := t.TempDir()
	writeFile(t, filepath.Join(foreign, "x.tar"), nil)
	other, _ := written(t, 0)
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	for _, tc := range []struct {
		name, dir string
		opts      Options
		want      *fault.Kind
	}{
		{"foreign archives", foreign, Options{Force: true}, fault.Usage},
		{"other chunks", other, Options{ChunkSize: 1000}, fault.Usage},
		{"other chunks, by force", other, Options{ChunkSize: 1000, Force: true}, nil},
		{"the same bundle", other, Options{}, nil},
		{"no directory given", "", Options{}, nil},
		{"too many files", "", Options{ChunkSize: 1}, fault.Usage},
		{"negative", "", Options{ChunkSize: -1}, fault.Usage},
		{"a file", file, Options{}, fault.Local},
	} {
		var before []string
		if tc.dir != "" && tc.dir != file {
			before = fileNames(t, tc.dir)
		}
		_, err := Preview(tc.dir, contents, tc.opts)
		if fault.KindOf(err) != tc.want || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
		if before != nil {
			if diff := cmp.Diff(before, fileNames(t, tc.dir)); diff != "" {
				t.Errorf("%s: the directory changed (-before +after):\n%s", tc.name, diff)
			}
		}
	}
	if _, err := Preview("", &contract.Contents{}, Options{}); err != nil {
		t.Errorf("nothing to pack: %v", err)
	}
}
