// Package explain answers why an image is carried or not, from documents alone:
// the Selection, the closed contents, and what vendors say about a Catalog. It
// knows no vendor; what a part of a product is called, they tell.
package explain

import (
	"regexp"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// Query is a question about one or more images. Exactly one of its forms is set.
type Query struct {
	// Text is the question as it was asked.
	Text string

	// Source is an image of the source, or, without tag and digest, all of a
	// repository.
	Source oci.Reference
	// Target is a tag below the target root.
	Target *Target
	// Digest is an image, or a part of images, wherever it is.
	Digest oci.Digest
	// Component is a part of a product, "module/console", or an archive.
	Component string
	// Version is the tag of a component; "" is all of it.
	Version string
}

// Target is a tag below the target root; the root itself has the path "".
type Target struct{ Path, Tag string }

func (t Target) String() string { return t.Path + ":" + t.Tag }

var hexRE = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Parse reads a question:
//
//	HOST/PATH:TAG, HOST/PATH@DIGEST, HOST/PATH    images of the source
//	PATH:TAG, :TAG                                a tag below the target root
//	sha256:HEX, HEX                               content
//	NAME, NAME@VERSION                            a component, as the vendor calls it
//
// A host has a dot or a port, or is localhost. Kind: fault.Usage.
func Parse(text string) (Query, error) {
	q := Query{Text: strings.TrimSpace(text)}
	var err error
	switch {
	case strings.HasPrefix(q.Text, "sha256:"):
		q.Digest, err = oci.ParseDigest(q.Text)
	case hexRE.MatchString(q.Text):
		q.Digest, err = oci.ParseDigest("sha256:" + q.Text)
	case namesHost(q.Text):
		err = q.parseSource()
	case strings.Contains(q.Text, ":") && !strings.Contains(q.Text, "@"):
		err = q.parseTarget()
	default:
		err = q.parseComponent()
	}
	if err != nil {
		return Query{}, fault.New(fault.Usage, "", err).
			Hint("ask for HOST/PATH:TAG, HOST/PATH@sha256:HEX, PATH:TAG at the target, sha256:HEX, or a part such as platform@v1.70.1 or module/console")
	}
	return q, nil
}

func namesHost(text string) bool {
	host, _, ok := strings.Cut(text, "/")
	return ok && (strings.ContainsAny(host, ".:") || host == "localhost")
}

func (q *Query) parseSource() error {
	if strings.LastIndexByte(q.Text, ':') > strings.LastIndexByte(q.Text, '/') || strings.Contains(q.Text, "@") {
		ref, err := oci.ParseReference(q.Text)
		q.Source = ref
		return err
	}
	repo, err := oci.ParseRepository(q.Text)
	q.Source.Repository = repo
	return err
}

func (q *Query) parseTarget() error {
	path, tag, _ := strings.Cut(q.Text, ":")
	if path != "" && !oci.ValidPath(path) {
		return fault.Newf(fault.Usage, q.Text, "%q is not a repository path", path)
	}
	if !oci.ValidTag(tag) {
		return fault.Newf(fault.Usage, q.Text, "%q is not a tag", tag)
	}
	q.Target = &Target{path, tag}
	return nil
}

func (q *Query) parseComponent() error {
	name, version, versioned := strings.Cut(q.Text, "@")
	if !oci.ValidPath(name) {
		return fault.Newf(fault.Usage, q.Text, "%q is no name", name)
	}
	if versioned && !oci.ValidTag(version) {
		return fault.Newf(fault.Usage, q.Text, "%q is no version or tag", version)
	}
	q.Component, q.Version = name, version
	return nil
}

// ParseAll reads questions. Kind: fault.Usage.
func ParseAll(texts []string) ([]Query, error) {
	var out []Query
	for _, text := range texts {
		q, err := Parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, nil
}

// OfSource reports whether the question is about ref: that image, or all images
// of its repository.
func (q Query) OfSource(ref oci.Reference) bool {
	return q.Source.Path != "" && q.Source.Repository == ref.Repository &&
		(q.Source.Tag == "" || q.Source.Tag == ref.Tag) && (q.Source.Digest == "" || q.Source.Digest == ref.Digest)
}

// SameVersion reports whether tag is the version that is asked for, however it
// is spelled; "" asks for any.
func SameVersion(version, tag string) bool {
	if version == "" || version == tag {
		return true
	}
	v, ok := selection.ParseVersion(version)
	w, also := selection.ParseVersion(tag)
	return ok && also && v.Compare(w) == 0
}
