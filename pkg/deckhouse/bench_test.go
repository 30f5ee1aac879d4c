package deckhouse

import (
	"fmt"
	"testing"

	"ferry/pkg/contract"
)

// Modules with a version for each channel and twenty older ones. What is reported
// in nanoseconds an image is the same for all sizes, as long as nobody goes
// through all modules for each.
func BenchmarkSelect(b *testing.B) {
	policy := Policy{NoPlatform: true, NoPackages: true, NoSecurityDB: true, NoInstaller: true, NoPlugins: true, NoDeckhouseCLI: true}
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("images=%d", n), func(b *testing.B) {
			cat, images := catalogOfModules(n)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				spec, _, err := Select(cat, policy)
				if err != nil || len(spec.Images) != images {
					b.Fatalf("%d images, want %d, error %v", len(spec.Images), images, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*images), "ns/image")
		})
	}
}

// catalogOfModules is one from which about n images are selected.
func catalogOfModules(n int) (cat contract.CatalogSpec, images int) {
	const source = "registry.example.com/deckhouse/ee"
	cat = contract.CatalogSpec{Vendor: Vendor, Source: source, Edition: "ee"}
	catalogue := contract.CatalogRepository{Repository: source + "/modules", Component: Modules.Component(), Role: RoleCatalogue, Listed: true}
	packages := contract.CatalogRepository{Repository: source + "/packages", Component: Packages.Component(), Role: RoleCatalogue, Listed: true}
	for ; images < n; images += 3 * len(defaultChannels) { // the version, its release and the channel
		name := fmt.Sprintf("mod-%06d", images)
		catalogue.Tags = append(catalogue.Tags, name)
		main := contract.CatalogRepository{Repository: catalogue.Repository + "/" + name, Component: Modules.Member(name), Role: RoleMain, Listed: true}
		release := contract.CatalogRepository{Repository: main.Repository + "/release", Component: main.Component, Role: RoleReleaseChannel}
		for i := range 20 {
			main.Tags = append(main.Tags, fmt.Sprintf("v0.%d.0", i))
		}
		for i, channel := range defaultChannels {
			version := fmt.Sprintf("v1.%d.0", i)
			main.Tags = append(main.Tags, version)
			release.Tags = append(release.Tags, channel)
			cat.Channels = append(cat.Channels, contract.CatalogChannel{Component: main.Component, Name: channel, Version: version})
		}
		cat.Repositories = append(cat.Repositories, main, release)
	}
	cat.Repositories = append(cat.Repositories, catalogue, packages)
	cat.Normalize()
	return cat, images
}
