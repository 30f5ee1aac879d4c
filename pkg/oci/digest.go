// Package oci holds the few facts of the OCI image-spec and distribution-spec
// that every other package speaks: digests, descriptors, references, and what
// a manifest refers to. It parses strictly and keeps bytes as they came, for a
// digest names bytes, not their meaning. It imports the standard library only.
package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest is "sha256:" and 64 lowercase hex digits. Other algorithms are
// refused by ParseDigest: no registry of this field serves them, and a store
// that cannot check a digest must not pretend to.
type Digest string

const digestPrefix = "sha256:"

// ParseDigest checks s and returns it as a Digest. A digest becomes part of
// paths and URLs, so nothing but the exact form passes
// (containers/image CVE-2024-3727 let "sha256:../../x" through).
func ParseDigest(s string) (Digest, error) {
	if d := Digest(s); d.Valid() {
		return d, nil
	}
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return "", fmt.Errorf("%q is not a sha256 digest", s)
}

// Valid reports whether d has the exact form of a sha256 digest.
func (d Digest) Valid() bool {
	hexpart, ok := strings.CutPrefix(string(d), digestPrefix)
	if !ok || len(hexpart) != sha256.Size*2 {
		return false
	}
	for _, c := range []byte(hexpart) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Hex returns the 64 hex digits; d must be valid.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), digestPrefix) }

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return DigestFromSum(sum[:])
}

// DigestFromSum returns the digest for the 32 bytes that a sha256 hash's Sum
// gave.
func DigestFromSum(sum []byte) Digest { return Digest(digestPrefix + hex.EncodeToString(sum)) }

// Descriptor names content by digest and size (bytes), with its media type.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    Digest `json:"digest"`
	Size      int64  `json:"size"`
}
