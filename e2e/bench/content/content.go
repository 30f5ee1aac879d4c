// Package content makes the images that benchmarks carry: incompressible,
// nothing but a seed decides them, and of the sizes and shared layers that real
// lists of images have.
package content

import (
	"fmt"
	"math"
	"math/rand/v2"

	"ferry/pkg/oci"
)

// Image is an image of an edition.
type Image struct {
	Repository string     `json:"repository"` // path, without host
	Tag        string     `json:"tag"`
	Digest     oci.Digest `json:"digest"`
}

// Blob is a distinct blob, with a repository that has it.
type Blob struct {
	Repository string     `json:"repository"`
	Digest     oci.Digest `json:"digest"`
	Size       int64      `json:"size"`
}

// Manifest is a distinct manifest, with a repository that has it.
type Manifest struct {
	Repository string     `json:"repository"`
	Digest     oci.Digest `json:"digest"`
	MediaType  string     `json:"mediaType"`
	// Height is more than that of every manifest that this one names.
	Height int `json:"height"`
	// Tags are those of the source that it is behind; Untagged are the
	// repositories that have it by digest alone.
	Tags     int `json:"tags"`
	Untagged int `json:"untagged"`
}

// Edition is what a registry holds and what must be carried of it.
type Edition struct {
	Name         string     `json:"name"`
	Images       []Image    `json:"images"`
	Blobs        []Blob     `json:"blobs"`
	Manifests    []Manifest `json:"manifests"`
	Bytes        int64      `json:"bytes"`        // of distinct blobs and manifests
	Repositories int        `json:"repositories"` // that images are in
	// What a push must see to, where nothing is there yet: Tags, those without
	// an image of the source included; Untagged, manifests that a repository
	// has by digest alone; and Placed, blobs, each in every repository.
	Tags     int `json:"tags"`
	Untagged int `json:"untagged"`
	Placed   int `json:"placed"`
}

// Plan says which images to make.
type Plan struct {
	Name   string
	Seed   uint64
	images []plannedImage
}

type plannedImage struct {
	repository, tag string
	layers          []layer
}

// layer is a layer by what decides its content.
type layer struct {
	id   uint64
	size int64
}

// shares of an edition's bytes: what distributions and language runtimes weigh
// in lists of images that are built on small bases, as Deckhouse's are.
const (
	basesShare    = 0.02
	runtimesShare = 0.10
	largeShare    = 0.12
)

// List is a list as operators write it: images of some repositories, on bases
// that repositories share, with a few large layers and many small ones.
// Altogether it has about bytes distinct bytes.
func List(seed uint64, images, repositories int, bytes int64) Plan {
	p := Plan{Name: "list", Seed: seed}
	random := rand.New(rand.NewPCG(seed, 1))
	id := uint64(0)
	split := func(share float64, parts int) []layer {
		var out []layer
		for _, weight := range weights(random, parts, 3) {
			id++
			out = append(out, layer{id, int64(share * float64(bytes) * weight)})
		}
		return out
	}
	bases, runtimes := split(basesShare, min(4, max(1, repositories/2))), split(runtimesShare, min(16, repositories))
	large := split(largeShare, max(1, images/40))
	counts, all := make([]int, images), 0
	for i := range counts {
		counts[i] = 3 + random.IntN(12)
		all += counts[i]
	}
	// From 0.1 to 10, evenly by magnitude.
	own := weights(random, all, 100)
	rest := float64(bytes) * (1 - basesShare - runtimesShare - largeShare)
	for i, count := range counts {
		repo := i % repositories
		im := plannedImage{
			repository: fmt.Sprintf("team-%d/app-%02d", repo%4, repo),
			tag:        fmt.Sprintf("v1.%d.0", i/repositories),
			layers:     []layer{bases[repo%len(bases)], runtimes[repo%len(runtimes)]},
		}
		for range count {
			id++
			im.layers = append(im.layers, layer{id, int64(rest * own[0])})
			own = own[1:]
		}
		if i%40 == 7%images && len(large) > 0 {
			im.layers, large = append(im.layers, large[0]), large[1:]
		}
		p.images = append(p.images, im)
	}
	return p
}

// weights are n numbers that add up to 1, the largest about spread times the
// smallest, evenly by magnitude.
func weights(random *rand.Rand, n int, spread float64) []float64 {
	out, sum := make([]float64, n), 0.0
	for i := range out {
		out[i] = math.Pow(spread, random.Float64())
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// Small is nothing but small blobs: images of so many layers of size bytes each,
// where requests cost more than bytes.
func Small(seed uint64, images, layers int, size int64) Plan {
	p := Plan{Name: "small", Seed: seed}
	id := uint64(0)
	for i := range images {
		im := plannedImage{repository: fmt.Sprintf("small/app-%02d", i%20), tag: fmt.Sprintf("v1.%d.0", i/20)}
		for range layers {
			id++
			im.layers = append(im.layers, layer{id, size})
		}
		p.images = append(p.images, im)
	}
	return p
}
