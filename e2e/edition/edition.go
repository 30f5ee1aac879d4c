// Package edition makes a small synthetic edition of Deckhouse at a registry:
// every shape that a real source has shown, and the traps in which real pulls
// were caught. Equal options make equal digests, and no more than a few hundred
// kilobytes of memory are used, whatever the size of the edition.
//
// The package knows by construction what a pull without flags must carry, and
// shares no code with the packages that select. Rules cited as S1.5.3 are those
// of the documented behaviour of d8 mirror.
package edition

import (
	"context"
	"fmt"
	"slices"

	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// Options size an edition. Take [Default] or [Tiny] and change what matters.
type Options struct {
	// Seed changes all content, and so all digests, but no name or tag.
	Seed uint64
	// Minors is the number of minor releases, at least 1; each has three
	// patch releases. With two or more the oldest lies below rock-solid.
	Minors int
	// Components is the number of component images of each release, at least
	// 1. Every other one is shared by all releases.
	Components int
	// LayerSize is the size in bytes of the incompressible layer that each
	// component and internal image of a wanted version has of its own.
	LayerSize int64
	// Modules is the number of modules, which take their shapes in turn.
	Modules int
	// Packages is the number of packages, with the same shapes. Their release
	// images are all expected, wanted versions or not (S5.8).
	Packages int
	// ExtraImages is the number of extra images of each module and package
	// that has any.
	ExtraImages int
	// Plugins adds plugins of d8, made for the module mod-00, and d8 itself.
	Plugins bool
	// NoSecurity leaves out the security databases, as CE, BE and SE do
	// (S1.2.2).
	NoSecurity bool
}

// Default has every shape, in some hundred kilobytes.
func Default() Options {
	return Options{Seed: 1, Minors: 4, Components: 6, LayerSize: 4 << 10, Modules: 4, Packages: 2, ExtraImages: 2, Plugins: true}
}

// Tiny has one minor release and one module: for tests that run a chain often.
func Tiny() Options {
	return Options{Seed: 1, Minors: 1, Components: 2, LayerSize: 1 << 10, Modules: 1, ExtraImages: 1, Plugins: true}
}

// Edition is what exists after Write.
type Edition struct {
	// Root is the edition root, the repository given to Write.
	Root oci.Repository
	// Images are all images that were put, in order of writing, but the
	// children of an index. One digest may stand under several tags.
	Images []Image
	// Expected is what a pull without flags must carry: the digest by
	// "path:tag", path relative to the target root ("" for the root itself).
	Expected map[string]oci.Digest
	// Discovery are the tags whose names alone matter, "modules:mod-00",
	// sorted: a push must write them with a placeholder (S7.7).
	Discovery []string
}

// Image is one image of the source.
type Image struct {
	Repository oci.Repository
	Tag        string // "" when it is reachable by digest only
	Digest     oci.Digest
}

// Write puts an edition below root, which must end in "/ee": the installer and d8
// go beside it (S1.1.1). Writing over an edition of the same options changes
// nothing.
func Write(ctx context.Context, target registry.Target, root oci.Repository, opts Options) (*Edition, error) {
	bare, ok := parentOf(root, "/ee")
	if !ok {
		return nil, fmt.Errorf("%s: the root of an edition ends in /ee", root)
	}
	if opts.Minors < 1 || opts.Components < 1 {
		return nil, fmt.Errorf("an edition has at least one minor release with one component, not %d and %d", opts.Minors, opts.Components)
	}
	w := &writer{
		ctx: ctx, target: target, bare: bare, opts: opts,
		out:    &Edition{Root: root, Expected: map[string]oci.Digest{}},
		pushed: map[string]bool{}, layers: map[string]measuredBlob{}, manifests: map[oci.Digest]oci.Descriptor{},
	}
	w.platform()
	w.place("installer", "latest", w.small("installer"), true)
	w.place("installer", "v0.1.0", w.small("installer-old"), false)
	if !opts.NoSecurity {
		w.security()
	}
	w.addOns(modules, opts.Modules)
	w.addOns(packages, opts.Packages)
	if opts.Plugins {
		w.cli()
		w.plugins()
	}
	slices.Sort(w.out.Discovery)
	if w.err != nil {
		return nil, w.err
	}
	return w.out, nil
}

func parentOf(root oci.Repository, suffix string) (oci.Repository, bool) {
	n := len(root.Path) - len(suffix)
	if n <= 0 || root.Path[n:] != suffix {
		return oci.Repository{}, false
	}
	return oci.Repository{Host: root.Host, Path: root.Path[:n]}, true
}

// base is the bottom layer of most images, shared across repositories.
func base() layer {
	return layer{name: "base", files: []file{{"etc/os-release", "NAME=synthetic\n"}}, bulk: 2 << 10}
}

// small is an image whose content does not matter.
func (w *writer) small(name string) image {
	return image{name: name, arch: "amd64", layers: []layer{base(), {files: []file{{"name", name}}}}}
}

// payload is an image with a bulk layer of its own, and a layer that it shares
// with the others that give the same sharedLayer.
func (w *writer) payload(name, sharedLayer string, wanted bool) image {
	size := w.opts.LayerSize
	if !wanted {
		size = 64 // what nobody pulls need not cost disk
	}
	return image{name: name, arch: "amd64", layers: []layer{
		base(),
		{name: sharedLayer, bulk: 1 << 10},
		{name: name, bulk: size},
	}}
}

// attest puts an attestation (VEX) at path:tag.
func (w *writer) attest(path, tag, of string, wanted bool) {
	w.place(path, tag, image{name: "vex/" + of, oci: true, arch: "amd64", layers: []layer{{
		mediaType: "application/vnd.dsse.envelope.v1+json", compression: plain,
		files: []file{{"vex.json", fmt.Sprintf(`{"subject":%q}`, of)}},
	}}}, wanted)
}
