package bundle

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Tree is a directory of OCI image layouts: each lies at the path of its
// repository, unpacked, and may hold others below it (S6.2.4, S8.4). It knows
// names and sizes, and nothing of what the files hold.
type Tree struct {
	dir     string
	indexes map[string]string   // file of the index.json, by path of the layout
	blobs   map[string]treeFile // by name
	byPath  map[string]map[oci.Digest]treeFile
}

// treeFile is a blob's file; name is relative to the tree, with slashes.
type treeFile struct {
	name   string
	digest oci.Digest
	info   fs.FileInfo
}

// FindLayouts looks for layouts in dir, at any depth. Names that begin with a
// dot are not looked at: no repository has such a name, but file managers,
// killed runs and ferry-pull do. A directory without layouts gives an empty
// tree. Kinds: fault.Damaged (links and devices in the place of files),
// fault.Local.
func FindLayouts(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, durable.Fault(dir, err)
	}
	defer root.Close()
	t := &Tree{dir: dir, indexes: map[string]string{}, blobs: map[string]treeFile{}, byPath: map[string]map[oci.Digest]treeFile{}}
	return t, t.walk(root.FS(), ".")
}

// Paths are the paths of the layouts, sorted; "" is the directory itself.
func (t *Tree) Paths() []string { return slices.Sorted(maps.Keys(t.indexes)) }

// shown is a file or directory of the tree, for messages.
func (t *Tree) shown(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

func (t *Tree) walk(root fs.FS, at string) error {
	entries, err := fs.ReadDir(root, at)
	if errors.Is(err, fs.ErrPermission) && !oci.ValidPath(path.Base(at)) {
		return nil // such as lost+found, which the system keeps on every medium
	}
	if err != nil {
		return durable.Fault(t.shown(at), err)
	}
	for _, e := range entries {
		name := path.Join(at, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			if err := t.walk(root, name); err != nil {
				return err
			}
		default:
			if err := t.file(name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// file takes what belongs to a layout, and refuses links wherever they are:
// they would let a medium name any file of this machine (B6).
func (t *Tree) file(name string, e fs.DirEntry) error {
	at, isIndex := indexName(name)
	blobAt, digest, isBlob := blobName(name)
	if e.Type()&fs.ModeSymlink != 0 || (isIndex || isBlob) && !e.Type().IsRegular() {
		return notRegular(t.shown(name))
	}
	switch {
	case isIndex:
		t.indexes[at] = name
	case isBlob:
		info, err := e.Info()
		if err != nil {
			return durable.Fault(t.shown(name), err)
		}
		t.addBlob(blobAt, treeFile{name, digest, info})
	}
	return nil
}

func (t *Tree) addBlob(at string, f treeFile) {
	t.blobs[f.name] = f
	if t.byPath[at] == nil {
		t.byPath[at] = map[oci.Digest]treeFile{}
	}
	t.byPath[at][f.digest] = f
}

// find implements blobFinder.
func (t *Tree) find(at string, d oci.Digest) (int64, bool) {
	f, ok := t.byPath[at][d]
	if !ok {
		return 0, false
	}
	return f.info.Size(), true
}

// read implements blobFinder.
func (t *Tree) read(at string, d oci.Digest) ([]byte, error) {
	return t.readFile(t.byPath[at][d].name, oci.ManifestLimit)
}

// readFile reads a small file of the tree.
func (t *Tree) readFile(name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return nil, durable.Fault(t.dir, err)
	}
	defer root.Close()
	f, err := openInside(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.size > limit {
		return nil, fault.Newf(fault.Damaged, f.path, "has %d bytes, more than any such file", f.size)
	}
	data := make([]byte, f.size)
	_, err = io.ReadFull(f, data)
	return data, err
}

// inspector proves what a tree holds, all of it or its frame.
type inspector func(*Tree) (map[string]*layout, error)

func wholly(ctx context.Context, progress Progress) inspector {
	return func(t *Tree) (map[string]*layout, error) { return t.inspect(ctx, audible(progress)) }
}

func frameOnly(ctx context.Context) inspector {
	return func(t *Tree) (map[string]*layout, error) { return t.layouts(ctx) }
}

// inspect proves what the tree holds by reading all of it. Every file that is
// damaged is named.
func (t *Tree) inspect(ctx context.Context, progress Progress) (map[string]*layout, error) {
	if err := t.hashBlobs(ctx, progress); err != nil {
		return nil, err
	}
	return t.layouts(ctx)
}

// layouts follows every index.json through its manifests, and reads no other blob.
func (t *Tree) layouts(ctx context.Context) (map[string]*layout, error) {
	found := map[string]*layout{}
	var problems []error
	for _, at := range t.Paths() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l, err := t.layout(at)
		if err != nil && !errors.Is(err, fault.Damaged) {
			return nil, err
		}
		problems = append(problems, err)
		found[at] = l
	}
	for _, at := range slices.Sorted(maps.Keys(t.byPath)) {
		if _, ok := t.indexes[at]; !ok {
			problems = append(problems, t.damaged(at, errors.New("there are blobs, but no index.json")))
		}
	}
	return found, errors.Join(problems...)
}

func (t *Tree) layout(at string) (*layout, error) {
	index, err := t.readFile(t.indexes[at], indexLimit)
	if err != nil {
		return nil, err
	}
	l, err := describe(t, at, index)
	if err == nil && l.shared() {
		return nil, fault.Newf(fault.Damaged, t.shown(at), "its images are for several repositories, as in an archive that was unpacked").
			Hint("name the archive itself, with .tar at its end; it needs no unpacking")
	}
	return l, t.damaged(at, err)
}

func (t *Tree) damaged(at string, err error) error {
	if err == nil || fault.KindOf(err) != nil {
		return err
	}
	return fault.New(fault.Damaged, t.shown(at), err).
		Hint("copy the directory again from the medium, or make it again")
}

// parallelReads is how many files are read at a time: more than one keeps a disk
// busy while a file is being opened or hashed.
const parallelReads = 4

// hashBlobs reads every blob, but only once where several names are one file.
func (t *Tree) hashBlobs(ctx context.Context, progress Progress) error {
	files := t.distinct()
	var total int64
	for _, f := range files {
		total += f.info.Size()
	}
	progress.SetTotal(total, 0)
	root, err := os.OpenRoot(t.dir)
	if err != nil {
		return durable.Fault(t.dir, err)
	}
	defer root.Close()
	return nameAll(ctx, len(files), parallelReads, func(ctx context.Context, i int) error {
		return checkFile(ctx, root, files[i], progress)
	})
}

// distinct lists the files behind the names of blobs, sorted by name. Layouts
// that share a blob may be hard links to it.
func (t *Tree) distinct() []treeFile {
	known := map[oci.Digest][]fs.FileInfo{}
	var list []treeFile
	for _, name := range slices.Sorted(maps.Keys(t.blobs)) {
		f := t.blobs[name]
		if !isAnyOf(f.info, known[f.digest]) {
			known[f.digest] = append(known[f.digest], f.info)
			list = append(list, f)
		}
	}
	return list
}

func isAnyOf(info fs.FileInfo, known []fs.FileInfo) bool {
	return slices.ContainsFunc(known, func(k fs.FileInfo) bool { return os.SameFile(k, info) })
}

func checkFile(ctx context.Context, root *os.Root, f treeFile, progress Progress) error {
	opened, err := openInside(root, f.name)
	if err != nil {
		return err
	}
	defer opened.Close()
	got, err := hashFile(ctx, opened, progress)
	if err == nil && got != f.digest {
		err = fault.Newf(fault.Damaged, opened.path, "the content is %s", got).Hint("%s", hintCopyFile)
	}
	return err
}

const hintCopyFile = "copy the file again from the medium, or make it again"

// VerifyLayouts proves that the directory of layouts dir is what its document
// says: each layout and blob is there, each hashes to its name, and each layout
// has the document's tags and no others. Everything that is missing, or
// damaged, is named at once. A layout that is not in the document is an error:
// other readers would publish it. Kinds: fault.Damaged, fault.Local,
// fault.Cancelled.
func VerifyLayouts(ctx context.Context, dir string, doc *contract.BundleSpec, progress Progress) error {
	return verifyLayouts(dir, doc, wholly(ctx, progress))
}

func verifyLayouts(dir string, doc *contract.BundleSpec, inspect inspector) error {
	tree, err := FindLayouts(dir)
	if err != nil {
		return err
	}
	want := unpackedLayouts(&doc.Contents)
	if err := tree.comparePaths(want); err != nil {
		return err
	}
	found, err := inspect(tree)
	if err != nil {
		return err
	}
	sizes := blobSizes(&doc.Contents)
	for _, w := range want {
		if err := compareLayout(w, found[w.Path], sizes); err != nil {
			return fault.New(fault.Damaged, tree.shown(w.Path), err).
				Hint("the layout and %s do not belong together; copy both again%s", DocumentName, hintWithoutDocument)
		}
	}
	return nil
}

const hintWithoutDocument = ", or remove " + DocumentName + " to have the layouts taken as they are"

// comparePaths compares names and sizes, which costs nothing.
func (t *Tree) comparePaths(want []contract.Layout) error {
	var problems []error
	missing := func(name string) {
		problems = append(problems, missingFile(t.shown(name)))
	}
	listed := map[string]bool{}
	for _, l := range want {
		listed[l.Path] = true
		if _, ok := t.indexes[l.Path]; !ok {
			missing(path.Join(l.Path, indexFile))
		}
		for _, d := range layoutDigests(l) {
			if _, ok := t.byPath[l.Path][d]; !ok {
				missing(blobFile(l.Path, d))
			}
		}
	}
	for _, at := range t.Paths() {
		if !listed[at] {
			problems = append(problems, fault.Newf(fault.Damaged, t.shown(at), "the layout does not belong to this bundle").
				Hint("move it out of the directory%s", hintWithoutDocument))
		}
	}
	return errors.Join(problems...)
}

// ImportLayouts verifies layouts that have no Bundle document, because another
// tool made them or somebody added to them, and returns what they hold. Every
// tag's image must be there with all that it needs. Kinds: fault.Damaged,
// fault.Local, fault.Cancelled.
func ImportLayouts(ctx context.Context, tree *Tree, rules Rules, progress Progress) (*contract.Contents, error) {
	return importLayouts(tree, rules, wholly(ctx, progress))
}

func importLayouts(tree *Tree, rules Rules, inspect inspector) (*contract.Contents, error) {
	found, err := inspect(tree)
	if err != nil {
		return nil, err
	}
	imp := newImporter(rules)
	for _, at := range tree.Paths() {
		label := cmp.Or(at, "the root layout")
		from := origin{archive: rules.Archive(at), label: label, reason: "imported from " + label}
		if err := imp.addLayout(from, at, found[at]); err != nil {
			return nil, err
		}
	}
	if len(imp.owners) == 0 {
		return nil, fault.Newf(fault.Damaged, tree.dir, "the layouts hold no image that has a tag").
			Hint("each image needs its tag in index.json, as annotation %s or %s", annotationTag, annotationRef)
	}
	contents, err := imp.contents(nil)
	if err != nil {
		return nil, fault.New(fault.Damaged, tree.dir, err)
	}
	return contents, nil
}

// unpackedLayouts are the layouts of contents that lie in no archive, sorted by
// path: what several archives have of one repository stands together.
func unpackedLayouts(c *contract.Contents) []contract.Layout {
	all := contract.Archive{}
	for _, a := range c.Archives {
		all.Layouts = append(all.Layouts, a.Layouts...)
	}
	one := contract.Contents{Archives: []contract.Archive{all}, Images: slices.Clone(c.Images), Manifests: c.Manifests}
	for i := range one.Images {
		one.Images[i].Archive = all.Name
	}
	return one.Layouts()
}

// layoutDigests are all files of a layout that digests name.
func layoutDigests(l contract.Layout) []oci.Digest {
	list := slices.Clone(l.Blobs)
	for _, m := range l.Manifests {
		list = append(list, m.Digest)
	}
	return list
}

// blobFile is the name of a blob in the tree.
func blobFile(at string, d oci.Digest) string { return path.Join(at, blobsDir, d.Hex()) }
