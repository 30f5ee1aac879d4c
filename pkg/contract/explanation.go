package contract

import (
	"fmt"

	"ferry/pkg/oci"
)

// ExplanationSpec says why images are carried, or are not. It is for people and
// scripts; no stage reads it.
type ExplanationSpec struct {
	// Vendor and Source are those of the document that was asked.
	Vendor string `json:"vendor"`
	Source string `json:"source"`
	// Answers are in the order of the questions; a question about several
	// images has several.
	Answers []Answer `json:"answers"`
}

// Decision is what became of something.
type Decision string

// The decisions.
const (
	// DecisionIn: it is carried.
	DecisionIn Decision = "in"
	// DecisionOut: it is not.
	DecisionOut Decision = "out"
	// DecisionUnknown: the document that was asked cannot tell.
	DecisionUnknown Decision = "unknown"
)

// Answer is what became of one thing, and why.
type Answer struct {
	// Query is the question as it was asked.
	Query string `json:"query"`
	// Decision is the answer in one word.
	Decision Decision `json:"decision"`
	// Subject is what the answer is about: an image of the source, or a part
	// of the product, "module/console@v1.40.0".
	Subject string `json:"subject"`
	// Reason is one sentence for people.
	Reason string `json:"reason"`
	// Rule is the number of the rule in the rule book, if there is one:
	// "S3.6.4".
	Rule string `json:"rule,omitempty"`
	// Target is where it lands below the target root, PATH:TAG.
	Target string `json:"target,omitempty"`
	// Archive is the archive that carries it.
	Archive string `json:"archive,omitempty"`
	// Digest is known where the document names images by digest.
	Digest oci.Digest `json:"digest,omitempty"`
}

// Kind is KindExplanation.
func (*ExplanationSpec) Kind() Kind { return KindExplanation }

// Normalize keeps the order of the answers, which is that of the questions.
func (s *ExplanationSpec) Normalize() {
	if s.Answers == nil {
		s.Answers = []Answer{}
	}
}

// Validate checks that every answer says something.
func (s *ExplanationSpec) Validate() error {
	if s.Vendor == "" {
		return fmt.Errorf("spec.vendor is empty")
	}
	for i, a := range s.Answers {
		where := fmt.Sprintf("spec.answers[%d]", i)
		if a.Query == "" || a.Subject == "" || a.Reason == "" {
			return fmt.Errorf("%s: query, subject and reason must not be empty", where)
		}
		switch a.Decision {
		case DecisionIn, DecisionOut, DecisionUnknown:
		default:
			return fmt.Errorf("%s: unknown decision %q", where, a.Decision)
		}
		if a.Digest != "" && !a.Digest.Valid() {
			return fmt.Errorf("%s: %q is not a sha256 digest", where, a.Digest)
		}
	}
	return nil
}
