// Package plugin decides which plugins of the d8 command line go with a bundle.
// Every version of a plugin says in its contract (S1.8) what it needs of the
// cluster; [Resolve] chooses the newest versions whose needs are met (S5.10).
//
// The package is pure: it knows contracts, modules and versions, and neither
// registries nor documents beyond the form in which a Catalog holds contracts.
// Package discovery reads the contracts, package deckhouse hands them over.
package plugin

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/selection"

	"sigs.k8s.io/yaml"
)

// Annotation is the key under which a manifest carries the contract (S1.8.1).
const Annotation = "contract"

// Kinds of requirements in a Catalog.
const (
	NeedsModule     = "module"
	NeedsPlugin     = "plugin"
	NeedsDeckhouse  = "deckhouse"
	NeedsKubernetes = "kubernetes"
)

// nameRE is the grammar of names (S1.8.7).
var nameRE = regexp.MustCompile(`^[a-z0-9]+(?:[._-][a-z0-9]+)*$`)

// ValidName reports whether a plugin can have this name (S1.8.7).
func ValidName(name string) bool { return nameRE.MatchString(name) }

// text is a contract as published (S1.8.3). What it says of environment, flags
// and its own name is for d8, and passed over.
type text struct {
	Requirements struct {
		Kubernetes version `json:"kubernetes"`
		Deckhouse  version `json:"deckhouse"`
		Modules    needs   `json:"modules"`
		Plugins    needs   `json:"plugins"`
	} `json:"requirements"`
}

type version struct {
	Constraint string `json:"constraint"`
}

type needs struct {
	Mandatory   []member `json:"mandatory"`
	Conditional []member `json:"conditional"`
	AnyOf       []group  `json:"anyOf"`
	NoneOf      []group  `json:"noneOf"`
}

type member struct {
	Name       string `json:"name"`
	Constraint string `json:"constraint"`
}

type group struct {
	Name    string   `json:"name"`
	Modules []member `json:"modules"`
}

// ParseContract reads the value of the annotation. An empty one is that of a
// plugin without needs (S1.8.2). JSON is meant; YAML, of which JSON is a part, is
// read as well (S1.8.1). An error says that the contract cannot be read,
// or breaks the rules of S1.8.5; it is a fault of the content, and has no kind.
func ParseContract(annotation string) ([]contract.Requirement, error) {
	annotation = strings.TrimSpace(annotation)
	if annotation == "" {
		return nil, nil
	}
	body, err := base64.StdEncoding.DecodeString(annotation)
	if err != nil {
		return nil, errors.New("the contract is not base64")
	}
	var t text
	if err := yaml.Unmarshal(body, &t); err != nil {
		return nil, fmt.Errorf("the contract is not what a contract says: %w", err)
	}
	if err := wellFormed(t.Requirements.Modules); err != nil {
		return nil, fmt.Errorf("the contract contradicts itself: %w", err)
	}
	return flatten(t), nil
}

// wellFormed applies S1.8.5.
func wellFormed(modules needs) error {
	place := map[string]string{} // of modules outside of groups
	for _, list := range []struct {
		mode    contract.RequirementMode
		members []member
	}{{contract.Mandatory, modules.Mandatory}, {contract.Conditional, modules.Conditional}} {
		for _, m := range list.members {
			if m.Name == "" {
				return fmt.Errorf("a module in %s has no name", list.mode)
			}
			if other := place[m.Name]; other != "" && other != string(list.mode) {
				return fmt.Errorf("module %s is in %s and in %s", m.Name, other, list.mode)
			}
			place[m.Name] = string(list.mode)
		}
	}
	for _, bucket := range []struct {
		mode   contract.RequirementMode
		groups []group
	}{{contract.AnyOf, modules.AnyOf}, {contract.NoneOf, modules.NoneOf}} {
		if err := wellFormedGroups(bucket.mode, bucket.groups, place); err != nil {
			return err
		}
	}
	return nil
}

// wellFormedGroups checks one bucket, and adds its modules to place. A module may
// stand in several groups of the bucket, and in no other place.
func wellFormedGroups(mode contract.RequirementMode, groups []group, place map[string]string) error {
	names := map[string]bool{}
	for _, g := range groups {
		if g.Name == "" || names[g.Name] {
			return fmt.Errorf("%s has groups without a name of their own", mode)
		}
		names[g.Name] = true
		if len(g.Modules) == 0 {
			return fmt.Errorf("group %s of %s has no members", g.Name, mode)
		}
		members := map[string]bool{}
		for _, m := range g.Modules {
			if m.Name == "" || members[m.Name] {
				return fmt.Errorf("group %s of %s has members without a name of their own", g.Name, mode)
			}
			members[m.Name] = true
			if _, err := selection.ParseRange(m.Constraint); err != nil {
				return fmt.Errorf("module %s of group %s: %w", m.Name, g.Name, err)
			}
			if other := place[m.Name]; other != "" && other != string(mode) {
				return fmt.Errorf("module %s is in %s and in %s", m.Name, other, mode)
			}
			place[m.Name] = string(mode)
		}
	}
	return nil
}

func flatten(t text) []contract.Requirement {
	var out []contract.Requirement
	for _, need := range []struct {
		kind string
		version
	}{{NeedsDeckhouse, t.Requirements.Deckhouse}, {NeedsKubernetes, t.Requirements.Kubernetes}} {
		if need.Constraint != "" {
			out = append(out, contract.Requirement{Kind: need.kind, Mode: contract.Mandatory, Constraint: need.Constraint})
		}
	}
	for _, of := range []struct {
		kind string
		needs
	}{{NeedsModule, t.Requirements.Modules}, {NeedsPlugin, t.Requirements.Plugins}} {
		add := func(mode contract.RequirementMode, group string, members []member) {
			for _, m := range members {
				out = append(out, contract.Requirement{Kind: of.kind, Mode: mode, Group: group, Name: m.Name, Constraint: m.Constraint})
			}
		}
		add(contract.Mandatory, "", of.Mandatory)
		add(contract.Conditional, "", of.Conditional)
		if of.kind == NeedsPlugin {
			continue // plugins have no groups
		}
		for _, g := range of.AnyOf {
			add(contract.AnyOf, g.Name, g.Modules)
		}
		for _, g := range of.NoneOf {
			add(contract.NoneOf, g.Name, g.Modules)
		}
	}
	return out
}
