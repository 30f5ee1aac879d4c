package outlook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// insight is what the texts of manifests and configs tell, of which the contents
// themselves say nothing.
type insight struct {
	artifacts map[string][]string // layer types by config type
	examples  map[string]string   // of these, by config type
	sparse    []oci.Digest
	bare      []oci.Digest
}

// inside looks into manifests for what the registry is known not to take. Where it
// takes all, nothing is read.
func (j Journey) inside(ctx context.Context) ([]Finding, error) {
	whyArtifact, noArtifact := j.lacks(contract.FeatureArtifact)
	whySparse, noSparse := j.lacks(contract.FeatureSparseIndex)
	whyBare, noBare := j.lacks(contract.FeatureBareConfig)
	if !noArtifact && !noSparse && !noBare {
		return nil, nil
	}
	seen := insight{artifacts: map[string][]string{}, examples: map[string]string{}}
	for _, m := range j.Contents.Manifests {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := j.look(&seen, m, noBare); err != nil {
			return nil, err
		}
	}
	var found []Finding
	if noArtifact {
		for _, config := range slices.Sorted(maps.Keys(seen.artifacts)) {
			found = append(found, perhaps(seen.examples[config],
				"Quay: list this under ALLOWED_OCI_ARTIFACT_TYPES, with FEATURE_GENERAL_OCI_SUPPORT: true; or leave it out of the bundle",
				"the target takes only images (%s), and would have to take %s: [%s]", whyArtifact, config, strings.Join(seen.artifacts[config], ", ")))
		}
	}
	if noSparse && len(seen.sparse) > 0 {
		found = append(found, perhaps(j.example(seen.sparse[0]), "carry all platforms of it, or let the target take it",
			"%d indexes name manifests that are not carried, and the target does not take such ones: %s", len(seen.sparse), whySparse))
	}
	if noBare && len(seen.bare) > 0 {
		found = append(found, perhaps(j.example(seen.bare[0]), "ask its author for an image with rootfs and history in its config, or leave it out",
			"%d images have configs that say nothing of their layers, and the target does not take such ones: %s", len(seen.bare), whyBare))
	}
	return found, nil
}

// look notes what a manifest is.
func (j Journey) look(seen *insight, entry contract.Manifest, configs bool) error {
	body, err := j.read(entry.Digest, entry.Size)
	if err != nil {
		return unlessLacking(err)
	}
	m, err := oci.ParseManifest(entry.MediaType, body)
	if err != nil {
		return fault.New(fault.Damaged, string(entry.Digest), err)
	}
	if oci.IsIndex(m.MediaType) {
		if slices.ContainsFunc(m.References(), func(d oci.Descriptor) bool { return !slices.Contains(entry.References, d.Digest) }) {
			seen.sparse = append(seen.sparse, entry.Digest)
		}
		return nil
	}
	config, layers := m.PartTypes()
	if m.IsArtifact() {
		if _, ok := seen.examples[config]; !ok {
			seen.examples[config], seen.artifacts[config] = j.example(entry.Digest), nil // an artifact may have no layers
		}
		for _, layer := range layers {
			if !slices.Contains(seen.artifacts[config], layer) {
				seen.artifacts[config] = append(seen.artifacts[config], layer)
			}
		}
		slices.Sort(seen.artifacts[config])
		return nil
	}
	if !configs {
		return nil
	}
	text, err := j.read(m.Blobs[0].Digest, m.Blobs[0].Size)
	if err == nil && isBare(text) {
		seen.bare = append(seen.bare, entry.Digest)
	}
	return unlessLacking(err)
}

func unlessLacking(err error) error {
	if fault.KindOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// isBare reports whether a config lacks what registries that look into it want.
func isBare(config []byte) bool {
	var doc struct {
		RootFS  *struct{} `json:"rootfs"`
		History []any     `json:"history"`
	}
	return json.Unmarshal(config, &doc) != nil || doc.RootFS == nil || doc.History == nil
}

// read returns a manifest, or a config, which is as small, and proves it.
func (j Journey) read(digest oci.Digest, size int64) ([]byte, error) {
	if size > oci.ManifestLimit {
		return nil, fault.Newf(fault.Damaged, string(digest), "it has %d bytes, and a manifest or config at most %d", size, oci.ManifestLimit)
	}
	blob, err := j.Content.Open(digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	body, err := io.ReadAll(io.LimitReader(blob, size+1))
	if err != nil {
		return nil, fault.New(fault.Local, string(digest), err)
	}
	if got := oci.DigestOf(body); got != digest {
		return nil, fault.New(fault.Damaged, string(digest), fmt.Errorf("its bytes have the digest %s", got))
	}
	return body, nil
}
