package bundle

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/streebog"
)

func gostOf(data []byte) string {
	h := streebog.New256()
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// summed is the sample with GOST sums, finished.
func summed(t testing.TB, chunkSize int64) (string, *contract.BundleSpec) {
	t.Helper()
	contents, content := sample(t)
	dir := t.TempDir()
	archives, err := Write(t.Context(), dir, contents, content, Options{ChunkSize: chunkSize, Gost: true})
	must(t, err)
	return dir, finish(t, dir, contents, archives)
}

// wantSums checks that each archive's file, and nothing else, has its sum: 64
// digits without a newline, readable by all (S6.7.1).
func wantSums(t *testing.T, dir string, doc *contract.BundleSpec) {
	t.Helper()
	want := []string{}
	for _, a := range doc.Archives {
		for _, f := range a.Files {
			want = append(want, f.Name+gostSuffix)
			sum := gostOf(readFile(t, filepath.Join(dir, f.Name)))
			if f.Gost != sum {
				t.Errorf("the document has %q as the sum of %s, want %s", f.Gost, f.Name, sum)
			}
			if got := string(readFile(t, filepath.Join(dir, f.Name+gostSuffix))); got != sum {
				t.Errorf("%s%s is %q, want %s", f.Name, gostSuffix, got, sum)
			}
			info, err := os.Stat(filepath.Join(dir, f.Name+gostSuffix))
			must(t, err)
			if info.Mode().Perm() != 0o644 {
				t.Errorf("%s%s has mode %v", f.Name, gostSuffix, info.Mode())
			}
		}
	}
	slices.Sort(want)
	got, err := gostFilesIn(dir)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
}

// S6.7.1, S9 row 97: each archive or chunk has its sum, made while it is written.
func TestWriteGostSums(t *testing.T) {
	for _, chunkSize := range []int64{0, 1000} {
		dir, doc := summed(t, chunkSize)
		wantSums(t, dir, doc)
		if err := Verify(t.Context(), dir, doc, nil); err != nil {
			t.Error(err)
		}
		// The archives are those of a bundle without sums.
		_, plain := written(t, chunkSize)
		for i := range doc.Archives {
			for j := range doc.Archives[i].Files {
				doc.Archives[i].Files[j].Gost = ""
			}
		}
		if diff := cmp.Diff(plain, doc); diff != "" {
			t.Errorf("(-without +with sums):\n%s", diff)
		}
	}
}

// A run adds the sums to archives that are there, repairs them, or takes them
// away, and writes no archive again (S6.7).
func TestWriteGostSumsAgain(t *testing.T) {
	contents, content := sample(t)
	dir, _ := written(t, 3000)
	content.opened.Store(0)
	again := func(gost bool) *contract.BundleSpec {
		archives, err := Write(t.Context(), dir, contents, content, Options{ChunkSize: 3000, Gost: gost})
		must(t, err)
		return finish(t, dir, contents, archives)
	}
	wantSums(t, dir, again(true))

	sums, err := gostFilesIn(dir)
	must(t, err)
	must(t, os.Remove(filepath.Join(dir, sums[0])))
	writeFile(t, filepath.Join(dir, sums[1]), []byte(strings.Repeat("0", 64)))
	doc := again(true)
	wantSums(t, dir, doc)

	doc = again(false)
	if left, err := gostFilesIn(dir); err != nil || len(left) > 0 {
		t.Errorf("sums that nobody wants are left: %v, %v", left, err)
	}
	if err := Verify(t.Context(), dir, doc, nil); err != nil {
		t.Error(err)
	}
	if n := content.opened.Load(); n != 0 {
		t.Errorf("%d blobs were packed again", n)
	}
}

// A run that was killed between an archive and its sum makes both anew.
func TestWriteGostSumsAfterAKill(t *testing.T) {
	contents, content := sample(t)
	dir := t.TempDir()
	if _, err := Write(t.Context(), dir, contents, content, Options{Gost: true}); err != nil {
		t.Fatal(err)
	}
	j, err := loadJournal(dir)
	must(t, err)
	r := j.records["platform"]
	r.Archive = contract.ArchiveFiles{}
	must(t, j.set("platform", r))
	must(t, os.Remove(filepath.Join(dir, "platform.tar.gostsum")))
	archives, err := Write(t.Context(), dir, contents, content, Options{Gost: true})
	must(t, err)
	wantSums(t, dir, finish(t, dir, contents, archives))
}

// S6.7.3, S9 row 83: sums are checked, in bundles of ours and of d8, and what
// differs is named.
func TestGostSumsAreChecked(t *testing.T) {
	const file = "platform.tar.0001.chunk"
	const sum = file + gostSuffix
	path := func(dir, name string) string { return filepath.Join(dir, name) }
	for _, tc := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		ours  []string // words of the error about a bundle of ours
		d8s   []string // the same without bundle.json; nil: no error
	}{
		{"nothing is wrong", func(*testing.T, string) {}, nil, nil},
		{"a newline behind the digits", func(t *testing.T, dir string) {
			writeFile(t, path(dir, sum), append(readFile(t, path(dir, sum)), '\n'))
		}, nil, nil},
		{"a damaged file", func(t *testing.T, dir string) {
			data := readFile(t, path(dir, file))
			data[0] ^= 1
			writeFile(t, path(dir, file), data)
		}, []string{file, "bundle.json"}, []string{file, "GOST"}},
		{"the sum of another file", func(t *testing.T, dir string) {
			writeFile(t, path(dir, sum), readFile(t, path(dir, "platform.tar.0000.chunk"+gostSuffix)))
		}, []string{sum, "bundle.json"}, []string{sum}},
		{"digits that are none", func(t *testing.T, dir string) {
			writeFile(t, path(dir, sum), []byte(strings.Repeat("g", 64)))
		}, []string{sum, "64 lowercase hex digits"}, []string{sum, "64 lowercase hex digits"}},
		{"a sum with a name", func(t *testing.T, dir string) {
			writeFile(t, path(dir, sum), append(readFile(t, path(dir, sum)), "  x"...))
		}, []string{sum}, []string{sum}},
		{"an empty sum", func(t *testing.T, dir string) { writeFile(t, path(dir, sum), nil) }, []string{sum}, []string{sum}},
		{"a link in place of a sum", func(t *testing.T, dir string) {
			must(t, os.Rename(path(dir, sum), path(dir, "x")))
			must(t, os.Symlink("x", path(dir, sum)))
		}, []string{sum, "not a regular file"}, []string{sum, "not a regular file"}},
		// Only a document can tell that there should be a sum.
		{"a missing sum", func(t *testing.T, dir string) { must(t, os.Remove(path(dir, sum))) }, []string{sum, "missing"}, nil},
		{"all damaged sums at once", func(t *testing.T, dir string) {
			writeFile(t, path(dir, sum), nil)
			writeFile(t, path(dir, "module-a.tar.0000.chunk"+gostSuffix), nil)
		}, []string{sum, "module-a.tar.0000.chunk" + gostSuffix}, []string{sum, "module-a.tar.0000.chunk" + gostSuffix}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, doc := summed(t, 3000)
			tc.spoil(t, dir)
			judge := func(err error, words []string) {
				t.Helper()
				if words == nil {
					must(t, err)
					return
				}
				wantDamaged(t, err, words...)
			}
			judge(Verify(t.Context(), dir, doc, nil), tc.ours)

			dirs, err := Find([]string{dir})
			must(t, err)
			// One directory of several is imported too, by its document.
			dirs[0].Document = doc
			_, _, err = Import(t.Context(), dirs, plainRules{}, nil)
			judge(err, tc.ours)
			dirs[0].Document = nil
			archives, _, err := Import(t.Context(), dirs, plainRules{}, nil)
			judge(err, tc.d8s)
			if err != nil {
				return
			}
			for _, a := range archives[0].Archives {
				for _, f := range a.Files {
					_, err := os.Stat(path(dir, f.Name+gostSuffix))
					if (err == nil) != (f.Gost != "") {
						t.Errorf("%s is said to have the sum %q, its file: %v", f.Name, f.Gost, err)
					}
				}
			}
		})
	}
}

// A wrong sum that bundle.json has too is told from a wrong file.
func TestGostSumOfTheDocumentIsProven(t *testing.T) {
	dir, doc := summed(t, 0)
	wrong := gostOf([]byte("something else"))
	doc.Archives[1].Files[0].Gost = wrong
	writeFile(t, filepath.Join(dir, "platform.tar.gostsum"), []byte(wrong))
	wantDamaged(t, Verify(t.Context(), dir, doc, nil), "platform.tar.gostsum", wrong)
}

// S6.7, B7: where no document lists the files, a sum without its file shows what
// was lost: an archive, or the last chunk.
func TestFindMissesTheFileOfASum(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.tar", "b.tar.0000.chunk", "b.tar.0000.chunk.gostsum", "b.tar.0001.chunk.gostsum", "c.tar.gostsum", "d.txt.gostsum"} {
		writeFile(t, filepath.Join(dir, name), nil)
	}
	_, err := Find([]string{dir})
	wantDamaged(t, err, "b.tar.0001.chunk", "c.tar")
	if strings.Contains(err.Error(), "d.txt") || strings.Contains(err.Error(), "b.tar.0000") {
		t.Errorf("too much is called missing: %v", err)
	}
	if _, err := Find([]string{filepath.Join(dir, "a.tar")}); err != nil {
		t.Errorf("one archive: %v", err)
	}
	_, err = Find([]string{filepath.Join(dir, "b.tar.0000.chunk")})
	wantDamaged(t, err, "b.tar.0001.chunk")

	lost := t.TempDir()
	writeFile(t, filepath.Join(lost, "c.tar.gostsum"), nil)
	_, err = Find([]string{lost})
	wantFault(t, err, fault.Damaged, "c.tar")
}
