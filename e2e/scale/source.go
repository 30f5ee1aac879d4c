package scale

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"

	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// perGroup is how many images a repository of a list has, or a module with all
// that belongs to it: sources grow by such groups, as real ones do.
const perGroup = 100

// shape is a kind of source.
type shape struct {
	name string
	// fill puts n images, a multiple of perGroup, and returns what discover is
	// given on its standard input.
	fill func(reg *registrytest.Registry, host string, n int) (stdin []byte, err error)
	// discover and selection are the arguments of the stages.
	discover  func(host string) []string
	selection []string
}

func shapes() []shape {
	// The rest of an edition is the same whatever its number of modules.
	modulesAlone := []string{"--no-platform", "--no-security-db", "--no-installer", "--no-plugins", "--no-deckhouse-cli"}
	return []shape{
		{
			name: "list", fill: fillList,
			discover: func(string) []string { return []string{"generic", "-", "--insecure"} },
		},
		{
			name: "edition", fill: fillEdition,
			discover: func(host string) []string {
				return append([]string{"deckhouse", "--insecure", "--source", host + "/" + editionRoot}, modulesAlone...)
			},
			selection: modulesAlone,
		},
	}
}

// putImage puts an image of one layer, and of a config that all images share.
func putImage(reg *registrytest.Registry, path, tag string, layer []byte) oci.Descriptor {
	config := reg.PutBlob(path, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	desc := reg.PutBlob(path, layer)
	desc.MediaType = "application/vnd.oci.image.layer.v1.tar"
	return reg.PutManifest(path, tag, oci.MediaTypeManifest, registrytest.ImageManifest(config, desc))
}

// sign puts a signature beside an image.
func sign(reg *registrytest.Registry, path string, of oci.Descriptor) {
	putImage(reg, path, oci.ReferrersTag(of.Digest)+".sig", []byte("signature of "+of.Digest))
}

// fillList puts repositories of a hundred images each, of which the list names
// all but one outright and that one by version. Every tenth is signed; these are
// not counted, nor is the one that nobody names: a tag list of which all is wanted
// looks like that of a cache, which is not believed.
func fillList(reg *registrytest.Registry, host string, n int) ([]byte, error) {
	var list bytes.Buffer
	for r := range n / perGroup {
		path := fmt.Sprintf("team-%02d/app-%05d", r%20, r)
		putImage(reg, path, "v0.9.0", []byte(path))
		for i := range perGroup {
			tag := fmt.Sprintf("v1.%d.%d", i/10, i%10)
			if i == perGroup-1 {
				tag = "v2.0.0"
				fmt.Fprintf(&list, "%s/%s@^2.0.0\n", host, path)
			} else {
				fmt.Fprintf(&list, "%s/%s:%s\n", host, path, tag)
			}
			desc := putImage(reg, path, tag, fmt.Append(nil, path, tag))
			if i%10 == 0 {
				sign(reg, path, desc)
			}
		}
	}
	return list.Bytes(), nil
}

const (
	editionRoot = "deckhouse/ee"
	// internal is how many images a version names by digest. With its own
	// image, the signature of that, and the release under its version and its
	// channel that makes twenty, and a module has five such versions.
	internal = 16
	// passed is how many versions a module lists that nobody carries.
	passed = 20
)

// fillEdition puts modules of a hundred images each: a version for each release
// channel, and older ones.
func fillEdition(reg *registrytest.Registry, _ string, n int) ([]byte, error) {
	for m := range n / perGroup {
		name := fmt.Sprintf("mod-%05d", m)
		catalogue := editionRoot + "/modules"
		path := catalogue + "/" + name
		putImage(reg, catalogue, name, []byte(catalogue))
		for i := range passed {
			putImage(reg, path, fmt.Sprintf("v0.%d.0", i), []byte(path))
		}
		for i, channel := range []string{"rock-solid", "stable", "early-access", "beta", "alpha"} {
			if err := putVersion(reg, path, fmt.Sprintf("v1.%d.0", i), channel); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

func putVersion(reg *registrytest.Registry, path, tag, channel string) error {
	said, err := layerOf("version.json", map[string]string{"version": tag})
	if err != nil {
		return err
	}
	putImage(reg, path+"/release", tag, said)
	putImage(reg, path+"/release", channel, said)
	digests := map[string]oci.Digest{}
	for i := range internal {
		digests[fmt.Sprintf("image%d", i)] = putImage(reg, path, "", fmt.Append(nil, path, tag, i)).Digest
	}
	named, err := layerOf("images_digests.json", digests)
	if err != nil {
		return err
	}
	sign(reg, path, putImage(reg, path, tag, named))
	return nil
}

// layerOf is a tar of one file of JSON.
func layerOf(name string, content any) ([]byte, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	err = w.Close() // which writes the end
	return out.Bytes(), err
}
