package deckhouse

import (
	"ferry/pkg/fault"
	"ferry/pkg/selection"
)

// fates are what a selector decided against, and why, for Explain. Select makes
// them too, and nobody reads them then: there is one decision, not two.
type fates struct {
	passed []fate
	left   map[string]fate // components that are not wanted at all
	rest   map[string]fate // of components: tags that nothing was said about
	// refused are the components that could not be decided. Only Explain has
	// it; where it is nil, the first failure is the selector's.
	refused map[string]error
}

// fate is what became of a tag of a component.
type fate struct{ component, tag, reason, rule string }

// passOver notes that a version or channel was looked at and not taken.
func (f *fates) passOver(component, tag, reason, rule string) {
	f.passed = append(f.passed, fate{component, tag, reason, rule})
}

// leaveOut notes that nothing of a component is wanted.
func (f *fates) leaveOut(component, reason, rule string) {
	if f.left == nil {
		f.left = map[string]fate{}
	}
	f.left[component] = fate{component: component, reason: reason, rule: rule}
}

// others notes why no tag of a component is wanted but those that were taken or
// passed over.
func (f *fates) others(component, reason, rule string) {
	if f.rest == nil {
		f.rest = map[string]fate{}
	}
	f.rest[component] = fate{component: component, reason: reason, rule: rule}
}

// failed notes that a component could not be decided, and returns err where
// that ends the selection.
func (f *fates) failed(component string, err error) error {
	if err == nil || f.refused == nil || fault.KindOf(err) == fault.Usage {
		return err
	}
	f.refused[component] = err
	return nil
}

// passOverUnpicked notes why the listed versions that were not picked were not.
func (s *selector) passOverUnpicked(component string, tags []string, include selection.Choice, picked []selection.Version) {
	if len(include.Ranges()) == 0 {
		return
	}
	var matching []selection.Version
	for _, v := range selection.ParseVersions(tags) {
		if include.Match(v) {
			matching = append(matching, v)
		} else {
			s.fates.passOver(component, v.Tag(), include.String()+" does not match it", "S3.3.2")
		}
	}
	s.passOverOlder(component, matching, picked)
}

// passOverOlder notes which version was taken in the place of those that fit and
// were not picked.
func (s *selector) passOverOlder(component string, fitting, picked []selection.Version) {
	taken := map[string]bool{}
	for _, v := range picked {
		taken[v.Tag()] = true
	}
	for _, v := range fitting {
		if taken[v.Tag()] {
			continue
		}
		if other, ok := v.Instead(picked); ok && other.Compare(v) == 0 {
			s.fates.passOver(component, v.Tag(), "it is the same version as "+other.Tag()+", which was taken", "S3.3.5")
		} else if ok {
			s.fates.passOver(component, v.Tag(), other.Tag()+" is a later patch of "+v.Minor()+", and was taken", "S3.3.3")
		}
	}
}
