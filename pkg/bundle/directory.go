package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// record is what a run says of an archive before and after it writes it. While
// it has no digest the archive may be anything.
type record struct {
	// MadeFrom is archivePlan.madeFrom.
	MadeFrom oci.Digest            `json:"madeFrom"`
	Archive  contract.ArchiveFiles `json:"archive"`
}

// journal remembers, across runs that are killed, which archives of a directory
// are ours and which are finished. It is safe for concurrent use.
type journal struct {
	dir string
	// complete says that the directory is a finished bundle, layoutFiles
	// which files of layouts are ours.
	complete    bool
	layoutFiles map[string]bool

	mu      sync.Mutex
	records map[string]record // by archive
}

// loadJournal reads what earlier runs left in dir: of one that was killed the
// journal, of one that was finished the Bundle document.
func loadJournal(dir string) (*journal, error) {
	j := &journal{dir: dir, layoutFiles: map[string]bool{}, records: map[string]record{}}
	data, err := readIfThere(filepath.Join(dir, DocumentName))
	if err != nil {
		return nil, err
	}
	j.complete = j.addDocument(data)
	data, err = readIfThere(filepath.Join(dir, journalName))
	if err != nil {
		return nil, err
	}
	j.addDocument(data) // that of layouts is the document itself
	var records map[string]record
	if json.Unmarshal(data, &records) == nil { // else it is not ours, and is overwritten
		maps.Copy(j.records, records)
	}
	return j, nil
}

// addDocument takes a bundle's archives for what they are said to be made from,
// and its layouts for ours. Another version's document says nothing to us.
func (j *journal) addDocument(data []byte) (known bool) {
	doc, err := contract.Decode[contract.BundleSpec](data)
	if err != nil {
		return false
	}
	if doc.Spec.Layouts {
		plan, err := planTree(&doc.Spec.Contents)
		if err == nil {
			maps.Copy(j.layoutFiles, plan.names())
		}
		return err == nil
	}
	plans, err := planArchives(&doc.Spec.Contents, 0)
	if err != nil {
		return false
	}
	for i, p := range plans { // both are sorted, and Decode saw that they agree
		j.records[p.name] = record{MadeFrom: p.madeFrom, Archive: doc.Spec.Archives[i]}
	}
	return true
}

func readIfThere(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, durable.Fault(path, err)
}

// set replaces an archive's record, durably.
func (j *journal) set(name string, r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if reflect.DeepEqual(j.records[name], r) {
		return nil
	}
	j.records[name] = r
	return j.save()
}

func (j *journal) save() error {
	data, err := json.MarshalIndent(j.records, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(j.dir, journalName), append(data, '\n'), 0o644)
}

// prepare makes dir ready for the planned archives and no others: readers of
// archives take every one that they find, a stale chunk too (S9 row 82). What
// stands in the way is refused, or with force removed, if an earlier run made
// it. It returns the journal, in which archives of the same plan may be
// finished already.
func prepare(dir string, plans []*archivePlan, force bool) (*journal, error) {
	j, stale, err := inspectDir(dir, plans, force)
	if err != nil {
		return nil, err
	}
	if err := removeFiles(dir, stale); err != nil {
		return nil, err
	}
	if err := j.begin(plans); err != nil {
		return nil, err
	}
	return j, nil
}

// inspectDir loads the journal of dir and lists the files that have to go for the
// planned archives. What must not go is refused.
func inspectDir(dir string, plans []*archivePlan, force bool) (j *journal, stale []string, err error) {
	if j, err = loadJournal(dir); err != nil {
		return nil, nil, err
	}
	stale, foreign, err := j.inTheWay(plans)
	if err != nil {
		return nil, nil, err
	}
	layouts, err := j.layoutsThere()
	if err != nil {
		return nil, nil, err
	}
	stale = append(stale, layouts...)
	if len(foreign) > 0 {
		return nil, nil, fault.Newf(fault.Usage, dir, "the directory holds archives that ferry did not put there: %s", few(foreign)).
			Hint("choose an empty directory, or move them away")
	}
	if len(stale) > 0 && !force {
		return nil, nil, refuseStale(dir, stale)
	}
	return j, stale, nil
}

func refuseStale(dir string, stale []string) error {
	return fault.Newf(fault.Usage, dir, "the directory holds another bundle: %s", few(stale)).
		Hint("choose an empty directory, or replace the bundle with --force")
}

// archivesThere lists all archives of the directory, and the sums of ours.
func (j *journal) archivesThere() (archives, sums []string, err error) {
	if archives, err = archiveFilesIn(j.dir); err != nil {
		return nil, nil, err
	}
	sums, err = gostFilesIn(j.dir)
	return archives, slices.DeleteFunc(sums, func(name string) bool {
		archive, _, _ := archiveOf(strings.TrimSuffix(name, gostSuffix))
		_, ours := j.records[archive]
		return !ours
	}), err
}

// layoutsThere lists the files of an earlier bundle's layouts that exist,
// index.json first: a layout that loses its blobs must not look whole.
func (j *journal) layoutsThere() ([]string, error) {
	var indexes, others []string
	for _, name := range slices.Sorted(maps.Keys(j.layoutFiles)) {
		_, err := os.Lstat(filepath.Join(j.dir, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return nil, durable.Fault(filepath.Join(j.dir, filepath.FromSlash(name)), err)
		case path.Base(name) == indexFile:
			indexes = append(indexes, name)
		default:
			others = append(others, name)
		}
	}
	return append(indexes, others...), nil
}

// inTheWay lists the archive files of the directory that are not to be there:
// those of earlier bundles, and those that nobody knows. With force the names
// of planned archives are ours too, whoever wrote them.
func (j *journal) inTheWay(plans []*archivePlan) (stale, foreign []string, err error) {
	planned := map[string]*archivePlan{}
	for _, p := range plans {
		planned[p.name] = p
	}
	names, err := archiveFilesIn(j.dir)
	if err != nil {
		return nil, nil, err
	}
	sums, err := gostFilesIn(j.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range append(names, sums...) {
		file, isSum := strings.CutSuffix(name, gostSuffix)
		archive, _, _ := archiveOf(file)
		known, ours := j.records[archive]
		p := planned[archive]
		switch {
		case p != nil && ours && known.MadeFrom == p.madeFrom && p.hasFile(file):
		case p != nil || ours:
			stale = append(stale, name)
		case isSum: // nobody reads it
		default:
			foreign = append(foreign, name)
		}
	}
	return stale, foreign, nil
}

func (p *archivePlan) hasFile(name string) bool {
	return slices.ContainsFunc(p.files, func(f contract.File) bool { return f.Name == name })
}

// begin makes the journal say what this run will write, and what of it is
// there. From then on the directory is no finished bundle.
func (j *journal) begin(plans []*archivePlan) error {
	old := maps.Clone(j.records)
	clear(j.records)
	for _, p := range plans {
		if known, ok := old[p.name]; ok && known.MadeFrom == p.madeFrom && p.sameFiles(known.Archive) {
			j.records[p.name] = known
			continue
		}
		j.records[p.name] = record{MadeFrom: p.madeFrom}
	}
	if err := j.save(); err != nil {
		return err
	}
	return j.unfinish()
}

// beginTree makes the journal say which layouts this run will write. From then
// on the directory is no finished bundle.
func (j *journal) beginTree(contents *contract.Contents) error {
	text, err := contract.Encode(contract.New("ferry-pack", nil, contract.BundleSpec{Layouts: true, Contents: *contents}))
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(j.dir, journalName), text, 0o644); err != nil {
		return err
	}
	return j.unfinish()
}

// unfinish removes the mark of a finished bundle, and its signature: beside the
// next document an old one would look like a forgery (N22).
func (j *journal) unfinish() error {
	return remove(j.dir, SignatureName, DocumentName)
}

// remove removes the files of dir that are there, durably.
func remove(dir string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return durable.Fault(path, err)
		}
	}
	return durable.SyncDir(dir)
}

// fileSizes are the sizes of its files, in bytes.
func (p *archivePlan) fileSizes() []int64 {
	sizes := make([]int64, len(p.files))
	for i, f := range p.files {
		sizes[i] = f.Size
	}
	return sizes
}

func (p *archivePlan) sameFiles(have contract.ArchiveFiles) bool {
	return slices.EqualFunc(p.files, have.Files, func(a, b contract.File) bool { return a.Name == b.Name && a.Size == b.Size })
}

// seemsFinished tells by the sizes of the directory's files whether an earlier run
// finished the archive.
func (j *journal) seemsFinished(p *archivePlan, have map[string]int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return p.sameFiles(j.records[p.name].Archive) &&
		!slices.ContainsFunc(p.files, func(f contract.File) bool { return have[f.Name] != f.Size })
}

// finished returns the archive if an earlier run finished it and every byte is
// still what it was. If not, wasted is told how many bytes were read for it.
// GOST sums, if they are wanted, are those of the bytes read now: the earlier run
// may have made none.
func (j *journal) finished(
	ctx context.Context, p *archivePlan, gost bool, progress Progress, wasted func(bytes int64),
) (contract.ArchiveFiles, bool, error) {
	j.mu.Lock()
	known := j.records[p.name].Archive
	j.mu.Unlock()
	if len(known.Files) == 0 {
		return known, false, nil
	}
	opened := newHandles(j.dir)
	defer opened.Close()
	files, err := newParts(opened, known.Files)
	if errors.Is(err, fault.Damaged) {
		return known, false, nil // missing: write it again
	}
	if err != nil {
		return known, false, err
	}
	if files.size != p.size {
		return known, false, nil
	}
	stream := readAhead(ctx, p.name, files, gost, progress)
	defer stream.Close()
	got, err := stream.Finish()
	if err != nil {
		return known, false, err
	}
	same := got.Digest == known.Digest && slices.EqualFunc(got.Files, known.Files, sameContent)
	if !same {
		wasted(files.size)
	}
	return got, same, nil
}

// knows reports whether an earlier run has finished the planned archive as exactly
// these files.
func (j *journal) knows(p *archivePlan, archive contract.ArchiveFiles) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	known := j.records[p.name]
	return known.MadeFrom == p.madeFrom && known.Archive.Digest == archive.Digest &&
		p.sameFiles(archive) && slices.EqualFunc(known.Archive.Files, archive.Files, sameContent)
}

// sameContent leaves the GOST sum out: the digest says it all.
func sameContent(a, b contract.File) bool {
	return a.Name == b.Name && a.Size == b.Size && a.Digest == b.Digest
}

// Finish completes a directory after [Write]: it writes the encoded Bundle
// document and drops the journal of the run. A signature comes after that, see
// [WriteSignature]; one that somebody has put there meanwhile is of another
// document, and goes. Kinds: fault.Local.
func Finish(dir string, document []byte) error {
	if err := remove(dir, SignatureName); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, DocumentName), document, 0o644); err != nil {
		return err
	}
	return remove(dir, journalName)
}

// ReadDocument reads the Bundle document of a directory and its text. Kinds:
// fault.NotFound when there is none (another tool made the archives: see
// [Import]), fault.Damaged, fault.Local.
func ReadDocument(dir string) (*contract.Bundle, []byte, error) {
	text, err := ReadText(dir)
	if err != nil {
		return nil, nil, err
	}
	doc, err := DecodeDocument(dir, text)
	return doc, text, err
}

// ReadText reads the text of the Bundle document of a directory and believes
// nothing of it: for who proves it before it is decoded. Kinds: fault.NotFound
// when there is none, fault.Damaged when there is only what a killed run left,
// fault.Local.
func ReadText(dir string) ([]byte, error) {
	path := filepath.Join(dir, DocumentName)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, missingDocument(dir)
	}
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, contract.Limit))
	return text, durable.Fault(path, err)
}

// DecodeDocument reads what [ReadText] gave. Kinds: fault.Damaged.
func DecodeDocument(dir string, text []byte) (*contract.Bundle, error) {
	doc, err := contract.Decode[contract.BundleSpec](text)
	if err != nil {
		return nil, fault.New(fault.Damaged, filepath.Join(dir, DocumentName), err).
			Hint("copy %s again from the medium", DocumentName)
	}
	return doc, nil
}

// missingDocument tells a bundle that was never finished from one of others.
func missingDocument(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, journalName)); err == nil {
		return fault.Newf(fault.Damaged, dir, "the bundle is not finished: there is a %s, but no %s", journalName, DocumentName).
			Hint("run pack again, it continues where it stopped")
	}
	return fault.Newf(fault.NotFound, filepath.Join(dir, DocumentName), "the directory has no table of contents")
}

// archiveFilesIn lists the files of dir, sorted, that are archives or chunks by
// their names (S7.1). Directories are none.
func archiveFilesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, durable.Fault(dir, err)
	}
	var names []string
	for _, e := range entries {
		if _, _, ok := archiveOf(e.Name()); ok && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// few joins names for a message, not all of a thousand.
func few(names []string) string {
	const enough = 10
	if len(names) <= enough {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:enough], ", ") + ", ..."
}
