package bundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Verify reads every archive in dir once, and proves that the bundle is what
// its document says: each file's size and digest, the tars from header to end,
// each blob's digest, each layout's tags and everything that they need. All
// files that are missing are named at once, all that are damaged too, so that
// one more trip to the medium is enough. A GOST sum that lies beside a file is
// checked too, and one that the document has must be there (S6.7). A file that
// looks like an archive but is not in the document is an error: other readers
// would take it for a part.
// Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func Verify(ctx context.Context, dir string, doc *contract.BundleSpec, progress Progress) error {
	progress = audible(progress)
	progress.SetTotal(totalSize(doc.Archives), 0)
	if err := checkFiles(dir, doc.Archives); err != nil {
		return err
	}
	sums, err := allGostSums(dir, doc.Archives)
	if err != nil {
		return err
	}
	opened := newHandles(dir)
	defer opened.Close()
	expected := expect(&doc.Contents)
	var problems []error
	for i, archive := range doc.Archives {
		err := verifyArchive(ctx, opened, archive, sums[i], expected, progress)
		if err != nil && !errors.Is(err, fault.Damaged) {
			return err
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// checkFiles compares names and sizes, which costs nothing.
func checkFiles(dir string, archives []contract.ArchiveFiles) error {
	listed := map[string]bool{}
	var problems []error
	for _, archive := range archives {
		for _, f := range archive.Files {
			listed[f.Name] = true
			info, err := statRegular(dir, f.Name)
			switch {
			case err == nil && info.Size() != f.Size:
				problems = append(problems, wrongSize(f, info.Size()))
			case err == nil:
			case errors.Is(err, fault.Damaged):
				problems = append(problems, err)
			default:
				return err
			}
		}
	}
	names, err := archiveFilesIn(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !listed[name] {
			problems = append(problems, fault.Newf(fault.Damaged, name, "the file does not belong to this bundle").
				Hint("move it out of the directory"))
		}
	}
	return errors.Join(problems...)
}

// allGostSums reads the sums of all archives; all that are damaged or missing
// are named.
func allGostSums(dir string, archives []contract.ArchiveFiles) ([]gostSums, error) {
	all := make([]gostSums, len(archives))
	var problems []error
	for i, archive := range archives {
		sums, err := readGostSums(dir, archive.Files)
		if err != nil && !errors.Is(err, fault.Damaged) {
			return nil, err
		}
		all[i] = sums
		problems = append(problems, err)
	}
	return all, errors.Join(problems...)
}

func verifyArchive(
	ctx context.Context, opened *handles, want contract.ArchiveFiles, sums gostSums, expected expectation, progress Progress,
) error {
	p, err := newParts(opened, want.Files)
	if err != nil {
		return err
	}
	found, got, err := inspect(ctx, want.Name, p, len(sums) > 0, progress)
	if err != nil && !errors.Is(err, fault.Damaged) {
		return err
	}
	// A damaged file explains everything else that is wrong with the archive.
	if damaged := compareFiles(want, got); damaged != nil {
		return damaged
	}
	if damaged := sums.compare(got.Files, true); damaged != nil {
		return damaged
	}
	if err != nil {
		return err
	}
	if err := expected.compare(want.Name, found); err != nil {
		return fault.New(fault.Damaged, want.Files[0].Name, err).
			Hint("the archive and %s do not belong together; copy the whole bundle again", DocumentName)
	}
	return nil
}

func compareFiles(want, got contract.ArchiveFiles) error {
	var problems []error
	for i, w := range want.Files {
		if i >= len(got.Files) || !sameContent(got.Files[i], w) {
			problems = append(problems, fault.Newf(fault.Damaged, w.Name, "the content is not what %s says", DocumentName).
				Hint("copy the file again from the medium"))
		}
	}
	if len(problems) == 0 && got.Digest != want.Digest {
		problems = append(problems, fault.Newf(fault.Damaged, want.Name, "the files joined are %s, %s says %s", got.Digest, DocumentName, want.Digest))
	}
	return errors.Join(problems...)
}

// expectation is what a document says that archives hold.
type expectation struct {
	layouts map[string]map[string]contract.Layout // by archive and path
	sizes   map[oci.Digest]int64                  // of blobs
}

func expect(contents *contract.Contents) expectation {
	e := expectation{layouts: map[string]map[string]contract.Layout{}, sizes: blobSizes(contents)}
	for _, l := range contents.Layouts() {
		if e.layouts[l.Archive] == nil {
			e.layouts[l.Archive] = map[string]contract.Layout{}
		}
		e.layouts[l.Archive][l.Path] = l
	}
	return e
}

// compare tells the first difference between an archive and the document.
func (e expectation) compare(archive string, found *inspected) error {
	want := e.layouts[archive]
	for _, path := range slices.Sorted(maps.Keys(want)) {
		got, ok := found.layouts[path]
		if !ok {
			return fmt.Errorf("layout %q is missing", path)
		}
		if err := compareLayout(want[path], got, e.sizes); err != nil {
			return fmt.Errorf("layout %q: %w", path, err)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found.layouts)) {
		if _, ok := want[path]; !ok {
			return fmt.Errorf("layout %q is not in %s", path, DocumentName)
		}
	}
	return nil
}

// compareLayout compares tags both ways. What the tags need then follows from
// the manifests, which were all read.
func compareLayout(want contract.Layout, got *layout, sizes map[oci.Digest]int64) error {
	wantTags, gotTags := map[string]oci.Digest{}, map[string]oci.Digest{}
	for _, im := range want.Images {
		wantTags[im.Tag] = im.Digest
	}
	for _, d := range got.tags {
		gotTags[d.tag()] = d.Digest
	}
	if !maps.Equal(wantTags, gotTags) {
		return errors.New("the tags differ")
	}
	for _, m := range want.Manifests {
		g, ok := got.graph[m.Digest]
		if !ok || g.MediaType != m.MediaType || g.Size != m.Size || g.Subject != m.Subject || !sameDigests(g.References, m.References) {
			return fmt.Errorf("manifest %s differs", m.Digest)
		}
	}
	for d, size := range got.blobs {
		if sizes[d] != size {
			return fmt.Errorf("blob %s has %d bytes, not %d", d, size, sizes[d])
		}
	}
	return nil
}

func sameDigests(a, b []oci.Digest) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
