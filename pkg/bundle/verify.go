package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Verify reads every archive in dir once, each file from its first byte to its
// last, and proves that the bundle is what its document says: that every byte
// outside of blobs is the one that [Write] puts there for these contents, that
// each blob hashes to its digest, and that each manifest says what the document
// says of it. No byte is hashed twice for that: the digests of files, which are
// there for people and for finding the file to blame, are compared only where
// something differs, or where the archive was laid out otherwise.
//
// All files that are missing are named at once, all that are damaged too, so that
// one more trip to the medium is enough. A GOST sum that lies beside a file is
// checked too, and one that the document has must be there (S6.7). A file that
// looks like an archive but is not in the document is an error: other readers
// would take it for a part. The document is valid.
// Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func Verify(ctx context.Context, dir string, doc *contract.BundleSpec, progress Progress) error {
	return newVerifier(dir, doc, progress).verify(ctx, (*verifier).proveAll)
}

// VerifyFrame proves as [Verify] does everything but the content of blobs that are
// no manifests, and reads nothing of it: whoever reads such a blob has to prove
// it (store.Verified). GOST sums must be there, and the files are not compared
// with them. An archive whose frame is not what [Write] makes is read completely.
// Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func VerifyFrame(ctx context.Context, dir string, doc *contract.BundleSpec, progress Progress) error {
	return newVerifier(dir, doc, progress).verify(ctx, (*verifier).proveFrames)
}

// verifier is one run of Verify over a bundle.
type verifier struct {
	dir  string
	doc  *contract.BundleSpec
	told *told // the Progress
	// open opens a file of the bundle to be read once, from its beginning.
	open func(name string) (io.ReadCloser, error)
	// examine is the second look: it reads an archive, whoever laid it out, and
	// tells what is wrong with it.
	examine func(ctx context.Context, archive contract.ArchiveFiles, sums gostSums) error

	plans     map[string]*archivePlan
	manifests *manifestCheck
	expected  func() expectation
}

func newVerifier(dir string, doc *contract.BundleSpec, progress Progress) *verifier {
	v := &verifier{
		dir: dir, doc: doc, told: &told{Progress: audible(progress)},
		open:      func(name string) (io.ReadCloser, error) { return openRegular(dir, name) },
		manifests: newManifestCheck(&doc.Contents),
		expected:  sync.OnceValue(func() expectation { return expect(&doc.Contents) }),
	}
	v.examine = v.verifyArchive
	return v
}

func (v *verifier) verify(ctx context.Context, prove func(v *verifier, ctx context.Context, sums []gostSums) error) error {
	v.told.expect(totalSize(v.doc.Archives))
	if err := checkFiles(v.dir, v.doc.Archives); err != nil {
		return err
	}
	sums, err := allGostSums(v.dir, v.doc.Archives)
	if err != nil {
		return err
	}
	v.plans = planned(&v.doc.Contents)
	return prove(v, ctx, sums)
}

// told is a Progress of which the total can grow, for what is read again.
type told struct {
	Progress
	total atomic.Int64
}

func (t *told) expect(bytes int64) { t.SetTotal(t.total.Add(bytes), 0) }

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

// verifyArchive reads all of an archive as any reader of tars does, and compares
// each file's digest, each blob's, and each layout.
func (v *verifier) verifyArchive(ctx context.Context, want contract.ArchiveFiles, sums gostSums) error {
	opened := newHandles(v.dir)
	defer opened.Close()
	p, err := newParts(opened, want.Files)
	if err != nil {
		return err
	}
	found, got, err := inspect(ctx, want.Name, p, len(sums) > 0, v.told)
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
	if err := v.expected().compare(want.Name, found); err != nil {
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
		if !ok || !sameManifest(*g, *m) {
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

// sameManifest leaves out where a manifest can be read.
func sameManifest(a, b contract.Manifest) bool {
	return a.Digest == b.Digest && a.MediaType == b.MediaType && a.Size == b.Size && a.Subject == b.Subject && sameDigests(a.References, b.References)
}

func sameDigests(a, b []oci.Digest) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
