package deckhouse

import (
	"fmt"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/deckhouse/plugin"
	"ferry/pkg/explain"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/selection"
)

// Explain tells for each question what Select decides over the catalog, and
// why. The reasons are noted by the decision itself. What a failure of Select
// would end with is the answer for the part that it is about; the other parts
// are decided all the same.
//
// Kinds: fault.Usage for a policy that cannot be carried out and for a question
// about no part of an edition, fault.Damaged for a catalog of another vendor or
// source.
func Explain(cat contract.CatalogSpec, p Policy, queries []explain.Query) ([]contract.Answer, error) {
	if err := CheckQueries(queries); err != nil {
		return nil, err
	}
	s, err := newSelection(cat, p)
	if err != nil {
		return nil, err
	}
	s.fates.refused = map[string]error{}
	if err := s.decide(); err != nil {
		return nil, err
	}
	var out []contract.Answer
	for _, q := range queries {
		out = append(out, question{Query: q, s: s}.answers()...)
	}
	return out, nil
}

// CheckQueries refuses questions about what no edition has. Kind: fault.Usage.
func CheckQueries(queries []explain.Query) error {
	for _, q := range queries {
		if q.Component != "" && !isComponent(q.Component) {
			return fault.Newf(fault.Usage, q.Text, "an edition has no part of this name").
				Hint("parts are platform, security, installer, deckhouse-cli, module/NAME, package/NAME and plugin/NAME; a target is PATH:TAG")
		}
	}
	return nil
}

func isComponent(name string) bool {
	switch name {
	case ComponentPlatform, componentSecurity, componentInstaller, ComponentCLI, packageVersions:
		return true
	}
	_, _, addOn := familyOf(name)
	return addOn || isPlugin(name)
}

// isPlugin reports whether a component is a plugin of d8.
func isPlugin(component string) bool {
	name, ok := strings.CutPrefix(component, PluginComponent(""))
	return ok && plugin.ValidName(name)
}

// familyOf splits the component of an add-on.
func familyOf(component string) (Family, string, bool) {
	for _, f := range Families() {
		if name, ok := strings.CutPrefix(component, f.one+"/"); ok && name != "" && !strings.Contains(name, "/") {
			return f, name, true
		}
	}
	return Family{}, "", false
}

// ComponentOf is the component that has the repository at path below the target
// root, "" for none.
func ComponentOf(path string) string {
	first, rest, _ := strings.Cut(path, "/")
	switch first {
	case "", "install", "install-standalone", "release-channel":
		if rest == "" {
			return ComponentPlatform
		}
	case componentSecurity, componentInstaller:
		return first
	case cliPath:
		if name, ok := strings.CutPrefix(path, pluginsPath+"/"); ok {
			return PluginComponent(name)
		}
		if rest == "" {
			return ComponentCLI
		}
	}
	for _, f := range Families() {
		if name, _, _ := strings.Cut(rest, "/"); first == f.many && name != "" {
			return f.Member(name)
		}
	}
	return ""
}

// target is where a repository of the source lands below the target root.
func (l Layout) target(repo oci.Repository) (string, bool) {
	switch repo {
	case l.installer():
		return componentInstaller, true
	case l.CLI():
		return cliPath, true
	case l.PluginCatalogue():
		return pluginsPath, true
	case l.Edition:
		return "", true
	}
	if name, ok := strings.CutPrefix(repo.String(), l.PluginCatalogue().String()+"/"); ok {
		return pluginsPath + "/" + name, true
	}
	path, below := strings.CutPrefix(repo.Path, l.Edition.Path+"/")
	if !below || repo.Host != l.Edition.Host {
		return "", false
	}
	if ComponentOf(path) == ComponentPlatform || strings.HasPrefix(path, componentSecurity+"/") || strings.HasPrefix(path+"/", Packages.many+"/") {
		return path, true
	}
	inModules, ok := strings.CutPrefix("/"+path, strings.TrimSuffix("/"+l.modules, "/"))
	if !ok || inModules != "" && inModules[0] != '/' {
		return "", false
	}
	return Modules.many + inModules, true
}

// question is one question, and the selector that has decided.
type question struct {
	explain.Query
	s *selector

	component string // "" is none
	path      string // below the target root; "" may stand for all of the component
	tag       string // "" asks for all
}

func (q question) answers() []contract.Answer {
	if q.Query.Digest != "" {
		return []contract.Answer{q.Inside()}
	}
	if !q.locate() {
		return []contract.Answer{q.Answer(contract.DecisionOut, q.Text, "it is no repository of an edition of which anything is carried", "S1.2")}
	}
	if q.Source.Digest != "" && q.tag == "" {
		return []contract.Answer{q.absent()}
	}
	found := explain.Wanted(&q.s.out, q.Query, ComponentOf)
	decided := len(found) > 0
	if q.Component != "" && q.Component != packageVersions {
		// That a package's versions are listed says nothing of the package.
		decided = slices.ContainsFunc(found, func(a contract.Answer) bool { return a.Archive != packageVersions })
	}
	if q.tag != "" && decided {
		return found
	}
	passed := q.passed()
	if !decided && len(passed) == 0 {
		passed = append(passed, q.absent())
	}
	return append(found, passed...)
}

// locate finds the component, path and tag that are asked for.
func (q *question) locate() bool {
	switch {
	case q.Component != "":
		q.component, q.tag = q.Component, q.Version
		return true
	case q.Target != nil:
		q.path, q.tag = q.Target.Path, q.Target.Tag
	default:
		path, ok := q.s.layout.target(q.Source.Repository)
		if !ok {
			return false
		}
		q.path, q.tag = path, q.Source.Tag
	}
	member := map[string]func(name string) string{
		Modules.many: Modules.Member, Packages.many: Packages.Member, pluginsPath: PluginComponent,
	}[q.path]
	if member == nil {
		q.component = ComponentOf(q.path)
		return q.component != ""
	}
	if q.tag == "" {
		return false
	}
	// A catalogue: its tags are names.
	q.component, q.path, q.tag = member(q.tag), "", ""
	q.Query.Component, q.Query.Target, q.Query.Source = q.component, nil, oci.Reference{}
	return true
}

func (q question) out(f fate) contract.Answer {
	subject := q.component
	if f.tag != "" {
		subject += "@" + f.tag
	} else if q.tag != "" {
		subject += "@" + q.tag
	}
	return q.Answer(contract.DecisionOut, subject, f.reason, f.rule)
}

// passed are the versions and channels that were looked at and not taken.
func (q question) passed() []contract.Answer {
	var out []contract.Answer
	seen := map[string]bool{}
	for _, f := range q.s.fates.passed {
		if f.component == q.component && explain.SameVersion(q.tag, f.tag) && !seen[f.tag] && !q.wants(f.tag) {
			seen[f.tag] = true
			out = append(out, q.out(f))
		}
	}
	return out
}

// wants reports whether some image of the component has the tag: what one rule
// passed over another may have taken.
func (q question) wants(tag string) bool {
	return slices.ContainsFunc(q.s.out.Images, func(im contract.SelectedImage) bool {
		return im.Tag == tag && ComponentOf(im.Path) == q.component && im.Archive != packageVersions
	})
}

// absent answers where nothing was decided about the tag itself. The first that
// has something to say is asked no further.
func (q question) absent() contract.Answer {
	for _, says := range []func() (contract.Answer, bool){
		q.leftOut, q.failed, q.attached, q.inside, q.neverCarried, q.notAtSource, q.unmatched, q.otherwise,
	} {
		if a, ok := says(); ok {
			return a
		}
	}
	return q.unknown("the Catalog does not tell what the source has of it", "")
}

func (q question) unknown(reason, rule string) contract.Answer {
	return q.Answer(contract.DecisionUnknown, q.Text, reason, rule)
}

// leftOut: the component is not wanted, or is not there.
func (q question) leftOut() (contract.Answer, bool) {
	s := q.s
	f, name, addOn := familyOf(q.component)
	if left, ok := s.fates.left[f.many]; ok && addOn {
		return q.out(left), true
	}
	if left, ok := s.fates.left[q.component]; ok {
		return q.out(left), true
	}
	if !addOn {
		return contract.Answer{}, false
	}
	row := s.rows[s.layout.Catalogue(f).String()]
	if names := Names(row.Tags); row.Listed && !slices.Contains(names, name) {
		reason := fmt.Sprintf("the source has no %s %q", f.one, name)
		if guesses := near(name, names); len(guesses) > 0 {
			reason += "; it has " + quoted(guesses)
		}
		return q.out(fate{reason: reason, rule: "S3.4.1"}), true
	}
	filter := s.filter(f)
	if _, _, chosen := filter.choose(name); !chosen {
		return q.out(fate{reason: filter.unchosen(), rule: "S3.4.1"}), true
	}
	return contract.Answer{}, false
}

// failed: the component cannot be decided.
func (q question) failed() (contract.Answer, bool) {
	f, _, _ := familyOf(q.component)
	shared := f.many
	if isPlugin(q.component) {
		shared = ComponentPlugins
	}
	for _, component := range []string{q.component, shared} {
		err, ok := q.s.fates.refused[component]
		if !ok {
			continue
		}
		reason := err.Error()
		if hint := fault.HintOf(err); hint != "" {
			reason += " (" + hint + ")"
		}
		if fault.KindOf(err) == fault.Policy {
			return q.out(fate{reason: "select refuses: " + reason}), true
		}
		return q.unknown(reason, ""), true
	}
	return contract.Answer{}, false
}

// attached: attestations, or all that is attached to images, may be left out.
func (q question) attached() (contract.Answer, bool) {
	attestation := strings.HasSuffix(q.tag, ".att")
	switch {
	case q.s.SkipVEX && attestation:
		return q.out(fate{reason: "--skip-vex-images leaves attestations out", rule: "S1.7"}), true
	case q.s.SkipAttachments && explain.Attached(q.tag) && !attestation:
		return q.out(fate{reason: "--skip-attachments leaves out what is attached to images", rule: "S1.7.4"}), true
	}
	return contract.Answer{}, false
}

// inside: only other images can name it.
func (q question) inside() (contract.Answer, bool) {
	carried := slices.ContainsFunc(q.s.out.Images, func(im contract.SelectedImage) bool { return ComponentOf(im.Path) == q.component })
	if !q.NamedInside() && !strings.Contains(q.path, "/extra/") || !carried {
		return contract.Answer{}, false
	}
	return q.Inside(), true
}

// neverCarried: two repositories have channels that are not read (S3.9.4).
func (q question) neverCarried() (contract.Answer, bool) {
	if q.Component == "" && (q.path == "" || q.path == "install-standalone") && IsChannel(q.tag) {
		return q.out(fate{reason: "channels of this repository are not carried: a later pull would look for them", rule: "S3.9.4"}), true
	}
	return contract.Answer{}, false
}

// notAtSource: the source was looked at, and does not have it.
func (q question) notAtSource() (contract.Answer, bool) {
	versions, releases := q.rows()
	if IsChannel(q.tag) {
		if _, read := q.s.rows[releases.Repository]; read && !slices.Contains(releases.Tags, q.tag) && !q.exact() {
			return q.out(fate{reason: "the source has no such channel", rule: "S3.5"}), true
		}
		return contract.Answer{}, false
	}
	v, isVersion := selection.ParseVersion(q.tag)
	if !isVersion || slices.ContainsFunc(slices.Concat(versions.Tags, releases.Tags), func(tag string) bool { return explain.SameVersion(q.tag, tag) }) {
		return contract.Answer{}, false
	}
	if versions.Listed {
		return q.out(fate{reason: "the source has no such tag: " + versions.Repository + " does not list it", rule: "S3.3.1"}), true
	}
	if include := q.include(); len(versions.Probed) > 0 && include.Match(v) {
		return q.out(fate{reason: "the source has no such tag, or it lies behind a larger gap than the search stepped over", rule: "S4.5"}), true
	}
	return contract.Answer{}, false
}

// rows are those that tell the versions of the component, and its channels.
func (q question) rows() (versions, releases contract.CatalogRepository) {
	l := q.s.layout
	if f, name, ok := familyOf(q.component); ok {
		return q.s.rows[l.Main(f, name).String()], q.s.rows[l.Release(f, name).String()]
	}
	if q.component == ComponentPlatform {
		row := q.s.rows[l.ReleaseChannel().String()]
		return row, row
	}
	return versions, releases
}

// include is what the policy says about the component's versions.
func (q question) include() selection.Choice {
	if f, name, ok := familyOf(q.component); ok {
		include, _, _ := q.s.filter(f).choose(name)
		return include
	}
	if q.component == ComponentPlatform {
		return q.s.include
	}
	return selection.Choice{}
}

// exact reports whether the policy names tags alone, so that channels are made
// and not read.
func (q question) exact() bool {
	return q.include().Exact() || q.component == ComponentPlatform && q.s.pin != ""
}

// unmatched: no list is needed to tell that a version does not fit.
func (q question) unmatched() (contract.Answer, bool) {
	include := q.include()
	if v, ok := selection.ParseVersion(q.tag); ok && include.Ranged() && !include.Match(v) {
		return q.out(fate{reason: include.String() + " does not match it", rule: "S3.3.2"}), true
	}
	return contract.Answer{}, false
}

// otherwise: what the decision said about all other tags.
func (q question) otherwise() (contract.Answer, bool) {
	rest, ok := q.s.fates.rest[q.component]
	if !ok && isPlugin(q.component) {
		rest, ok = q.s.fates.rest[ComponentPlugins]
	}
	return q.out(rest), ok
}
