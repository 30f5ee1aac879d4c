package oci

import (
	"fmt"
	"regexp"
	"strings"
)

// Repository is a repository with its registry: "host[:port]/path".
type Repository struct {
	Host string
	Path string // may be "" only while a root is being joined
}

// Reference is a repository with a tag, a digest, or both.
type Reference struct {
	Repository
	Tag    string
	Digest Digest
}

var (
	// The grammar of distribution-spec, plus upper bounds that keep names
	// out of trouble with file systems.
	pathRE = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	hostRE = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)
)

// ValidTag reports whether tag fits the grammar of distribution-spec.
func ValidTag(tag string) bool { return tagRE.MatchString(tag) }

// IsAttestationTag reports whether tag is that of an attestation: what is
// attached to another image under cosign's tag scheme, "sha256-HEX.att".
func IsAttestationTag(tag string) bool { return strings.HasSuffix(tag, ".att") }

// ValidPath reports whether path is a repository name (at most 255 bytes).
func ValidPath(path string) bool { return len(path) <= 255 && pathRE.MatchString(path) }

// ParseRepository parses "host[:port]/path". The first segment is always the
// host: a closed network has no default registry to fall back to.
func ParseRepository(s string) (Repository, error) {
	host, path, ok := strings.Cut(s, "/")
	if !ok || path == "" {
		return Repository{}, fmt.Errorf("%q: a repository is HOST[:PORT]/PATH", s)
	}
	if !hostRE.MatchString(host) {
		return Repository{}, fmt.Errorf("%q: %q is not a registry host", s, host)
	}
	if !ValidPath(path) {
		return Repository{}, fmt.Errorf("%q: %q is not a repository name (lower-case letters, digits and . _ - /)", s, path)
	}
	return Repository{Host: host, Path: path}, nil
}

// String is the inverse of ParseRepository.
func (r Repository) String() string {
	if r.Path == "" {
		return r.Host
	}
	return r.Host + "/" + r.Path
}

// Join returns the repository at the relative path below r. An empty path is r
// itself.
func (r Repository) Join(path string) Repository {
	switch {
	case path == "":
	case r.Path == "":
		r.Path = path
	default:
		r.Path += "/" + path
	}
	return r
}

// WithTag and WithDigest refer to one image of r.
func (r Repository) WithTag(tag string) Reference { return Reference{Repository: r, Tag: tag} }

// WithDigest refers to the content of r that digest names.
func (r Repository) WithDigest(d Digest) Reference { return Reference{Repository: r, Digest: d} }

// ParseReference parses "host/path:tag", "host/path@digest" or both. A
// reference without tag and digest is refused: "latest" is never guessed.
func ParseReference(s string) (Reference, error) {
	rest, digest, hasDigest := strings.Cut(s, "@")
	var ref Reference
	if hasDigest {
		d, err := ParseDigest(digest)
		if err != nil {
			return Reference{}, fmt.Errorf("reference %q: %w", s, err)
		}
		ref.Digest = d
	}
	// The tag follows the last colon behind the last slash: a host may
	// carry a port (S1.7.1).
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		ref.Tag = rest[i+1:]
		rest = rest[:i]
		if !ValidTag(ref.Tag) {
			return Reference{}, fmt.Errorf("reference %q: %q is not a tag", s, ref.Tag)
		}
	}
	if ref.Tag == "" && ref.Digest == "" {
		return Reference{}, fmt.Errorf("reference %q has neither tag nor digest", s)
	}
	repo, err := ParseRepository(rest)
	if err != nil {
		return Reference{}, fmt.Errorf("reference %w", err)
	}
	ref.Repository = repo
	return ref, nil
}

// String is the inverse of ParseReference.
func (r Reference) String() string {
	s := r.Repository.String()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}
