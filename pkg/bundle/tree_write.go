package bundle

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/store"
)

// Unpacked says what WriteLayouts wrote.
type Unpacked struct {
	// Layouts is how many layouts there are.
	Layouts int
	// Bytes is the size of all distinct blobs and manifests.
	Bytes int64
	// Linked is how many names are further hard links to a blob that several
	// layouts have, Copied how many such blobs are copies, because the file
	// system has no hard links.
	Linked, Copied int64
}

// WriteLayouts makes the layouts of valid, normalized contents in dir, each at
// the path of its repository. Every blob is hashed on its way, and one that is
// there already before it is believed; a blob of several layouts is one file
// with several names, where the file system can. The index.json of each layout
// comes when all blobs of all layouts are durable. After a failure or a kill
// the same call goes on. The directory is no finished bundle until [Finish].
// ChunkSize is for archives and not looked at.
//
// Kinds: fault.Usage when dir holds something else, or where the name of a
// repository is that of a layout's file, fault.Damaged when the store lacks a
// blob or has a wrong one, fault.Local, fault.Cancelled.
func WriteLayouts(
	ctx context.Context, dir string, contents *contract.Contents, content store.Reader, opts Options,
) (Unpacked, error) {
	plan, err := planTree(contents)
	if err != nil {
		return Unpacked{}, err
	}
	unlock, err := lock(dir)
	if err != nil {
		return Unpacked{}, err
	}
	defer unlock()
	if err := prepareTree(dir, plan, contents, opts.Force); err != nil {
		return Unpacked{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Unpacked{}, durable.Fault(dir, err)
	}
	defer root.Close()
	w := &treeWriter{dir: dir, root: root, content: content, progress: audible(opts.Progress), link: os.Link}
	if err := w.fits(plan); err != nil {
		return Unpacked{}, err
	}
	if err := w.write(ctx, plan, opts.Parallel); err != nil {
		if fault.CauseOf(err) == fault.DiskFull {
			err = errors.Join(err, w.fits(plan))
		}
		return Unpacked{}, err
	}
	written := Unpacked{Layouts: len(plan.layouts), Bytes: plan.size(), Linked: w.linked.Load(), Copied: w.copied.Load()}
	return written, opts.seal(nil)
}

// treePlan is a tree before it is written.
type treePlan struct {
	layouts []contract.Layout // sorted by path
	data    map[string][]byte // oci-layout and index.json, by name
	blobs   []plannedBlob     // sorted by digest
}

// plannedBlob is a blob or manifest with all its names.
type plannedBlob struct {
	oci.Descriptor
	names []string
}

// planTree plans the files of valid contents.
func planTree(contents *contract.Contents) (*treePlan, error) {
	p := &treePlan{layouts: unpackedLayouts(contents), data: map[string][]byte{}}
	graph := contents.Graph()
	names := map[oci.Digest][]string{}
	for _, l := range p.layouts {
		index, err := encodeIndex(l, graph)
		if err != nil {
			return nil, err
		}
		p.data[path.Join(l.Path, indexFile)] = index
		p.data[path.Join(l.Path, layoutFile)] = []byte(layoutText)
		for _, d := range layoutDigests(l) {
			names[d] = append(names[d], blobFile(l.Path, d))
		}
	}
	for _, part := range contents.Parts() {
		p.blobs = append(p.blobs, plannedBlob{part.Descriptor, names[part.Digest]})
	}
	return p, p.refuseCollisions()
}

// refuseCollisions finds repositories whose name is that of a file: "index.json"
// is a valid one.
func (p *treePlan) refuseCollisions() error {
	files := map[string]bool{DocumentName: true, SignatureName: true, journalName: true}
	for name := range p.names() {
		files[name] = true
	}
	for _, l := range p.layouts {
		for at := l.Path; at != "" && at != "."; at = path.Dir(at) {
			if files[at] {
				return fault.Newf(fault.Usage, l.Path, "in a directory of layouts %q is a file, and can hold no repository", at).
					Hint("write archives, they can hold it")
			}
		}
	}
	return nil
}

// names are all files of the tree.
func (p *treePlan) names() map[string]bool {
	names := map[string]bool{}
	for name := range p.data {
		names[name] = true
	}
	for _, b := range p.blobs {
		for _, name := range b.names {
			names[name] = true
		}
	}
	return names
}

func (p *treePlan) size() int64 {
	var size int64
	for _, b := range p.blobs {
		size += b.Size
	}
	return size
}

// prepareTree makes dir ready for the planned tree and nothing else that a
// reader would take for a part of it. What stands in the way is refused, or
// removed if an earlier run made it: with force where that was finished.
func prepareTree(dir string, plan *treePlan, contents *contract.Contents, force bool) error {
	j, err := loadJournal(dir)
	if err != nil {
		return err
	}
	stale, foreign, err := plan.inTheWay(j)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		return fault.Newf(fault.Usage, dir, "the directory holds archives or layouts that ferry did not put there: %s", few(foreign)).
			Hint("choose an empty directory, or move them away")
	}
	if len(stale) > 0 && j.complete && !force {
		return refuseStale(dir, stale)
	}
	if err := removeFiles(dir, stale); err != nil {
		return err
	}
	if err := sweepTree(dir, plan); err != nil {
		return err
	}
	return j.beginTree(contents)
}

// inTheWay lists the files of the directory that are not to be there: those of
// earlier bundles, index.json first, and those that nobody knows.
func (p *treePlan) inTheWay(j *journal) (stale, foreign []string, err error) {
	tree, err := FindLayouts(j.dir)
	if err != nil {
		return nil, nil, err
	}
	judge := func(name string, ours bool) {
		if ours {
			stale = append(stale, name)
		} else {
			foreign = append(foreign, name)
		}
	}
	for _, at := range tree.Paths() {
		name := tree.indexes[at]
		if same, err := p.sameIndex(tree, name); err != nil {
			return nil, nil, err
		} else if !same {
			judge(name, j.layoutFiles[name])
		}
	}
	planned := p.names()
	for _, name := range slices.Sorted(maps.Keys(tree.blobs)) {
		at, _, _ := blobName(name)
		_, isLayout := tree.indexes[at]
		switch {
		case planned[name]:
		case j.layoutFiles[name]:
			stale = append(stale, name)
		case !isLayout && p.data[path.Join(at, indexFile)] == nil:
			foreign = append(foreign, name) // readers miss its index.json
		}
	}
	for _, name := range slices.Sorted(maps.Keys(j.layoutFiles)) {
		if path.Base(name) == layoutFile && !planned[name] {
			stale = append(stale, name)
		}
	}
	archives, archiveSums, err := j.archivesThere()
	for _, name := range archives {
		archive, _, _ := archiveOf(name)
		_, ours := j.records[archive]
		judge(name, ours)
	}
	return append(stale, archiveSums...), foreign, err
}

// sameIndex tells whether an index.json is the one that will be written.
func (p *treePlan) sameIndex(tree *Tree, name string) (bool, error) {
	have, err := tree.readFile(name, indexLimit)
	if err != nil && !errors.Is(err, fault.Damaged) {
		return false, err
	}
	want, planned := p.data[name]
	return planned && err == nil && bytes.Equal(have, want), nil
}

// removeFiles removes files below dir, and directories that become empty.
func removeFiles(dir string, names []string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return durable.Fault(dir, err)
	}
	defer root.Close()
	for _, name := range names {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return durable.Fault(filepath.Join(dir, filepath.FromSlash(name)), err)
		}
		removeEmpty(root, path.Dir(name))
		if path.Base(name) == layoutFile { // a layout without images has no blobs to be removed
			removeEmpty(root, path.Join(path.Dir(name), blobsDir))
		}
	}
	return nil
}

// removeEmpty removes the directory at, and those above it, as far as they are
// empty.
func removeEmpty(root *os.Root, at string) {
	for at != "." && root.Remove(at) == nil {
		at = path.Dir(at)
	}
}

// sweepTree removes what killed runs left in the layouts' directories. The lock
// on the tree says that nobody is still writing there.
func sweepTree(dir string, plan *treePlan) error {
	var left []string
	for _, at := range plan.blobDirs() {
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(at)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return durable.Fault(filepath.Join(dir, at), err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() && durable.IsUnfinished(e.Name()) {
				left = append(left, path.Join(at, e.Name()))
			}
		}
	}
	return removeFiles(dir, left)
}

// blobDirs are the directories of the layouts' blobs.
func (p *treePlan) blobDirs() []string {
	dirs := make([]string, len(p.layouts))
	for i, l := range p.layouts {
		dirs[i] = path.Join(l.Path, blobsDir)
	}
	return dirs
}

// fits tells whether the disk takes what is still to be written, of blobs with
// several names the first.
func (w *treeWriter) fits(plan *treePlan) error {
	var sizes []int64
	lacks := func(name string, size int64) {
		if info, err := w.root.Lstat(name); err != nil || info.Size() != size {
			sizes = append(sizes, size)
		}
	}
	for _, b := range plan.blobs {
		lacks(b.names[0], b.Size)
	}
	for name, data := range plan.data {
		lacks(name, int64(len(data)))
	}
	return durable.Fits(w.dir, sizes, 0, hintBundleSpace)
}

// treeWriter writes the files of a plan.
type treeWriter struct {
	dir      string
	root     *os.Root
	content  store.Reader
	progress Progress
	link     func(from, to string) error // os.Link, but for tests

	total          atomic.Int64 // bytes to write, and to read again
	linked, copied atomic.Int64
}

func (w *treeWriter) write(ctx context.Context, plan *treePlan, parallel int) error {
	if parallel <= 0 {
		parallel = 2
	}
	for _, dir := range plan.blobDirs() {
		if err := durable.MkdirAll(w.path(dir), 0o755); err != nil {
			return err
		}
	}
	w.addTotal(plan.size())
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, b := range plan.blobs {
		group.Go(func() error { return w.blob(working, b) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// Links, and what a killed run renamed, have not been synced yet.
	for _, dir := range plan.blobDirs() {
		if err := durable.SyncDir(w.path(dir)); err != nil {
			return err
		}
	}
	return w.indexes(ctx, plan)
}

func (w *treeWriter) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *treeWriter) addTotal(bytes int64) { w.progress.SetTotal(w.total.Add(bytes), 0) }

// indexes writes oci-layout and then index.json of each layout: other tools
// believe a directory that has both.
func (w *treeWriter) indexes(ctx context.Context, plan *treePlan) error {
	for _, file := range []string{layoutFile, indexFile} {
		for _, l := range plan.layouts {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := path.Join(l.Path, file)
			if have, err := os.ReadFile(w.path(name)); err == nil && bytes.Equal(have, plan.data[name]) {
				continue
			}
			if err := durable.WriteFile(w.path(name), plan.data[name], 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// blob makes all names of a blob lead to its content, of which there is one
// copy if the file system allows.
func (w *treeWriter) blob(ctx context.Context, b plannedBlob) error {
	var whole []fs.FileInfo // files that were hashed
	var source string       // the name of one of them
	var missing []string
	for _, name := range b.names {
		info, ok, err := w.holds(ctx, name, b.Descriptor, whole)
		if err != nil {
			return err
		}
		if !ok {
			missing = append(missing, name)
			continue
		}
		whole, source = append(whole, info), name
	}
	for _, name := range missing {
		if source != "" && w.tryLink(source, name) {
			w.linked.Add(1)
			continue
		}
		if source != "" {
			w.copied.Add(1)
			w.addTotal(b.Size)
		}
		if err := w.writeBlob(ctx, name, b.Descriptor); err != nil {
			return err
		}
		source = name
	}
	return nil
}

// tryLink gives a whole blob another name.
func (w *treeWriter) tryLink(from, to string) bool {
	// A damaged file may be in the way.
	if err := w.root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return w.link(w.path(from), w.path(to)) == nil
}

// holds tells whether the file that has the name already is the blob. It is
// read, unless it is one of known.
func (w *treeWriter) holds(
	ctx context.Context, name string, want oci.Descriptor, known []fs.FileInfo,
) (fs.FileInfo, bool, error) {
	info, err := w.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, durable.Fault(w.path(name), err)
	}
	if isAnyOf(info, known) {
		return info, true, nil
	}
	if !info.Mode().IsRegular() || info.Size() != want.Size {
		return nil, false, nil
	}
	f, err := openInside(w.root, name)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if len(known) > 0 {
		w.addTotal(want.Size) // a copy, beside the one that was counted
	}
	got, err := hashFile(ctx, f, w.progress)
	if err == nil && got != want.Digest && len(known) == 0 {
		w.addTotal(want.Size) // it has to be written after all
	}
	return info, err == nil && got == want.Digest, err
}

// writeBlob writes the content under the name, durably.
func (w *treeWriter) writeBlob(ctx context.Context, name string, desc oci.Descriptor) error {
	blob, err := openContent(w.content, desc.Digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	out, err := durable.Create(w.path(name))
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, max(1, min(copySize, desc.Size)))
	if err := copyHeard(ctx, out, store.Verified(blob, desc), buf, w.progress); err != nil {
		return err
	}
	return out.Commit()
}
