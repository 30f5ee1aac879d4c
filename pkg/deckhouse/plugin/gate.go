package plugin

import (
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/selection"
)

// satisfied reports whether one of the versions meets the requirement. A range
// that cannot be read is met by none.
func satisfied(q contract.Requirement, versions []selection.Version) bool {
	r, err := selection.ParseRange(q.Constraint)
	return err == nil && slices.ContainsFunc(versions, r.Match)
}

// described is the requirement for people: "module pg >=1.0.0".
func described(q contract.Requirement) string {
	text := q.Kind
	if q.Name != "" {
		text += " " + q.Name
	}
	if q.Constraint != "" {
		text += " " + q.Constraint
	}
	return text
}

// relevantModules are the bundled modules for which the release is made: those
// that it names as mandatory or in an anyOf, sorted (S5.10.4).
func (r *resolver) relevantModules(rel Release) []string {
	var names []string
	for _, q := range slices.Concat(rel.of(NeedsModule, contract.Mandatory), rel.of(NeedsModule, contract.AnyOf)) {
		if _, bundled := r.Modules[q.Name]; bundled {
			names = append(names, q.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pairs tells why the release does not fit this version of a module, or nil
// (S5.10.5): the contract names the module, and accepts the version.
func pairs(rel Release, module string, v selection.Version) error {
	named := false
	for _, q := range slices.Concat(rel.of(NeedsModule, contract.Mandatory), rel.of(NeedsModule, contract.AnyOf)) {
		if q.Name != module {
			continue
		}
		if satisfied(q, []selection.Version{v}) {
			return nil
		}
		named = true
	}
	if named {
		return fmt.Errorf("it does not accept module %s %s", module, v.Tag())
	}
	return fmt.Errorf("it does not name module %s", module)
}

// gate tells what the release needs that the bundle does not hold, or nil
// (S5.10.5). The version of Kubernetes, and modules that must not be there, are
// for the cluster to judge.
func (r *resolver) gate(rel Release) error {
	for _, q := range rel.of(NeedsModule, contract.Mandatory) {
		if !satisfied(q, r.Modules[q.Name]) {
			return fmt.Errorf("it needs %s, which the bundle does not hold", described(q))
		}
	}
	for _, group := range rel.groups() {
		if !slices.ContainsFunc(group, func(q contract.Requirement) bool { return satisfied(q, r.Modules[q.Name]) }) {
			var members []string
			for _, q := range group {
				members = append(members, described(q))
			}
			return fmt.Errorf("it needs one of %s (anyOf %s), and the bundle holds none", strings.Join(members, ", "), group[0].Group)
		}
	}
	if len(r.Platform) == 0 {
		return nil
	}
	for _, q := range rel.of(NeedsDeckhouse, contract.Mandatory) {
		if !satisfied(q, r.Platform) {
			return fmt.Errorf("it needs %s, and the bundle holds %s", described(q), strings.Join(selection.Tags(r.Platform), ", "))
		}
	}
	return nil
}

// conditions warns of bundled modules and chosen plugins that a chosen release
// tolerates only in other versions (S5.10.11).
func (r *resolver) conditions() {
	chosen := map[string][]selection.Version{}
	for _, p := range r.picks {
		chosen[p.name] = append(chosen[p.name], p.release.Version)
	}
	for _, p := range r.picks {
		for kind, versions := range map[string]map[string][]selection.Version{NeedsModule: r.Modules, NeedsPlugin: chosen} {
			for _, q := range p.release.of(kind, contract.Conditional) {
				if there := versions[q.Name]; len(there) > 0 && !satisfied(q, there) {
					r.warn(p.name, "%s works with %s, and the bundle holds %s",
						p.release.Version.Tag(), described(q), strings.Join(selection.Tags(there), ", "))
				}
			}
		}
	}
}
