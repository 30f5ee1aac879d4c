package transfer

import (
	"encoding/json"
	"fmt"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// explain adds to the refusal of a manifest what it is that some registries refuse
// in such a one. Registries mostly say "manifest invalid" alone. Nothing is ever
// changed for their sake: another digest would be another image, without a
// signature.
func (p *publishing) explain(err error, m *contract.Manifest, body []byte) error {
	cause := fault.CauseOf(err)
	refusal := fault.New(fault.KindOf(err), "", err)
	if cause == fault.BodyTooLarge { // Q36
		return refusal.Hint("the manifest has %d bytes, and registries need not take more than 4 MiB; raise the limit there, or leave this image out", len(body))
	}
	parsed, parseErr := oci.ParseManifest(m.MediaType, body)
	if parseErr != nil || cause != fault.ManifestRefused && cause != fault.ArtifactRefused {
		return err
	}
	var hints []string
	add := func(format string, args ...any) { hints = append(hints, fmt.Sprintf(format, args...)) }
	if hint := fault.HintOf(err); hint != "" {
		add("%s", hint)
	}
	if twice := repeated(parsed.Manifests); twice != "" { // Q17
		add("the index lists %s twice, which some registries refuse; it is not altered, for its signature would break: ask its publisher for another", twice)
	}
	if lacks := p.configLacks(parsed); lacks != "" { // Q20
		add("some registries want rootfs and history in the config of an image, and this one has no %s; it cannot be added without another digest", lacks)
	}
	if parsed.Subject != nil { // Q22
		add("it is attached to %s, of type %s, which the registry may not take for a subject; --skip-attachments leaves out what is attached", parsed.Subject.Digest, parsed.Subject.MediaType)
	}
	if cause == fault.ManifestRefused { // Q18
		add("the registry may not take manifests of the type %s; it is not converted, for its digest and signature would break", parsed.MediaType)
	}
	return refusal.Hint("%s", strings.Join(hints, "; or "))
}

// repeated returns a digest that an index lists twice, or "".
func repeated(children []oci.Descriptor) oci.Digest {
	seen := map[oci.Digest]bool{}
	for _, child := range children {
		if seen[child.Digest] {
			return child.Digest
		}
		seen[child.Digest] = true
	}
	return ""
}

// configLacks names what the config of an image lacks of what some registries want.
func (p *publishing) configLacks(m *oci.Manifest) string {
	if oci.IsIndex(m.MediaType) || !oci.IsImageConfig(m.Blobs[0].MediaType) {
		return ""
	}
	text, err := readSmall(p.content, m.Blobs[0].Digest)
	var config map[string]json.RawMessage
	if err != nil || json.Unmarshal(text, &config) != nil {
		return ""
	}
	var lacks []string
	for _, field := range []string{"rootfs", "history"} {
		if _, has := config[field]; !has {
			lacks = append(lacks, field)
		}
	}
	return strings.Join(lacks, " and no ")
}
