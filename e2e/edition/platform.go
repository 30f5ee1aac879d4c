package edition

import (
	"fmt"

	"ferry/pkg/oci"
)

// channels, in the order of Deckhouse (S1.3.1). EE has no lts.
var channels = [...]string{"alpha", "beta", "early-access", "stable", "rock-solid"}

// release is one version of the platform.
type release struct {
	minor, patch int
	channels     []string // those that point at it
	wanted       bool
}

const firstMinor = 68

func (r release) version() string { return fmt.Sprintf("1.%d.%d", firstMinor+r.minor, r.patch) }
func (r release) tag() string     { return "v" + r.version() }

// releases lays out the versions so that each rule of the default window
// (S3.6.2) decides something: alpha is not the newest patch there is, stable not
// the newest patch of its minor, two channels share a version, and a minor lies
// below rock-solid.
func releases(minors int) []release {
	newest, oldest := minors-1, min(1, minors-1)
	at := map[string][2]int{
		"alpha":        {newest, 1},
		"beta":         {max(newest-1, oldest), 2},
		"early-access": {max(newest-1, oldest), 2},
		"stable":       {max(newest-2, oldest), 1},
		"rock-solid":   {oldest, 1},
	}
	if minors == 1 { // nothing may stand above alpha
		at["beta"], at["early-access"] = at["alpha"], at["alpha"]
	}
	var list []release
	for minor := range minors {
		for patch := range 3 {
			r := release{minor: minor, patch: patch}
			for _, ch := range channels {
				if at[ch] == [2]int{minor, patch} {
					r.channels = append(r.channels, ch)
				}
			}
			latest := patch == 2 && minor >= oldest && minor < newest
			r.wanted = latest || len(r.channels) > 0
			list = append(list, r)
		}
	}
	return list
}

func (w *writer) platform() {
	for _, r := range releases(w.opts.Minors) {
		w.releaseChannel(r)
		components := w.components(r)
		w.place("install", r.tag(), w.install(r, components), r.wanted)
		w.place("install-standalone", r.tag(), w.small("install-standalone/"+r.tag()), r.wanted)
		w.place("", r.tag(), w.small("deckhouse/"+r.tag()), r.wanted)
		for _, ch := range r.channels {
			w.place("", ch, w.small("deckhouse/"+r.tag()), false) // published, but never pulled (S1.2)
			w.place("install", ch, w.install(r, components), true)
		}
	}
	for _, path := range []string{"", "install", "install-standalone"} {
		w.place(path, "pr12345", w.small("pr12345"), false)
	}
}

// releaseChannel puts the image that says what a release is (S1.4), under its
// version and its channels. version.json lies in a lower layer than the change
// log, and carries the keys that a mirror ignores.
func (w *writer) releaseChannel(r release) {
	version := string(encode(map[string]any{
		"version":      r.tag(),
		"suspend":      false,
		"canary":       map[string]any{"alpha": map[string]any{"enabled": true, "waves": 2, "interval": "5m"}},
		"disruptions":  map[string][]string{fmt.Sprintf("1.%d", firstMinor+r.minor): {"ingressNginx"}},
		"requirements": map[string]string{"k8s": "1.27.0"},
	}))
	im := image{name: "release/" + r.tag(), arch: "amd64", layers: []layer{
		{files: []file{{"version.json", version}}},
		{files: []file{{"./changelog.yaml", "candi:\n  fixes:\n  - summary: " + r.tag() + "\n"}}},
	}}
	w.place("release-channel", r.tag(), im, r.wanted)
	for _, ch := range r.channels {
		w.place("release-channel", ch, im, r.wanted)
	}
}

// component is a component image as the install image names it.
type component struct {
	module, image string
	digest        oci.Digest
}

// components puts a release's components. Even ones are the same in all
// releases, odd ones are a release's own; number 1 is a multi-platform index;
// every third has an attestation, and the first has all else that can be attached.
func (w *writer) components(r release) []component {
	var list []component
	for i := range w.opts.Components {
		name, wanted := fmt.Sprintf("component-%d", i), true
		if i%2 == 1 {
			name += "/" + r.tag()
			wanted = r.wanted
		}
		var d oci.Digest
		shared := fmt.Sprintf("toolchain-%d", i/2)
		if i == 1 {
			amd64, arm64 := w.payload(name, shared, wanted), w.payload(name+"/arm64", shared, wanted)
			amd64.oci, arm64.oci, arm64.arch = true, true, "arm64"
			d = w.placeIndex("", []image{amd64, arm64}, wanted)
		} else {
			d = w.place("", "", w.payload(name, shared, wanted), wanted)
		}
		if i%3 == 0 {
			w.attest("", att(d), name, wanted)
		}
		if i == 0 {
			w.attachAll("", d, name, wanted)
		}
		list = append(list, component{fmt.Sprintf("module%d", i/3), fmt.Sprintf("image%d", i), d})
	}
	return append(list, component{"aliases", "first", list[0].digest})
}

// install is the installer of a release. Its images_digests.json lies in a
// lower layer (S1.5.3); a file that would be preferred to it is hidden by a
// whiteout, so a reader that ignores whiteouts looks for tags that do not
// exist; names begin with "./"; the top layer is zstd.
func (w *writer) install(r release, components []component) image {
	digests := map[string]map[string]oci.Digest{}
	for _, c := range components {
		if digests[c.module] == nil {
			digests[c.module] = map[string]oci.Digest{}
		}
		digests[c.module][c.image] = c.digest
	}
	return image{name: "install/" + r.tag(), oci: true, arch: "amd64", layers: []layer{
		base(),
		{files: []file{{"deckhouse/candi/images_tags.json", `{"module0":{"image0":"no-such-tag"}}`}}},
		{files: []file{{"./deckhouse/candi/images_digests.json", string(encode(digests))}}},
		{files: []file{{"./deckhouse/candi/.wh.images_tags.json", ""}, {"deckhouse/version", r.tag()}}, compression: plain},
		{files: []file{{"usr/bin/dhctl", r.tag()}}, compression: zstandard},
	}}
}

// security puts the databases with the media types that they have (S1.9.1).
func (w *writer) security() {
	const trivyConfig = "application/vnd.aquasec.trivy.config.v1+json"
	for _, db := range []struct {
		name, tag, layerType string
		config               artifactConfig
	}{
		{"trivy-db", "2", "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip", artifactConfig{trivyConfig, "{}"}},
		{"trivy-bdu", "1", "application/deckhouse.io.bdu.layer.v1.tar+gzip", artifactConfig{"application/octet-stream", "bdu"}},
		{"trivy-java-db", "1", "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip", artifactConfig{trivyConfig, "{}"}},
		{"trivy-checks", "0", "application/vnd.cncf.openpolicyagent.layer.v1.tar+gzip", artifactConfig{"application/vnd.oci.empty.v1+json", "{}"}},
	} {
		w.place("security/"+db.name, db.tag, image{
			name: db.name, oci: true, config: &db.config,
			layers: []layer{{name: db.name, mediaType: db.layerType, bulk: 1 << 10}},
		}, true)
	}
}
