package contract

import (
	"fmt"
	"testing"

	"ferry/pkg/oci"
)

// largePlan has n images of two layers each, in repositories of a hundred.
func largePlan(n int) PlanSpec {
	c := Contents{Vendor: "generic", Archives: []Archive{{Name: "images"}}}
	config := oci.DigestOf([]byte("config"))
	c.Blobs = append(c.Blobs, Blob{Digest: config, Size: 100, Repository: "registry.example.com/team/app-0"})
	for i := range n {
		path, tag := fmt.Sprintf("team/app-%d", i/100), fmt.Sprintf("v1.%d.0", i%100)
		repository := "registry.example.com/" + path
		digest, layer := oci.DigestOf(fmt.Append(nil, "manifest", i)), oci.DigestOf(fmt.Append(nil, "layer", i))
		c.Images = append(c.Images, Image{
			Archive: "images", Path: path, Tag: tag, Phase: PhaseVersion, Digest: digest,
			Source: repository + ":" + tag, Reason: "listed: " + repository + ":" + tag,
		})
		c.Manifests = append(c.Manifests, Manifest{
			Digest: digest, MediaType: oci.MediaTypeManifest, Size: 500, Repository: repository, References: []oci.Digest{config, layer},
		})
		c.Blobs = append(c.Blobs, Blob{Digest: layer, Size: 10 << 20, Repository: repository})
	}
	return PlanSpec{Archives: []ArchiveSize{{Name: "images", Size: 1 << 30}}, Contents: c}
}

// perSize runs a benchmark over documents of growing size: what it reports in
// nanoseconds an image is the same for all of them, as long as nobody goes through
// all images for each.
func perSize(b *testing.B, run func(b *testing.B, doc *Plan, text []byte)) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("images=%d", n), func(b *testing.B) {
			doc := New("bench", nil, largePlan(n))
			text, err := Encode(doc)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			run(b, doc, text)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/image")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	perSize(b, func(b *testing.B, _ *Plan, text []byte) {
		for b.Loop() {
			if _, err := Decode[PlanSpec](text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	perSize(b, func(b *testing.B, doc *Plan, _ []byte) {
		for b.Loop() {
			if _, err := Encode(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
