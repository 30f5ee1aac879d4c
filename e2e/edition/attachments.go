package edition

import (
	"bytes"

	"ferry/pkg/oci"
)

// attachAll attaches to an image what clients attach (S1.7.4, S1.7.5): a signature
// and an SBOM by cosign's tags, the latter signed too, and a bundle that has the
// image as its subject. The list under the referrers tag is written as clients do
// that know no better of the registry, so that every registry can be the source.
func (w *writer) attachAll(path string, to oci.Digest, of string, wanted bool) {
	w.place(path, cosignTag(to, ".sig"), w.payloadOf("signature of "+of, "application/vnd.dev.cosign.simplesigning.v1+json"), wanted)
	sbom := w.place(path, cosignTag(to, ".sbom"), w.payloadOf("sbom of "+of, "text/spdx+json"), wanted)
	w.place(path, cosignTag(sbom, ".sig"), w.payloadOf("signature of the sbom of "+of, "application/vnd.dev.cosign.simplesigning.v1+json"), wanted)

	const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	bundle := w.referrer(path, to, bundleType, "bundle of "+of, wanted)
	w.store(path, oci.ReferrersTag(to), oci.MediaTypeIndex, encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeIndex,
		"manifests": []any{map[string]any{
			"mediaType": bundle.MediaType, "digest": bundle.Digest, "size": bundle.Size, "artifactType": bundleType,
		}},
	}), wanted)
}

func cosignTag(d oci.Digest, suffix string) string { return oci.ReferrersTag(d) + suffix }

// payloadOf is an artifact with one layer that is no tar.
func (w *writer) payloadOf(name, mediaType string) image {
	return image{name: name, oci: true, arch: "amd64", layers: []layer{{
		mediaType: mediaType, compression: plain, files: []file{{"payload.json", name}},
	}}}
}

// referrer puts a manifest that has to as its subject, by digest only.
func (w *writer) referrer(path string, to oci.Digest, kind, name string, wanted bool) oci.Descriptor {
	repo := w.repository(path)
	config := oci.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: oci.DigestOf([]byte("{}")), Size: 2}
	w.putBlob(repo, config, bytes.NewReader([]byte("{}")))
	body := encode(map[string]string{"bundle": name})
	payload := oci.Descriptor{MediaType: kind, Digest: oci.DigestOf(body), Size: int64(len(body))}
	w.putBlob(repo, payload, bytes.NewReader(body))
	digest := w.store(path, "", oci.MediaTypeManifest, encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "artifactType": kind,
		"config": config, "layers": []oci.Descriptor{payload}, "subject": w.manifests[to],
	}), wanted)
	return w.manifests[digest]
}
