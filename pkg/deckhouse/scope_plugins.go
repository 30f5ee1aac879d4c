package deckhouse

import (
	"slices"

	"ferry/pkg/deckhouse/plugin"
)

// platformPlugins go with the platform, whatever the modules (S5.9.3).
var platformPlugins = [...]string{"package", "system"}

// choosesPlugins reports whether plugins are chosen besides the included ones.
func (in *intent) choosesPlugins() bool {
	return !in.ProxyRegistry && !in.NoPlugins && !in.OnlyExtraImages
}

// carriesCLI reports whether d8 itself is carried (S5.1).
func (in *intent) carriesCLI() bool { return !in.NoDeckhouseCLI && !in.OnlyExtraImages }

// standingPlugins are those that go with what is carried of the platform.
func (in *intent) standingPlugins() []string {
	if in.choosesPlugins() && !in.NoPlatform {
		return platformPlugins[:]
	}
	return nil
}

// PluginLook is what there is to ask about plugins, besides the contracts of
// their versions and the plugins that those depend on.
type PluginLook struct {
	// Catalogue: all plugins that the catalogue names.
	Catalogue bool
	// Plugins, each once, whether or not the catalogue names them.
	Plugins []PluginWish
}

// PluginWish is one plugin to look at.
type PluginWish struct {
	Name string
	// Needed: somebody asked for it by more than exact versions, so its tag
	// list must not be refused.
	Needed bool
	// Pins are exact versions to look for where there is no tag list, each
	// under the spellings that it may have, the best first.
	Pins [][]string
}

// Plugins tells what is needed to know about plugins. modules are the names in
// the modules' catalogue, none when no modules are wanted: without one that is
// chosen nobody asks which plugins there are (S5.10.1).
func (s Scope) Plugins(modules []string) PluginLook {
	var look PluginLook
	if s.in.choosesPlugins() {
		look.Catalogue = slices.ContainsFunc(modules, func(name string) bool {
			_, _, ok := s.in.modules.choose(name)
			return ok
		})
	}
	for _, c := range s.in.plugins {
		wish := PluginWish{Name: c.Name, Needed: !c.Exact()}
		for _, tag := range c.ExactTags() {
			wish.Pins = append(wish.Pins, spellings(tag))
		}
		look.Plugins = append(look.Plugins, wish)
	}
	for _, name := range s.in.standingPlugins() {
		if _, included := choiceOf(s.in.plugins, name); !included {
			look.Plugins = append(look.Plugins, PluginWish{Name: name})
		}
	}
	return look
}

// CLI tells whether d8 is looked at, and under which tags a pinned one may
// stand, best first; without a pin all releases count (S3.10).
func (s Scope) CLI() (pinned []string, ok bool) {
	if s.in.DeckhouseCLITag != "" {
		pinned = spellings(s.in.DeckhouseCLITag)
	}
	return pinned, s.in.carriesCLI()
}

// PluginNames returns those catalogue tags that can name a plugin (S1.8.7).
func PluginNames(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return !plugin.ValidName(tag) })
}
