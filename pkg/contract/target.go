package contract

import (
	"cmp"
	"fmt"

	"ferry/pkg/oci"
)

// TargetSpec says what a registry can do, as small requests have found out.
// It is an observation: whoever acts on it later acts on what was true then.
type TargetSpec struct {
	// Target is the root that was asked about, HOST/PATH.
	Target string `json:"target"`
	// ReadOnly says that nothing was written to find out: what only a written
	// manifest or blob shows is unknown then.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Repositories are those that were asked whether they may be written to,
	// sorted.
	Repositories []RepositoryAccess `json:"repositories"`
	// Features are all that were asked for, sorted by name.
	Features []TargetFeature `json:"features"`
	// Depth is how many segments a repository's path may have, the target's own
	// counted; Length how many bytes.
	Depth  Bound `json:"depth"`
	Length Bound `json:"length"`
	// Names are forms of repository names that not every registry takes, sorted.
	Names []NameRule `json:"names"`
	// Body is how many bytes one request may carry.
	Body Bound `json:"body"`
	// ChunkMinimum is how many bytes each chunk of an upload but the last must
	// have (OCI-Chunk-Min-Length); 0 where the registry does not say.
	ChunkMinimum int64 `json:"chunkMinimum,omitempty"`
	// Leftovers are what the registry would not delete again, each in words that
	// name the place.
	Leftovers []string `json:"leftovers"`
}

// Verdict is what an answer of the registry says.
type Verdict string

// The verdicts.
const (
	VerdictYes Verdict = "yes"
	VerdictNo  Verdict = "no"
	// VerdictUnknown: a refusal that may have other reasons (401, 403, 429,
	// 5xx), no answer, or a question that could not be asked.
	VerdictUnknown Verdict = "unknown"
)

func (v Verdict) valid() bool { return v == VerdictYes || v == VerdictNo || v == VerdictUnknown }

// Evidence is what the registry answered.
type Evidence struct {
	// Status is that of HTTP; 0 when there was no answer, or nothing was asked.
	Status int `json:"status"`
	// Code is the error code of the distribution-spec, "NAME_INVALID".
	Code string `json:"code,omitempty"`
	// Text says more, for people.
	Text string `json:"text,omitempty"`
}

// RepositoryAccess is whether a repository may be written to.
type RepositoryAccess struct {
	// Repository is HOST/PATH.
	Repository string   `json:"repository"`
	Writable   Verdict  `json:"writable"`
	Evidence   Evidence `json:"evidence"`
}

// Feature names something that a registry may or may not do.
type Feature string

// The features.
const (
	// FeatureWrite: an upload begins in a new repository below the target.
	FeatureWrite Feature = "write"
	// FeatureCancel: an upload that was begun can be cancelled.
	FeatureCancel Feature = "cancel-upload"
	// FeatureChunks: a blob may come in several requests.
	FeatureChunks Feature = "chunks"
	// FeatureMount: a blob is taken over from another repository.
	FeatureMount Feature = "mount"
	// FeatureHead: HEAD of a manifest answers, and names the right digest.
	FeatureHead Feature = "head-digest"
	// FeatureTags: there is a list of tags, and it has what was written.
	FeatureTags Feature = "tag-list"
	// FeatureReferrers: the referrers API lists what is attached.
	FeatureReferrers Feature = "referrers-api"
	// FeatureTagParameter: a manifest that is put by digest takes its tag from
	// the query, and the answer says so (OCI-Tag).
	FeatureTagParameter Feature = "oci-tag"
	// FeatureOverwrite: a tag may get another manifest.
	FeatureOverwrite Feature = "tag-overwrite"
	// FeatureDeleteTag, FeatureDeleteManifest and FeatureDeleteBlob: it is
	// gone afterwards.
	FeatureDeleteTag      Feature = "delete-tag"
	FeatureDeleteManifest Feature = "delete-manifest"
	FeatureDeleteBlob     Feature = "delete-blob"
	// FeatureDeleteTagAlone: deleting a tag leaves others of its manifest.
	FeatureDeleteTagAlone Feature = "delete-tag-alone"
	// FeatureOCIImage and the following: a manifest of the kind is accepted.
	FeatureOCIImage    Feature = "oci-image"
	FeatureDockerImage Feature = "docker-image"
	FeatureOCIIndex    Feature = "oci-index"
	FeatureDockerIndex Feature = "docker-index"
	// FeatureSparseIndex is an index that names a manifest which is not there.
	FeatureSparseIndex Feature = "sparse-index"
	// FeatureArtifact is one with config and layer types of its own.
	FeatureArtifact Feature = "artifact"
	// FeatureBareConfig is an image whose config says nothing of its layers.
	FeatureBareConfig Feature = "bare-config"
	// FeatureSubject and FeatureDockerSubject are attached to an OCI image, and
	// to a Docker one.
	FeatureSubject       Feature = "subject"
	FeatureDockerSubject Feature = "docker-subject"
)

// TargetFeature is whether the registry has a feature.
type TargetFeature struct {
	Feature  Feature  `json:"feature"`
	Has      Verdict  `json:"has"`
	Evidence Evidence `json:"evidence"`
}

// Bound is a limit that was looked for, between what was accepted and what was
// not.
type Bound struct {
	// Accepted is the most that was accepted; 0 where nothing was.
	Accepted int64 `json:"accepted"`
	// Refused is the least that was refused; 0 where nothing was.
	Refused int64 `json:"refused,omitempty"`
	// Verdict is whether Refused is over the limit: no says that it is,
	// unknown that the refusal may have other reasons; yes where all that was
	// asked for was accepted.
	Verdict  Verdict  `json:"verdict"`
	Evidence Evidence `json:"evidence"`
}

// NameForm is a form of repository names.
type NameForm string

// The forms.
const (
	NameDot              NameForm = "dot"               // a.b
	NameUnderscore       NameForm = "underscore"        // a_b
	NameDoubleUnderscore NameForm = "double-underscore" // a__b
	NameDashes           NameForm = "dashes"            // a--b
	NameLeadingDigit     NameForm = "leading-digit"     // 0a
	NameDigits           NameForm = "digits"            // a segment of digits alone
	NameOneLetter        NameForm = "one-letter"        // a segment of one letter
)

// NameRule is whether names of a form are accepted.
type NameRule struct {
	Form NameForm `json:"form"`
	// Example is the repository that was asked about, HOST/PATH.
	Example  string   `json:"example"`
	Accepted Verdict  `json:"accepted"`
	Evidence Evidence `json:"evidence"`
}

// Has returns what is known of a feature; unknown for one that was not asked for.
func (s *TargetSpec) Has(f Feature) Verdict {
	for _, known := range s.Features {
		if known.Feature == f {
			return known.Has
		}
	}
	return VerdictUnknown
}

// Kind is KindTarget.
func (*TargetSpec) Kind() Kind { return KindTarget }

// Normalize sorts all lists.
func (s *TargetSpec) Normalize() {
	s.Repositories = sortedBy(s.Repositories, func(a, b RepositoryAccess) int { return cmp.Compare(a.Repository, b.Repository) })
	s.Features = sortedBy(s.Features, func(a, b TargetFeature) int { return cmp.Compare(a.Feature, b.Feature) })
	s.Names = sortedBy(s.Names, func(a, b NameRule) int { return cmp.Compare(a.Form, b.Form) })
	s.Leftovers = sortedBy(s.Leftovers, cmp.Compare[string])
}

// Validate checks names and verdicts.
func (s *TargetSpec) Validate() error {
	if _, err := oci.ParseRepository(s.Target); err != nil {
		return fmt.Errorf("spec.target: %w", err)
	}
	for i, r := range s.Repositories {
		if _, err := oci.ParseRepository(r.Repository); err != nil {
			return fmt.Errorf("spec.repositories[%d]: %w", i, err)
		}
		if !r.Writable.valid() {
			return fmt.Errorf("spec.repositories[%d]: unknown verdict %q", i, r.Writable)
		}
	}
	for i, f := range s.Features {
		if f.Feature == "" || !f.Has.valid() || i > 0 && s.Features[i-1].Feature == f.Feature {
			return fmt.Errorf("spec.features[%d]: feature %q with the verdict %q, or it stands twice", i, f.Feature, f.Has)
		}
	}
	for i, n := range s.Names {
		if n.Form == "" || !n.Accepted.valid() {
			return fmt.Errorf("spec.names[%d]: form %q with the verdict %q", i, n.Form, n.Accepted)
		}
	}
	for name, b := range map[string]Bound{"depth": s.Depth, "length": s.Length, "body": s.Body} {
		if !b.Verdict.valid() || b.Accepted < 0 || b.Refused < 0 || b.Refused > 0 && b.Refused <= b.Accepted {
			return fmt.Errorf("spec.%s: %d accepted, %d refused, verdict %q", name, b.Accepted, b.Refused, b.Verdict)
		}
	}
	if s.ChunkMinimum < 0 {
		return fmt.Errorf("spec.chunkMinimum: %d is negative", s.ChunkMinimum)
	}
	return nil
}
