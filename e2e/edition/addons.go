package edition

import (
	"fmt"

	"ferry/pkg/oci"
)

// family is a kind of add-on (S1.2): packages differ from modules in names, and
// in that a pull carries all of their release images.
type family struct {
	catalogue string
	prefix    string // of names
	release   string
	allWanted bool // release images
}

var (
	modules  = family{catalogue: "modules", prefix: "mod", release: "release"}
	packages = family{catalogue: "packages", prefix: "pkg", release: "version", allWanted: true}
)

// shape is what an add-on's images hold; those of a family take the shapes in
// turn.
type shape struct {
	internal bool // images_digests.json
	extra    bool // extra_images.json
	vex      bool
	lts      bool // a sixth channel (S3.4.6)
	bare     bool // version.json without "v"; suspended, which add-ons ignore (S3.4.7)
}

var shapes = [...]shape{
	{internal: true, extra: true, vex: true, lts: true},
	{internal: true, vex: true, bare: true},
	{}, // neither file: normal (S1.6.3)
	{extra: true},
}

// version is one version of an add-on.
type version struct {
	tag      string
	channels []string
	wanted   bool
}

// versions has a version that no channel points at, so nobody wants it.
func versions(s shape) []version {
	list := []version{
		{tag: "v1.0.0"},
		{tag: "v1.1.0"},
		{tag: "v1.1.1", channels: channels[2:]},
		{tag: "v1.2.0", channels: channels[:2]},
	}
	if s.lts {
		list[0].channels = []string{"lts"}
	}
	for i := range list {
		list[i].wanted = len(list[i].channels) > 0
	}
	return list
}

// addOns puts the add-ons of a family and the repository whose tags are their
// names. One more name is announced that has no repositories at all; it must not
// become a discovery tag (S9 row 54).
func (w *writer) addOns(f family, count int) {
	for i := range count {
		name := fmt.Sprintf("%s-%02d", f.prefix, i)
		w.place(f.catalogue, name, w.small(f.catalogue), false)
		w.out.Discovery = append(w.out.Discovery, f.catalogue+":"+name)
		path, s := f.catalogue+"/"+name, shapes[i%len(shapes)]
		for _, v := range versions(s) {
			w.releaseImages(path+"/"+f.release, v, s, v.wanted || f.allWanted)
			w.versionImages(path, v, s)
		}
	}
	if count > 1 {
		w.place(f.catalogue, "announced-only", w.small(f.catalogue), false)
	}
}

func (w *writer) releaseImages(path string, v version, s shape, wanted bool) {
	said := v.tag
	if s.bare {
		said = v.tag[1:]
	}
	im := image{name: path + ":" + v.tag, arch: "amd64", layers: []layer{{files: []file{
		{"./version.json", string(encode(map[string]any{"version": said, "suspend": s.bare}))},
		{"changelog.yaml", "features: []\n"},
		{"module.yaml", "name: synthetic\n"},
	}}}}
	w.place(path, v.tag, im, wanted)
	for _, ch := range v.channels {
		w.place(path, ch, im, wanted)
	}
}

// versionImages puts a version image and what it names. images_digests.json of an
// older build lies below the right one and names an image that does not exist.
func (w *writer) versionImages(path string, v version, s shape) {
	im := image{name: path + ":" + v.tag, arch: "amd64", layers: []layer{base()}}
	if s.internal {
		im.layers = append(im.layers,
			layer{files: []file{{"images_digests.json", fmt.Sprintf("[%q]", oci.DigestOf([]byte("gone")))}}},
			layer{files: []file{{"images_digests.json", w.internal(path, v, s)}}})
	}
	if s.extra {
		im.layers = append(im.layers, layer{files: []file{{"./extra_images.json", w.extra(path, v, s)}}})
	}
	im.layers = append(im.layers, layer{files: []file{{"module.yaml", v.tag}}, compression: zstandard})
	d := w.place(path, v.tag, im, v.wanted)
	if s.vex {
		w.attest(path, v.tag+".att", im.name, v.wanted)
		w.attachAll(path, d, im.name, v.wanted)
	}
}

// internal puts the images that a version names by digest, nested as no schema
// says (S1.6.1): one of all versions, one of its own.
func (w *writer) internal(path string, v version, s shape) string {
	shared := w.place(path, "", w.payload(path+"/controller", path, true), true)
	own := w.place(path, "", w.payload(path+"/webhook/"+v.tag, path, v.wanted), v.wanted)
	if s.vex {
		w.attest(path, att(own), path+"/webhook/"+v.tag, v.wanted)
	}
	return string(encode(map[string]any{"controller": shared, "hooks": []any{map[string]any{"webhook": own}}}))
}

// extra puts extra images: even ones have a number as tag, the same in all
// versions, odd ones the version. A value of any other type is passed over
// (S1.6.2). Attestations stand in the module's own repository (S1.7.3).
func (w *writer) extra(path string, v version, s shape) string {
	names := map[string]any{"enabled": true}
	for i := range w.opts.ExtraImages {
		name := fmt.Sprintf("extra-%d", i)
		var value any = 5 + i
		tag, wanted := fmt.Sprint(value), true
		if i%2 == 1 {
			value, tag, wanted = v.tag, v.tag, v.wanted
		}
		names[name] = value
		w.place(path+"/extra/"+name, tag, w.payload(path+"/"+name+":"+tag, path, wanted), wanted)
		if s.vex && i%2 == 0 {
			w.attest(path, tag+".att", path+"/"+name+":"+tag, wanted)
		}
	}
	return string(encode(names))
}
