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
	// Overview is what a person counts of images, sorted by archive, path and
	// tag; the figures are not counted yet.
	Overview(images []contract.Image) contract.Overview
}

// Set is the files of one archive, found by their names.
type Set struct {
	Name  string // of the archive
	Files []string
}

// Directory is a directory with the archives in it that are meant.
type Directory struct {
	Path string // absolute
	// Whole says that the directory itself was named, and all its archives are
	// meant.
	Whole bool
	Sets  []Set // sorted by name
	// Document is what a whole directory must hold, nil where nothing says it.
	Document *contract.BundleSpec
}

// Find finds archives by the rules of S7.1: paths are directories and files, of
// any directories, in any order and however often; any chunk stands for its
// whole set, and a whole archive stands before chunks of the same name. All gaps
// between chunks are named at once, and all files of which only the GOST sum is
// there. The directories are sorted by path, and told
// beside an error too, where they are known; then Sets may lack something.
// Kinds: fault.Usage, fault.Damaged, fault.Local.
func Find(paths []string) ([]Directory, error) {
	named, err := namedDirectories(paths)
	if err != nil {
		return nil, err
	}
	var dirs []Directory
	var problems []error
	for _, n := range named {
		dir := Directory{Path: n.path, Whole: n.whole}
		dir.Sets, err = n.sets()
		dirs = append(dirs, dir)
		problems = append(problems, err)
	}
	return dirs, errors.Join(problems...)
}

// named is a directory of which something was named.
type named struct {
	path   string // absolute
	info   os.FileInfo
	whole  bool
	wanted map[string]bool // archives, where the directory itself is not named
}

// namedDirectories sorts paths by the directories that they are, or lie in,
// however these are spelled.
func namedDirectories(paths []string) ([]*named, error) {
	var dirs []*named
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.Newf(fault.Usage, path, "there is no such file or directory")
		}
		if err != nil {
			return nil, durable.Fault(path, err)
		}
		at, archive := path, ""
		if !info.IsDir() {
			var ok bool
			if archive, _, ok = archiveOf(filepath.Base(path)); !ok {
				return nil, fault.Newf(fault.Usage, path, "not an archive").
					Hint("name a directory, or files that end in .tar or .tar.0000.chunk")
			}
			at = filepath.Dir(path)
		}
		dir, err := oneOf(&dirs, at)
		if err != nil {
			return nil, err
		}
		dir.whole = dir.whole || info.IsDir()
		dir.wanted[archive] = true
	}
	if len(dirs) == 0 {
		return nil, fault.Newf(fault.Usage, "", "no archives are named")
	}
	slices.SortFunc(dirs, func(a, b *named) int { return cmp.Compare(a.path, b.path) })
	return dirs, nil
}

// oneOf returns the entry of the directory at path, made when it is new.
func oneOf(dirs *[]*named, path string) (*named, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	for _, known := range *dirs {
		if os.SameFile(known.info, info) {
			return known, nil
		}
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	dir := &named{path: absolute, info: info, wanted: map[string]bool{}}
	*dirs = append(*dirs, dir)
	return dir, nil
}

// sets are the archives that are meant. A directory that was named and has none
// is an error, whatever else was named: it is not the one that was meant.
func (n *named) sets() ([]Set, error) {
	names, err := archiveFilesIn(n.path)
	if err != nil {
		return nil, err
	}
	chunks := map[string]map[int]string{} // by archive and number
	for _, name := range names {
		archive, i, _ := archiveOf(name)
		if !n.whole && !n.wanted[archive] {
			continue
		}
		if chunks[archive] == nil {
			chunks[archive] = map[int]string{}
		}
		chunks[archive][i] = name
	}
	var found []Set
	var problems []error
	for _, archive := range slices.Sorted(maps.Keys(chunks)) {
		files, err := completeSet(archive, chunks[archive])
		found = append(found, files)
		problems = append(problems, err)
	}
	missing, err := missingOf(n.path, names, func(archive string) bool { return n.whole || n.wanted[archive] })
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && len(missing) == 0 {
		return nil, fault.Newf(fault.Usage, n.path, "there are no archives").
			Hint("name the directory that holds the .tar or .chunk files; one of OCI image layouts is named alone")
	}
	return found, errors.Join(append(problems, missing...)...)
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

// Import verifies archives that no Bundle document describes as a whole, as
// [Verify] does but for what only a document can say, and returns the files with
// their digests and the contents. Every tag's image must be there with all that
// it needs. A tag that stands twice in a layout means the last one (S6.5.6); tags
// that stand in two archives with different images are refused, unless one
// archive yields. Archives of one name in several directories become one.
// Archives whose every tag another one owns are not in the contents. Where a
// directory has a document, its files must be those that the document lists.
// Kinds: fault.Damaged, fault.Local, fault.Cancelled.
func Import(ctx context.Context, dirs []Directory, rules Rules, progress Progress) ([]contract.ArchiveDirectory, *contract.Contents, error) {
	sets, total, err := openSets(dirs)
	defer closeSets(sets)
	if err != nil {
		return nil, nil, err
	}
	progress = audible(progress)
	progress.SetTotal(total, 0)
	imp := newImporter(rules)
	var problems []error
	for _, set := range yieldingLast(sets, rules) {
		err := imp.read(ctx, set, progress)
		if err != nil && !errors.Is(err, fault.Damaged) {
			return nil, nil, err
		}
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, nil, err
	}
	contents, err := imp.contents(dirs)
	if err != nil {
		return nil, nil, fault.New(fault.Damaged, dirs[0].Path, err)
	}
	return located(dirs, sets), contents, nil
}

// importing is an archive on its way.
type importing struct {
	Set
	dir   string
	label string                 // names it in errors: with its directory, where there are several
	want  *contract.ArchiveFiles // what a document says of its files, or nil
	parts *parts
	files contract.ArchiveFiles // as they were read
}

// about names the directory of the archive in err, where there are several.
func (set *importing) about(err error) error {
	if err == nil || set.label == set.Name+tarSuffix {
		return err
	}
	return fault.About(set.dir, err)
}

// openSets finds the files of all archives, and compares their names and sizes
// with the documents, which costs nothing.
func openSets(dirs []Directory) (sets []*importing, total int64, err error) {
	for _, dir := range dirs {
		if dir.Document != nil {
			if err := checkFiles(dir.Path, dir.Document.Archives); err != nil {
				return sets, 0, fault.About(dir.Path, err)
			}
		}
		opened := newHandles(dir.Path)
		for _, found := range dir.Sets {
			set := &importing{Set: found, dir: dir.Path, label: found.Name + tarSuffix, want: dir.describes(found.Name)}
			if len(dirs) > 1 {
				set.label = filepath.Join(dir.Path, set.label)
			}
			files := make([]contract.File, len(found.Files))
			for i, name := range found.Files {
				files[i].Name = name
			}
			if set.parts, err = newParts(opened, files); err != nil {
				return sets, 0, set.about(err)
			}
			sets = append(sets, set)
			total += set.parts.size
		}
	}
	return sets, total, nil
}

func closeSets(sets []*importing) {
	for _, set := range sets {
		set.parts.opened.Close()
	}
}

// describes returns what the directory's document says of an archive, nil where
// there is none.
func (d Directory) describes(archive string) *contract.ArchiveFiles {
	if d.Document == nil {
		return nil
	}
	for i, a := range d.Document.Archives {
		if a.Name == archive {
			return &d.Document.Archives[i]
		}
	}
	return nil
}

// located returns the files of all archives by directory.
func located(dirs []Directory, sets []*importing) []contract.ArchiveDirectory {
	out := make([]contract.ArchiveDirectory, len(dirs))
	for i, dir := range dirs {
		out[i] = contract.ArchiveDirectory{Path: dir.Path, Archives: []contract.ArchiveFiles{}}
		for _, set := range sets {
			if set.dir == dir.Path {
				out[i].Archives = append(out[i].Archives, set.files)
			}
		}
	}
	return out
}

// yieldingLast orders archives so that who comes first owns a tag.
func yieldingLast(sets []*importing, rules Rules) []*importing {
	rank := func(set *importing) int {
		if rules.Yields(set.Name) {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(sets), func(a, b *importing) int { return cmp.Compare(rank(a), rank(b)) })
}

// importer merges archives into contents.
type importer struct {
	rules    Rules
	archives map[string]*contract.Archive // by name
	owners   map[string]owned             // by path:tag
	graph    contract.Graph
	blobs    map[oci.Digest]int64
}

func newImporter(rules Rules) *importer {
	return &importer{
		rules: rules, archives: map[string]*contract.Archive{}, owners: map[string]owned{},
		graph: contract.Graph{}, blobs: map[oci.Digest]int64{},
	}
}

// owned is an image with the label of the archive that it comes from.
type owned struct {
	contract.Image
	label string
}

// read reads an archive to its end and adds what it holds. GOST sums that lie
// beside its files must be right (S6.7).
func (imp *importer) read(ctx context.Context, set *importing, progress Progress) error {
	sums, err := set.sums()
	if err != nil {
		return set.about(err)
	}
	seen, files, err := inspect(ctx, set.Name, set.parts, len(sums) > 0, progress)
	set.files = files
	if err != nil && !errors.Is(err, fault.Damaged) {
		return set.about(err)
	}
	// A damaged file explains everything else that is wrong with the archive.
	if damaged := set.compare(sums); damaged != nil {
		return set.about(damaged)
	}
	sums.keep(set.files.Files)
	if err != nil {
		return set.about(err)
	}
	return imp.add(set, seen)
}

// sums reads the GOST sums of the archive's files.
func (set *importing) sums() (gostSums, error) {
	if set.want != nil {
		return readGostSums(set.dir, set.want.Files)
	}
	files := make([]contract.File, len(set.Files))
	for i, name := range set.Files {
		files[i].Name = name
	}
	return readGostSums(set.dir, files)
}

// compare compares the files with what is said of them.
func (set *importing) compare(sums gostSums) error {
	if set.want != nil {
		if damaged := compareFiles(*set.want, set.files); damaged != nil {
			return damaged
		}
	}
	return sums.compare(set.files.Files, set.want != nil)
}

// add takes all layouts of an archive.
func (imp *importer) add(set *importing, seen *inspected) error {
	prefix := imp.rules.Prefix(set.Name, seen.names)
	from := origin{archive: set.Name, shared: seen.shared, label: set.label, reason: "imported from " + set.Name + tarSuffix}
	for _, path := range slices.Sorted(maps.Keys(seen.layouts)) {
		if err := imp.addLayout(from, joinPath(prefix, path), seen.layouts[path]); err != nil {
			return err
		}
	}
	return nil
}

// origin is where a layout comes from.
type origin struct {
	archive string // that its images are said to belong to
	shared  bool   // it is a part of one that other repositories have in common
	label   string // the file or directory to blame
	reason  string // for its images
}

// archive is the one for what comes from there, made when it is new, and shared as
// long as all that came was.
func (imp *importer) archive(from origin) *contract.Archive {
	a := imp.archives[from.archive]
	if a == nil {
		a = &contract.Archive{Name: from.archive, Layouts: []string{}, Shared: from.shared}
		imp.archives[from.archive] = a
	}
	a.Shared = a.Shared && from.shared
	return a
}

func (imp *importer) addLayout(from origin, target string, l *layout) error {
	if target != "" && !oci.ValidPath(target) {
		return fault.Newf(fault.Damaged, from.label, "layout %q is no repository path", target).
			Hint("it was not made by a mirroring tool")
	}
	if archive := imp.archive(from); len(l.tags) == 0 && !slices.Contains(archive.Layouts, target) {
		archive.Layouts = append(archive.Layouts, target)
	}
	for _, d := range l.tags {
		if err := imp.own(owned{contract.Image{
			Archive: from.archive, Path: target, Tag: d.tag(), Digest: d.Digest,
			Phase:  imp.rules.Phase(target, d.tag()),
			Source: sourceOf(d, target),
			Reason: from.reason,
		}, from.label}); err != nil {
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
func (imp *importer) own(im owned) error {
	target := im.Path + ":" + im.Tag
	owner, taken := imp.owners[target]
	switch {
	case !taken:
		imp.owners[target] = im
	case owner.Digest == im.Digest:
	case imp.rules.Yields(im.Archive) && !imp.rules.Yields(owner.Archive):
	default:
		return fault.Newf(fault.Damaged, im.label, "%s is %s here, but %s in %s", target, im.Digest, owner.Digest, owner.label).
			Hint("import only one of the two archives")
	}
	return nil
}

// contents closes the set over the tags that have an owner.
func (imp *importer) contents(dirs []Directory) (*contract.Contents, error) {
	c := &contract.Contents{Vendor: imp.rules.Vendor()}
	if err := imp.assume(c, dirs); err != nil {
		return nil, err
	}
	for _, a := range imp.archives {
		c.Archives = append(c.Archives, *a)
	}
	var roots []oci.Digest
	for _, im := range imp.owners {
		c.Images = append(c.Images, im.Image)
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
	c.Normalize() // sorts the images
	c.Overview = imp.rules.Overview(c.Images)
	c.UpdateOverview()
	c.Normalize()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("the archives contradict each other: %w", err)
	}
	return c, nil
}

// assume keeps what documents say of the target and the source, as far as no
// archive brings it: an update stays one in the company of others (S6.11).
func (imp *importer) assume(c *contract.Contents, dirs []Directory) error {
	for _, dir := range dirs {
		if dir.Document == nil {
			continue
		}
		for _, a := range dir.Document.Contents.Assumed {
			owner, brought := imp.owners[a.Path+":"+a.Tag]
			switch {
			case brought && owner.Digest != a.Digest:
				return fmt.Errorf("%s takes for granted that %s:%s is %s, but %s brings %s", dir.Path, a.Path, a.Tag, a.Digest, owner.label, owner.Digest)
			case !brought && !slices.Contains(c.Assumed, a):
				c.Assumed = append(c.Assumed, a)
			}
		}
		for _, s := range dir.Document.Contents.Skipped {
			if _, brought := imp.owners[s.Path+":"+s.Tag]; !brought && !slices.Contains(c.Skipped, s) {
				c.Skipped = append(c.Skipped, s)
			}
		}
	}
	return nil
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
