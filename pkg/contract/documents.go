package contract

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"ferry/pkg/oci"
)

// PlanSpec is the exact list of what a fetch downloads.
type PlanSpec struct {
	// Archives are the archives that a pack of the contents writes.
	Archives []ArchiveSize `json:"archives"`
	Contents Contents      `json:"contents"`
}

// ArchiveSize is how large an archive will be.
type ArchiveSize struct {
	// Name is the archive's name in Contents.Archives.
	Name string `json:"name"`
	// Size is that of the whole tar in bytes: of its chunks together.
	Size int64 `json:"size"`
}

// Kind is KindPlan.
func (*PlanSpec) Kind() Kind { return KindPlan }

// Normalize sorts archives and contents.
func (s *PlanSpec) Normalize() {
	s.Archives = sortedBy(s.Archives, func(a, b ArchiveSize) int { return cmp.Compare(a.Name, b.Name) })
	s.Contents.Normalize()
}

// Validate checks that archives and contents agree.
func (s *PlanSpec) Validate() error {
	if len(s.Archives) != len(s.Contents.Archives) {
		return fmt.Errorf("spec.archives: %d archives, but the contents name %d", len(s.Archives), len(s.Contents.Archives))
	}
	for i, a := range s.Archives {
		if a.Name != s.Contents.Archives[i].Name || a.Size <= 0 {
			return fmt.Errorf("spec.archives[%d]: %s of %d bytes, want %s with a size", i, a.Name, a.Size, s.Contents.Archives[i].Name)
		}
	}
	return s.Contents.Validate()
}

// StoreType says what an Inventory's content lies in.
type StoreType string

const (
	// StoreDir is a content store directory.
	StoreDir StoreType = "store"
	// StoreArchives is archives in one or more directories, read in place.
	StoreArchives StoreType = "archives"
	// StoreLayouts is a directory of OCI image layouts, each at the path of
	// its repository, read in place.
	StoreLayouts StoreType = "layouts"
)

// InventorySpec is contents that are present and verified in a named place of
// this machine. It is the one document that names a local path.
type InventorySpec struct {
	Store    StoreLocation `json:"store"`
	Contents Contents      `json:"contents"`
}

// StoreLocation is where the content lies.
type StoreLocation struct {
	Type StoreType `json:"type"`
	// Path is the directory, absolute.
	Path string `json:"path"`
	// Archives are the files to read, for StoreArchives.
	Archives []ArchiveFiles `json:"archives,omitempty"`
	// More are further directories with archives, for StoreArchives, sorted by
	// path (S7.1.4). An archive of the same name in two directories is one
	// archive of the contents that lies in two places.
	More []ArchiveDirectory `json:"more,omitempty"`
}

// ArchiveDirectory is a directory with the archives to read in it.
type ArchiveDirectory struct {
	// Path is the directory, absolute.
	Path     string         `json:"path"`
	Archives []ArchiveFiles `json:"archives"`
}

// Directories are all directories with archives, that of Path first.
func (l StoreLocation) Directories() []ArchiveDirectory {
	return append([]ArchiveDirectory{{Path: l.Path, Archives: l.Archives}}, l.More...)
}

// InArchives is the location of archives in dirs, of which there is at least one.
func InArchives(dirs []ArchiveDirectory) StoreLocation {
	l := StoreLocation{Type: StoreArchives, Path: dirs[0].Path, Archives: dirs[0].Archives}
	if len(dirs) > 1 { // an empty list would be written as one
		l.More = dirs[1:]
	}
	return l
}

// Kind is KindInventory.
func (*InventorySpec) Kind() Kind { return KindInventory }

// Normalize sorts the contents and files.
func (s *InventorySpec) Normalize() {
	if s.Store.Archives != nil {
		s.Store.Archives = sortedArchiveFiles(s.Store.Archives)
	}
	if s.Store.More != nil {
		s.Store.More = sortedBy(s.Store.More, func(a, b ArchiveDirectory) int { return cmp.Compare(a.Path, b.Path) })
		for i, dir := range s.Store.More {
			s.Store.More[i].Archives = sortedArchiveFiles(dir.Archives)
		}
	}
	s.Contents.Normalize()
}

// Validate checks the store and the contents.
func (s *InventorySpec) Validate() error {
	if s.Store.Path == "" {
		return fmt.Errorf("spec.store.path is empty")
	}
	switch s.Store.Type {
	case StoreDir, StoreLayouts:
		if len(s.Store.Archives) > 0 || len(s.Store.More) > 0 {
			return fmt.Errorf("spec.store.archives: a place of type %q has no archives", s.Store.Type)
		}
	case StoreArchives:
		if err := s.Store.validDirectories(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("spec.store.type: unknown type %q", s.Store.Type)
	}
	return s.Contents.Validate()
}

func (l StoreLocation) validDirectories() error {
	known := map[string]bool{}
	for i, dir := range l.Directories() {
		where := "spec.store.archives"
		if i > 0 {
			where = fmt.Sprintf("spec.store.more[%d]", i-1)
		}
		if dir.Path == "" || known[dir.Path] {
			return fmt.Errorf("%s: the path %q is empty, or stands twice", where, dir.Path)
		}
		known[dir.Path] = true
		if err := validArchiveFiles(where, dir.Archives); err != nil {
			return err
		}
	}
	return nil
}

// BundleSpec is the table of contents of a set of archive files, or of a
// directory of OCI image layouts. It is written last: a directory without it is
// not a finished bundle.
type BundleSpec struct {
	// Layouts says that there are no archives: each repository path of the
	// contents is an OCI image layout in the directory of the document.
	Layouts bool `json:"layouts,omitempty"`
	// Archives are the files, whole or in chunks.
	Archives []ArchiveFiles `json:"archives"`
	Contents Contents       `json:"contents"`
}

// ArchiveFiles is one archive and the files that it lies in.
type ArchiveFiles struct {
	// Name is the archive's name in Contents.Archives.
	Name string `json:"name"`
	// Size and Digest are those of the whole tar: the chunks joined.
	Size   int64      `json:"size"`
	Digest oci.Digest `json:"digest"`
	// Files are the parts in order; one file NAME.tar when not chunked.
	Files []File `json:"files"`
}

// File is a file of a bundle.
type File struct {
	Name   string     `json:"name"`
	Size   int64      `json:"size"`
	Digest oci.Digest `json:"digest"`
	// Gost is the sum by GOST R 34.11-2012 of 256 bits, as 64 lowercase hex
	// digits, which also stands in the file NAME.gostsum (S6.7); "" when no
	// such sums were wanted.
	Gost string `json:"gost,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
}

var gostRE = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ValidGost reports whether sum is one for [File.Gost].
func ValidGost(sum string) bool { return gostRE.MatchString(sum) }

// Kind is KindBundle.
func (*BundleSpec) Kind() Kind { return KindBundle }

// Normalize sorts archives and contents; the order of chunks is their own.
func (s *BundleSpec) Normalize() {
	s.Archives = sortedArchiveFiles(s.Archives)
	s.Contents.Normalize()
}

// Validate checks that archives and contents agree.
func (s *BundleSpec) Validate() error {
	if s.Layouts {
		if len(s.Archives) > 0 {
			return fmt.Errorf("spec.archives: there are none beside layouts")
		}
		return s.Contents.Validate()
	}
	if err := validArchiveFiles("spec.archives", s.Archives); err != nil {
		return err
	}
	have := map[string]bool{}
	for _, a := range s.Archives {
		have[a.Name] = true
	}
	for _, a := range s.Contents.Archives {
		if !have[a.Name] {
			return fmt.Errorf("spec.archives: archive %s has no files", a.Name)
		}
	}
	if len(have) != len(s.Contents.Archives) {
		return fmt.Errorf("spec.archives: %d archives, but the contents name %d", len(have), len(s.Contents.Archives))
	}
	return s.Contents.Validate()
}

// Standing returns what stands at the target when the bundle is published:
// digest by "PATH:TAG".
func (s *BundleSpec) Standing() map[string]oci.Digest {
	standing := map[string]oci.Digest{}
	for _, im := range s.Contents.Images {
		standing[im.Path+":"+im.Tag] = im.Digest
	}
	for _, a := range s.Contents.Assumed {
		standing[a.Path+":"+a.Tag] = a.Digest
	}
	return standing
}

func sortedArchiveFiles(list []ArchiveFiles) []ArchiveFiles {
	return sortedBy(list, func(a, b ArchiveFiles) int { return cmp.Compare(a.Name, b.Name) })
}

func validArchiveFiles(where string, list []ArchiveFiles) error {
	names, files := map[string]bool{}, map[string]bool{}
	for i, a := range list {
		where := fmt.Sprintf("%s[%d]", where, i)
		if !oci.ValidTag(a.Name) || names[a.Name] {
			return fmt.Errorf("%s: %q is not an archive name, or stands twice", where, a.Name)
		}
		names[a.Name] = true
		if !a.Digest.Valid() {
			return fmt.Errorf("%s: %q is not a sha256 digest", where, a.Digest)
		}
		if len(a.Files) == 0 {
			return fmt.Errorf("%s: archive %s has no files", where, a.Name)
		}
		var total int64
		for _, f := range a.Files {
			// A file name from a document becomes part of a path.
			if !oci.ValidTag(f.Name) || files[f.Name] {
				return fmt.Errorf("%s: %q is not a file name, or stands twice", where, f.Name)
			}
			files[f.Name] = true
			if !f.Digest.Valid() || f.Size < 0 {
				return fmt.Errorf("%s: file %s has size %d and digest %q", where, f.Name, f.Size, f.Digest)
			}
			if f.Gost != "" && !ValidGost(f.Gost) {
				return fmt.Errorf("%s: file %s has the GOST sum %q", where, f.Name, f.Gost)
			}
			total += f.Size
		}
		if total != a.Size {
			return fmt.Errorf("%s: the files of %s add up to %d bytes, not %d", where, a.Name, total, a.Size)
		}
	}
	return nil
}

// ReceiptSpec is what stands at the target, read back after the last write, or at
// any time later. A second publish of the same content gives the same receipt, and
// so does a second verification.
type ReceiptSpec struct {
	// Target is the root that was published to, HOST/PATH.
	Target string `json:"target"`
	// Tags are all tags of the contents, sorted, as the target has them now.
	Tags []ReceiptTag `json:"tags"`
	// Referrers are the manifests of the contents that are attached to others,
	// sorted, and how the target lists each.
	Referrers []ReceiptReferrer `json:"referrers"`
	// Verified says how far a verification went below the tags; absent where the
	// Receipt is that of a publish, which takes the word of a tag that was right
	// before for what is below it.
	Verified Verification `json:"verified,omitempty"`
	// Children and Blobs are how many a verification found, each in each
	// repository where it has to be: manifests that others refer to, beside
	// those that their own tag has proven, and configs and layers.
	Children int64 `json:"children,omitempty"`
	Blobs    int64 `json:"blobs,omitempty"`
	// Skipped as in Contents: what the source did not have.
	Skipped []Skipped `json:"skipped"`
	// Overview as in Contents: what a person counts of what was published.
	Overview Overview `json:"overview"`
}

// Verification is how blobs were proven. Tags and manifests are always read whole
// and hashed.
type Verification string

// The ways.
const (
	VerifiedSizes    Verification = "sizes"    // the target says that it has them, and how large they are
	VerifiedContents Verification = "contents" // each was read and hashed
)

// ReceiptTag is a tag as the target has it.
type ReceiptTag struct {
	// Repository is HOST/PATH at the target.
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	// Digest is the target's, and equal to the one in the contents, but for
	// Referrers.
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Size      int64      `json:"size"`
	// Discovery marks a discovery tag with the placeholder image.
	Discovery bool `json:"discovery,omitempty"`
	// Referrers marks a list of what is attached to an image (the tag is
	// sha256-HEX). It has all that the contents attach; the target may have
	// more in it.
	Referrers bool `json:"referrers,omitempty"`
}

// ListedBy says how a client finds at the target what is attached to an image.
type ListedBy string

// The ways.
const (
	ListedByAPI ListedBy = "api" // the registry's referrers API
	ListedByTag ListedBy = "tag" // the index under the tag sha256-HEX
)

// ReceiptReferrer is an attached manifest as the target lists it.
type ReceiptReferrer struct {
	// Repository is HOST/PATH at the target.
	Repository string `json:"repository"`
	// Subject is what the manifest is attached to.
	Subject  oci.Digest `json:"subject"`
	Digest   oci.Digest `json:"digest"`
	ListedBy ListedBy   `json:"listedBy"`
}

// Standing returns what stands below the target: digest by "PATH:TAG".
func (s *ReceiptSpec) Standing() map[string]oci.Digest {
	standing := map[string]oci.Digest{}
	for _, t := range s.Tags {
		if path, ok := strings.CutPrefix(t.Repository+"/", s.Target+"/"); ok {
			standing[strings.TrimSuffix(path, "/")+":"+t.Tag] = t.Digest
		}
	}
	return standing
}

// Kind is KindReceipt.
func (*ReceiptSpec) Kind() Kind { return KindReceipt }

// Normalize sorts the tags.
func (s *ReceiptSpec) Normalize() {
	s.Tags = sortedBy(s.Tags, func(a, b ReceiptTag) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
	})
	s.Referrers = sortedBy(s.Referrers, func(a, b ReceiptReferrer) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Digest, b.Digest))
	})
	s.Skipped = sortedBy(s.Skipped, func(a, b Skipped) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Tag, b.Tag))
	})
	s.Overview.normalize()
}

// Validate checks names and digests.
func (s *ReceiptSpec) Validate() error {
	if _, err := oci.ParseRepository(s.Target); err != nil {
		return fmt.Errorf("spec.target: %w", err)
	}
	for i, t := range s.Tags {
		if _, err := oci.ParseRepository(t.Repository); err != nil {
			return fmt.Errorf("spec.tags[%d]: %w", i, err)
		}
		if !oci.ValidTag(t.Tag) || !t.Digest.Valid() {
			return fmt.Errorf("spec.tags[%d]: tag %q, digest %q", i, t.Tag, t.Digest)
		}
	}
	for i, r := range s.Referrers {
		if _, err := oci.ParseRepository(r.Repository); err != nil {
			return fmt.Errorf("spec.referrers[%d]: %w", i, err)
		}
		if !r.Subject.Valid() || !r.Digest.Valid() || r.ListedBy != ListedByAPI && r.ListedBy != ListedByTag {
			return fmt.Errorf("spec.referrers[%d]: subject %q, digest %q, listed by %q", i, r.Subject, r.Digest, r.ListedBy)
		}
	}
	switch s.Verified {
	case VerifiedSizes, VerifiedContents:
	case "":
		if s.Children != 0 || s.Blobs != 0 {
			return fmt.Errorf("spec.verified: %d children and %d blobs were found, and it does not say how", s.Children, s.Blobs)
		}
	default:
		return fmt.Errorf("spec.verified: unknown verification %q", s.Verified)
	}
	if s.Children < 0 || s.Blobs < 0 {
		return fmt.Errorf("spec: %d children, %d blobs", s.Children, s.Blobs)
	}
	return s.Overview.validate(nil)
}

// ReportSpec says how a stage ended. It is written on failure too.
type ReportSpec struct {
	// Stage is the program: "fetch".
	Stage string `json:"stage"`
	// ExitCode is the exit status.
	ExitCode int `json:"exitCode"`
	// Error is the failure in one line, "" on success.
	Error string `json:"error"`
	// Hint says what to do about it.
	Hint string `json:"hint,omitempty"`
	// Items are the things that failed, each with its cause.
	Items []ReportItem `json:"items"`
	// Warnings are what did not end the run, each as a thing that failed.
	Warnings []ReportItem `json:"warnings,omitempty"`
	// Counters are figures of the run by name, such as "bytesMissing".
	Counters []Counter `json:"counters"`
}

// ReportItem is one thing that failed.
type ReportItem struct {
	// Item is a reference, file or document.
	Item string `json:"item"`
	// Kind is the class of the cause: "denied", "transient".
	Kind string `json:"kind"`
	// Cause is the error text.
	Cause string `json:"cause"`
	// Hint is what to do about this very failure.
	Hint string `json:"hint,omitempty"`
	// CauseName is a known cause, "certificate" or "disk-full", that stands
	// behind the failure; absent where none is known (S2.6).
	CauseName string `json:"causeName,omitempty"`
	// Likely is where failures with that cause mostly come from, the likeliest
	// first, and Advice what to do about them.
	Likely []string `json:"likely,omitempty"`
	Advice []string `json:"advice,omitempty"`
}

// Counter is one figure.
type Counter struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

// Kind is KindReport.
func (*ReportSpec) Kind() Kind { return KindReport }

// Normalize sorts items and counters.
func (s *ReportSpec) Normalize() {
	byItem := func(a, b ReportItem) int {
		return cmp.Or(cmp.Compare(a.Item, b.Item), cmp.Compare(a.Cause, b.Cause))
	}
	s.Items = sortedBy(s.Items, byItem)
	if len(s.Warnings) > 0 {
		s.Warnings = sortedBy(s.Warnings, byItem)
	}
	s.Counters = sortedBy(s.Counters, func(a, b Counter) int { return cmp.Compare(a.Name, b.Name) })
}

// Validate checks that a stage is named.
func (s *ReportSpec) Validate() error {
	if s.Stage == "" {
		return fmt.Errorf("spec.stage is empty")
	}
	return nil
}
