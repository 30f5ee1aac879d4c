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
	hostRE = regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)
)

// ValidTag reports whether tag fits the grammar of distribution-spec. Every stage
// asks it of every image.
func ValidTag(tag string) bool {
	if tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	for i := range len(tag) {
		if c := tag[i]; !isLowerOrDigit(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// IsAttestationTag reports whether tag is that of an attestation: what is
// attached to another image under cosign's tag scheme, "sha256-HEX.att".
func IsAttestationTag(tag string) bool { return strings.HasSuffix(tag, ".att") }

// ValidPath reports whether path is a repository name by the grammar of
// distribution-spec: words of lower-case letters and digits, between them a slash
// or a separator. It has at most 255 bytes, which keeps it out of trouble with
// file systems.
func ValidPath(path string) bool {
	if path == "" || len(path) > 255 {
		return false
	}
	for {
		word := 0
		for word < len(path) && isLowerOrDigit(path[word]) {
			word++
		}
		path = path[word:]
		if word == 0 || path == "" {
			return word > 0
		}
		separator := separatorLength(path)
		if separator == 0 {
			return false
		}
		path = path[separator:]
	}
}

// separatorLength is that of "/", ".", "_", "__" or any number of dashes at the
// beginning of s, 0 where there is none.
func separatorLength(s string) int {
	switch s[0] {
	case '/', '.':
		return 1
	case '_':
		if strings.HasPrefix(s, "__") {
			return 2
		}
		return 1
	}
	return len(s) - len(strings.TrimLeft(s, "-"))
}

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
