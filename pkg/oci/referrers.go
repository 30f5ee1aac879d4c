package oci

import "strings"

const referrersPrefix = "sha256-"

// ReferrersTag is the tag under which clients list the manifests that have d as
// their subject, at registries without the referrers API: an index, kept by whoever
// attaches something ("referrers tag schema" of the distribution-spec).
func ReferrersTag(d Digest) string { return referrersPrefix + d.Hex() }

// SubjectOfTag returns the digest for which tag is the ReferrersTag.
func SubjectOfTag(tag string) (Digest, bool) {
	hex, ok := strings.CutPrefix(tag, referrersPrefix)
	d := Digest(digestPrefix + hex)
	return d, ok && d.Valid()
}
