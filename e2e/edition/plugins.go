package edition

import (
	"encoding/base64"
	"encoding/json"

	"ferry/pkg/oci"
)

const (
	cliPath     = "deckhouse-cli"
	pluginsPath = cliPath + "/plugins"
)

// cli puts releases of d8. The newest that is no pre-release is wanted (S3.10).
func (w *writer) cli() {
	for _, tag := range []string{"v0.9.0", "v0.10.0", "v0.11.0-rc.1"} {
		w.placePlatforms(cliPath, tag, "", tag == "v0.10.0")
	}
}

// needs is the part of a contract that decides (S1.8.3).
type needs struct {
	Deckhouse *constraint `json:"deckhouse,omitempty"`
	Modules   *list       `json:"modules,omitempty"`
	Plugins   *list       `json:"plugins,omitempty"`
}

type constraint struct {
	Constraint string `json:"constraint"`
}

type list struct {
	Mandatory []named `json:"mandatory"`
}

type named struct {
	Name       string `json:"name"`
	Constraint string `json:"constraint"`
}

// contract is the annotation of a plugin (S1.8.1).
func (n needs) contract() string {
	text := encode(map[string]any{"name": "", "description": "synthetic", "requirements": n})
	return base64.StdEncoding.EncodeToString(text)
}

func needed(name, of string) *list { return &list{Mandatory: []named{{name, of}}} }

// plugins puts plugins so that each rule of S5.10 that names versions decides
// something in a default pull: mod-00 is bundled as v1.0.0 (lts), v1.1.1 and
// v1.2.0. One more name is announced that has no repository.
func (w *writer) plugins() {
	// mgr, an index whose contract stands in the index: one version for the
	// oldest module, one for the others. Newer ones are for a later platform, or
	// not ready.
	later := &constraint{">=99.0"}
	for _, mgr := range []struct {
		tag    string
		needs  needs
		wanted bool
	}{
		{"v0.9.0", needs{Modules: needed("mod-00", "<1.1.0")}, true},
		{"v1.0.0", needs{
			Modules:   needed("mod-00", ">=1.1.0 <2.0.0"),
			Plugins:   needed("db", ">=0.9.0"),
			Deckhouse: &constraint{">= 1.60"},
		}, true},
		{"v1.1.0", needs{Modules: needed("mod-00", ">=1.0.0"), Deckhouse: later}, false},
		{"v2.0.0-rc.1", needs{Modules: needed("mod-00", "")}, false},
	} {
		w.placePlatforms(pluginsPath+"/mgr", mgr.tag, mgr.needs.contract(), mgr.wanted)
	}
	// db, a single image, is there for mgr alone; its newest contract is broken.
	for _, tag := range []string{"v0.8.0", "v0.9.1", "v0.9.2"} {
		annotation := needs{}.contract()
		if tag == "v0.9.2" {
			annotation = "broken"
		}
		im := w.pluginImage("db", tag, "amd64")
		im.annotations = map[string]string{"contract": annotation}
		w.place(pluginsPath+"/db", tag, im, tag == "v0.9.1")
	}
	// system goes with the platform (S5.9.3), and has no contract at all.
	w.placePlatforms(pluginsPath+"/system", "v1.0.0", "", true)
	// These are for nobody here.
	w.placePlatforms(pluginsPath+"/other", "v1.0.0", needs{Modules: needed("elsewhere", "")}.contract(), false)
	w.placePlatforms(pluginsPath+"/standalone", "v1.0.0", needs{}.contract(), false)

	for _, name := range []string{"mgr", "db", "system", "other", "standalone", "announced-only"} {
		w.place(pluginsPath, name, w.small(pluginsPath), false)
	}
	for _, name := range []string{"mgr", "db", "system"} {
		w.out.Discovery = append(w.out.Discovery, pluginsPath+":"+name)
	}
}

func (w *writer) pluginImage(name, tag, arch string) image {
	return image{name: name + ":" + tag + "/" + arch, oci: true, arch: arch, layers: []layer{
		{files: []file{{"d8-" + name, tag + arch}}},
		{name: name + tag + arch, bulk: 512},
	}}
}

// placePlatforms puts an index for several platforms. Its bytes are written as no
// library writes them, with fields that some drop, so whoever builds the index
// anew has another digest (S5.11).
func (w *writer) placePlatforms(path, tag, contract string, wanted bool) {
	repo := w.repository(path)
	var children []any
	for _, p := range [][2]string{{"linux", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}} {
		mediaType, body := w.manifest(repo, w.pluginImage(path, tag+p[0], p[1]))
		desc := w.putManifest(repo, "", mediaType, body)
		children = append(children, map[string]any{
			"mediaType": desc.MediaType, "digest": desc.Digest, "size": desc.Size,
			"platform":     map[string]string{"os": p[0], "architecture": p[1]},
			"artifactType": "application/vnd.deckhouse.plugin",
		})
	}
	index := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": children}
	if contract != "" {
		index["annotations"] = map[string]string{"contract": contract}
	}
	body, err := json.MarshalIndent(index, " ", "   ")
	if err != nil {
		panic(err) // a defect of this package
	}
	w.store(path, tag, oci.MediaTypeIndex, body, wanted)
}
