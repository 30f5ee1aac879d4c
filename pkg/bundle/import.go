package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Rules is what only a vendor knows about archives that carry no document.
type Rules interface {
	// Vendor is the name for Contents.Vendor.
	Vendor() string
	// Prefix is the path that every layout of the archive lands below, ""
	// for none; names are the entries of its tar.
	Prefix(archive string, names []string) string
	// Phase is a tag's turn at the target.
	Phase(path, tag string) int
	// Discovery are the discovery tags for images that land at path.
	Discovery(path string) []contract.DiscoveryTag
	// Archive is the archive that a layout at path belongs into; asked only
	// of layouts that lie in none.
	Archive(path string) string
	// Yields says that the archive's tags give way where another archive has
	// the same tags for other images.
	Yields(archive string) bool
}

// Set is the files of one archive, found by their names.
type Set struct {
	Name  string // of the archive
	Files []string
}

// Find finds archives by the rules of S7.1: paths are a directory, files of one
// directory, or both; any chunk stands for its whole set, and a whole archive
// stands before chunks of the same name. All gaps between chunks are named at
// once, and all files of which only the GOST sum is there. The archives are
// sorted by name. dir is told beside an error too, where it is known.
// Kinds: fault.Usage, fault.Damaged, fault.Local.
func Find(paths []string) (dir string, found []Set, err error) {
	dir, wanted, err := wantedArchives(paths)
	if err != nil {
		return "", nil, err
	}
	names, err := archiveFilesIn(dir)
	if err != nil {
		return "", nil, err
	}
	chunks := map[string]map[int]string{} // by archive and number
	for _, name := range names {
		archive, i, _ := archiveOf(name)
		if wanted != nil && !wanted[archive] {
			continue
		}
		if chunks[archive] == nil {
			chunks[archive] = map[int]string{}
		}
		chunks[archive][i] = name
	}
	var problems []error
	for _, archive := range slices.Sorted(maps.Keys(chunks)) {
		files, err := completeSet(archive, chunks[archive])
		found = append(found, files)
		problems = append(problems, err)
	}
	missing, err := missingOf(dir, names, func(archive string) bool { return wanted == nil || wanted[archive] })
	if err != nil {
		return dir, nil, err
	}
	if len(found) == 0 && len(missing) == 0 {
		return dir, nil, fault.Newf(fault.Usage, dir, "there are no archives").
			Hint("name the directory that holds the .tar or .chunk files, or OCI image layouts")
	}
	return dir, found, errors.Join(append(problems, missing...)...)
}

// wantedArchives splits paths into their directory and the archives; nil means
// all of them, for then the directory itself is among the paths.
func wantedArchives(paths []string) (dir string, wanted map[string]bool, err error) {
	whole := false
	wanted = map[string]bool{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return "", nil, fault.Newf(fault.Usage, path, "there is no such file or directory")
		}
		if err != nil {
			return "", nil, durable.Fault(path, err)
		}
		at := filepath.Clean(path)
		if info.IsDir() {
			whole = true
		} else {
			archive, _, ok := archiveOf(filepath.Base(path))
			if !ok {
				return "", nil, fault.Newf(fault.Usage, path, "not an archive").
					Hint("name a directory, or files that end in .tar or .tar.0000.chunk")
			}
			at, wanted[archive] = filepath.Dir(path), true
		}
		if dir != "" && at != dir {
			return "", nil, fault.Newf(fault.Usage, path, "not in %s, as what is named before it", dir).
				Hint("put all archives into one directory")
		}
		dir = at
	}
	if dir == "" {
		return "", nil, fault.Newf(fault.Usage, "", "no archives are named")
	}
	if whole {
		return dir, nil, nil
	}
	return dir, wanted, nil
}

// completeSet turns numbered chunks into a list without gaps.
func completeSet(archive string, chunks map[int]string) (Set, error) {
	files := Set{Name: archive}
	if !oci.ValidTag(archive + tarSuffix) {
		return files, fault.Newf(fault.Usage, archive+tarSuffix, "the archive's name has characters that ferry does not allow").
			Hint("rename it, using letters, digits and . _ - alone")
	}
	if whole, ok := chunks[-1]; ok {
		files.Files = []string{whole}
		return files, nil
	}
	var missing []string
	last := slices.Max(slices.Collect(maps.Keys(chunks)))
	for i := range last + 1 {
		name := chunkName(archive, i)
		if len(missing) > 20 {
			break
		}
		if chunks[i] != name {
			missing = append(missing, name)
		}
		files.Files = append(files.Files, name)
	}
	if len(missing) > 0 {
		return files, fault.Newf(fault.Damaged, archive+tarSuffix, "chunks are missing: %s", few(missing)).Hint("copy them from the medium")
	}
	return files, nil
}

// Import verifies archives that have no Bundle document, as [Verify] does but
// for what only a document can say, and returns the files with their digests
// and the contents. Every tag's image must be there with all that it needs.
// A tag that stands twice in a layout means the last one (S6.5.6); tags that
// stand in two archives with different images are refused, unless one archive
// yields. Archives whose every tag another one owns are not in the contents.
// Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func Import(ctx context.Context, dir string, found []Set, rules Rules, progress Progress) ([]contract.ArchiveFiles, *contract.Contents, error) {
	opened := newHandles(dir)
	defer opened.Close()
	sets, total, err := openSets(opened, found)
	if err != nil {
		return nil, nil, err
	}
	progress = audible(progress)
	progress.SetTotal(total, 0)
	imp := newImporter(rules)
	archives := make([]contract.ArchiveFiles, len(found))
	var problems []error
	for _, i := range yieldingLast(found, rules) {
		seen, files, err := inspectSummed(ctx, found[i].Name, sets[i], progress)
		if err == nil {
			err = imp.add(found[i].Name, seen)
		}
		if err != nil && !errors.Is(err, fault.Damaged) {
			return nil, nil, err
		}
		archives[i] = files
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, nil, err
	}
	contents, err := imp.contents()
	if err != nil {
		return nil, nil, fault.New(fault.Damaged, dir, err)
	}
	return archives, contents, nil
}

// inspectSummed is inspect of an archive whose files may have GOST sums beside
// them, which then must be right (S6.7).
func inspectSummed(ctx context.Context, name string, p *parts, progress Progress) (*inspected, contract.ArchiveFiles, error) {
	var names []contract.File
	for _, f := range p.files {
		names = append(names, contract.File{Name: f.name})
	}
	sums, err := readGostSums(p.opened.dir, names)
	if err != nil {
		return nil, contract.ArchiveFiles{}, err
	}
	seen, files, err := inspect(ctx, name, p, len(sums) > 0, progress)
	if err != nil && !errors.Is(err, fault.Damaged) {
		return nil, files, err
	}
	// A file that differs from its sum explains everything else.
	if damaged := sums.compare(files.Files, func(contract.File) bool { return false }); damaged != nil {
		return nil, files, damaged
	}
	sums.keep(files.Files)
	return seen, files, err
}

func openSets(opened *handles, found []Set) (sets []*parts, total int64, err error) {
	for _, set := range found {
		files := make([]contract.File, len(set.Files))
		for i, name := range set.Files {
			files[i].Name = name
		}
		p, err := newParts(opened, files)
		if err != nil {
			return nil, 0, err
		}
		sets = append(sets, p)
		total += p.size
	}
	return sets, total, nil
}

// yieldingLast orders archives so that who comes first owns a tag.
func yieldingLast(found []Set, rules Rules) []int {
	order := make([]int, len(found))
	rank := func(i int) int {
		if rules.Yields(found[i].Name) {
			return 1
		}
		return 0
	}
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank(a), rank(b)) })
	return order
}

// importer merges layouts into contents.
type importer struct {
	rules    Rules
	archives []contract.Archive
	owners   map[string]contract.Image // by path:tag
	graph    contract.Graph
	blobs    map[oci.Digest]int64
}

func newImporter(rules Rules) *importer {
	return &importer{rules: rules, owners: map[string]contract.Image{}, graph: contract.Graph{}, blobs: map[oci.Digest]int64{}}
}

// add takes all layouts of an archive.
func (imp *importer) add(archive string, seen *inspected) error {
	prefix := imp.rules.Prefix(archive, seen.names)
	from := origin{archive, archive + tarSuffix}
	imp.begin(archive)
	for _, path := range slices.Sorted(maps.Keys(seen.layouts)) {
		if err := imp.addLayout(from, joinPath(prefix, path), seen.layouts[path]); err != nil {
			return err
		}
	}
	return nil
}

// origin is where a layout comes from: the archive that its images are said to
// belong to, and the file or directory to blame.
type origin struct{ archive, subject string }

// begin makes sure that the archive is known.
func (imp *importer) begin(archive string) *contract.Archive {
	i := slices.IndexFunc(imp.archives, func(a contract.Archive) bool { return a.Name == archive })
	if i < 0 {
		i = len(imp.archives)
		imp.archives = append(imp.archives, contract.Archive{Name: archive, Layouts: []string{}})
	}
	return &imp.archives[i]
}

func (imp *importer) addLayout(from origin, target string, l *layout) error {
	if target != "" && !oci.ValidPath(target) {
		return fault.Newf(fault.Damaged, from.subject, "layout %q is no repository path", target).
			Hint("it was not made by a mirroring tool")
	}
	if len(l.tags) == 0 {
		archive := imp.begin(from.archive)
		archive.Layouts = append(archive.Layouts, target)
	}
	for _, d := range l.tags {
		if err := imp.own(from.subject, contract.Image{
			Archive: from.archive, Path: target, Tag: d.tag(), Digest: d.Digest,
			Phase:  imp.rules.Phase(target, d.tag()),
			Source: sourceOf(d, target),
			Reason: "imported from " + from.subject,
		}); err != nil {
			return err
		}
	}
	maps.Copy(imp.graph, l.graph)
	maps.Copy(imp.blobs, l.blobs)
	return nil
}

func joinPath(prefix, path string) string {
	if prefix == "" || path == "" {
		return prefix + path
	}
	return prefix + "/" + path
}

// sourceOf is the reference in the descriptor, or one that names no real host:
// some are no references (S6.5.5).
func sourceOf(d layoutDescriptor, path string) string {
	if _, err := oci.ParseReference(d.ref()); err == nil {
		return d.ref()
	}
	if path == "" {
		path = "root"
	}
	return oci.Repository{Host: "bundle.invalid", Path: path}.WithTag(d.tag()).String()
}

// own gives a tag to the first archive that has it.
func (imp *importer) own(subject string, im contract.Image) error {
	target := im.Path + ":" + im.Tag
	owner, taken := imp.owners[target]
	switch {
	case !taken:
		imp.owners[target] = im
	case owner.Digest == im.Digest:
	case imp.rules.Yields(im.Archive) && !imp.rules.Yields(owner.Archive):
	default:
		return fault.Newf(fault.Damaged, subject, "%s is %s here, but %s in %s", target, im.Digest, owner.Digest, owner.Archive+tarSuffix).
			Hint("import only one of the two archives")
	}
	return nil
}

// contents closes the set over the tags that have an owner.
func (imp *importer) contents() (*contract.Contents, error) {
	c := &contract.Contents{Vendor: imp.rules.Vendor(), Archives: imp.archives}
	var roots []oci.Digest
	for _, im := range imp.owners {
		c.Images = append(c.Images, im)
		roots = append(roots, im.Digest)
	}
	manifests, blobs := imp.graph.Closure(roots...)
	for _, m := range manifests {
		c.Manifests = append(c.Manifests, *m)
	}
	for _, d := range blobs {
		c.Blobs = append(c.Blobs, contract.Blob{Digest: d, Size: imp.blobs[d]})
	}
	c.Discovery = imp.discovery()
	c.PruneEmpty()
	c.Normalize()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("the archives contradict each other: %w", err)
	}
	return c, nil
}

// discovery are the discovery tags, each once, that are not images themselves.
func (imp *importer) discovery() []contract.DiscoveryTag {
	tags := map[string]contract.DiscoveryTag{}
	for _, im := range imp.owners {
		for _, d := range imp.rules.Discovery(im.Path) {
			target := d.Path + ":" + d.Tag
			if _, isImage := imp.owners[target]; !isImage {
				tags[target] = d
			}
		}
	}
	return slices.Collect(maps.Values(tags))
}
