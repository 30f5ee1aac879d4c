package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ferry/e2e/bench/content"
	"ferry/e2e/edition"
	"ferry/e2e/measure"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/wire"
)

// The editions by name.
const (
	listed    = "list"
	small     = "small"
	deckhouse = "deckhouse"
)

// deckhouseRoot is where the edition of Deckhouse is at the source.
const deckhouseRoot = "deckhouse/ee"

// Editions are the names of all editions.
func Editions() []string { return []string{listed, small, deckhouse} }

// room is how many copies of an edition are on the disk at a time: at the source,
// at the target, in a bundle, and two that a tool makes on the way.
const room = 5

// make fills a registry with an edition.
func (b *bench) make(ctx context.Context, name, root string) (*content.Edition, *server, error) {
	dir := filepath.Join(root, "source")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(b.Log, "%s: making it\n", name)
	if err := b.checkSpace(name); err != nil {
		return nil, nil, err
	}
	if name == deckhouse {
		return b.makeDeckhouse(ctx, dir, root)
	}
	made, err := b.plan(name).Write(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	source, err := b.serve(ctx, dir)
	return made, source, err
}

func (b *bench) checkSpace(name string) error {
	need := b.Bytes
	if name != listed {
		need = 2_500_000_000
	}
	if b.Quick {
		need = 20_000_000
	}
	free, err := measure.Free(b.Dir)
	if err == nil && free < room*need {
		err = fmt.Errorf("%d bytes are free in %s, %d are needed; see --dir", free, b.Dir, room*need)
	}
	return err
}

func (b *bench) plan(name string) content.Plan {
	switch {
	case name == listed && b.Quick:
		return content.List(1, 4, 2, 3_000_000)
	case name == listed:
		return content.List(1, 120, 20, b.Bytes)
	case b.Quick:
		return content.Small(1, 4, 10, 4<<10)
	default:
		return content.Small(1, max(1, b.Blobs/50), 50, 4<<10)
	}
}

// large is an edition of Deckhouse of 2.1 GB in some 1200 blobs and 600 manifests.
func large() edition.Options {
	opts := edition.Default()
	opts.Minors, opts.Components, opts.Modules, opts.ExtraImages = 6, 80, 12, 3
	opts.LayerSize = 5_500 << 10
	return opts
}

// makeDeckhouse fills a registry over the network: an edition knows no other way.
// What a pull must carry of it, a pull tells.
func (b *bench) makeDeckhouse(ctx context.Context, dir, root string) (*content.Edition, *server, error) {
	opts := large()
	if b.Quick {
		opts = edition.Tiny()
	}
	source, err := b.serve(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	made, err := b.fillDeckhouse(ctx, source, root, opts)
	if err != nil {
		source.stop()
	}
	return made, source, err
}

func (b *bench) fillDeckhouse(ctx context.Context, source *server, root string, opts edition.Options) (*content.Edition, error) {
	client, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true})
	if err != nil {
		return nil, err
	}
	written, err := edition.Write(ctx, client, oci.Repository{Host: source.own, Path: deckhouseRoot}, opts)
	if err != nil {
		return nil, err
	}
	e := &content.Edition{Name: deckhouse}
	for _, name := range slices.Sorted(maps.Keys(written.Expected)) {
		path, tag, _ := strings.Cut(name, ":")
		e.Images = append(e.Images, content.Image{Repository: path, Tag: tag, Digest: written.Expected[name]})
	}
	contents, err := b.contents(ctx, e, source, root)
	if err != nil {
		return nil, err
	}
	if err := countPlaces(e, &contents); err != nil {
		return nil, err
	}
	for _, part := range contents.Parts() {
		e.Bytes += part.Size
	}
	for _, blob := range contents.Blobs {
		repo, err := oci.ParseRepository(blob.Repository)
		if err != nil {
			return nil, err
		}
		e.Blobs = append(e.Blobs, content.Blob{Repository: repo.Path, Digest: blob.Digest, Size: blob.Size})
	}
	return e, nil
}

// countPlaces counts what a push must put where.
func countPlaces(e *content.Edition, c *contract.Contents) error {
	graph := c.Graph()
	tagged := map[string][]oci.Digest{} // by path
	tags, untagged := map[oci.Digest]int{}, map[oci.Digest]int{}
	for _, im := range c.Images {
		tagged[im.Path] = append(tagged[im.Path], im.Digest)
		tags[im.Digest]++
	}
	for _, roots := range tagged {
		manifests, blobs := graph.Closure(roots...)
		e.Placed += len(blobs)
		for _, m := range manifests {
			if !slices.Contains(roots, m.Digest) {
				untagged[m.Digest]++
			}
		}
	}
	e.Repositories, e.Tags = len(tagged), len(c.Images)+len(c.Discovery)
	// What stands behind discovery tags is one image, in every repository.
	discovered := map[string]bool{}
	for _, t := range c.Discovery {
		discovered[t.Path] = true
	}
	e.Placed += len(discovered) * len(oci.NewPlaceholder().Blobs)
	all, _ := graph.Closure(slices.Collect(maps.Keys(graph))...)
	heights := contract.Heights(all)
	for _, m := range c.Manifests {
		repo, err := oci.ParseRepository(m.Repository)
		if err != nil {
			return err
		}
		e.Untagged += untagged[m.Digest]
		e.Manifests = append(e.Manifests, content.Manifest{
			Repository: repo.Path, Digest: m.Digest, MediaType: m.MediaType,
			Height: heights[m.Digest], Tags: tags[m.Digest], Untagged: untagged[m.Digest],
		})
	}
	return nil
}

// contents pulls an edition, unmeasured.
func (b *bench) contents(ctx context.Context, made *content.Edition, source *server, root string) (contract.Contents, error) {
	e := &carried{bench: b, content: made, source: source, root: root}
	p := place{source: source.own, dir: filepath.Join(root, "work")}
	defer os.RemoveAll(p.dir)
	if err := e.fresh(p); err != nil {
		return contract.Contents{}, err
	}
	for _, s := range e.throughStore(p)[:3] {
		if _, err := b.pipe(ctx, p, s); err != nil {
			return contract.Contents{}, err
		}
	}
	text, err := os.ReadFile(p.in("inventory.json"))
	if err != nil {
		return contract.Contents{}, err
	}
	doc, err := contract.Decode[contract.InventorySpec](text)
	if err != nil {
		return contract.Contents{}, errors.New("no Inventory came of a pull: " + err.Error())
	}
	return doc.Spec.Contents, nil
}
