package content

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"ferry/pkg/oci"

	"golang.org/x/sync/errgroup"
)

// Write makes the plan's images in dir, as a distribution registry keeps them on
// its disk. Through its API fifty thousand blobs would take longer than all that
// is measured of them.
func (p Plan) Write(ctx context.Context, dir string) (*Edition, error) {
	w := &writer{root: filepath.Join(dir, "docker", "registry", "v2"), plan: p}
	made, err := w.layers(ctx)
	if err != nil {
		return nil, err
	}
	e := &Edition{Name: p.Name, Tags: len(p.images)}
	blobs, repositories, placed := map[oci.Digest]Blob{}, map[string]bool{}, map[string]bool{}
	for _, im := range p.images {
		digest, manifest, parts, err := w.image(im, made)
		if err != nil {
			return nil, err
		}
		e.Images = append(e.Images, Image{im.repository, im.tag, digest})
		e.Manifests = append(e.Manifests, Manifest{Repository: im.repository, Digest: digest, MediaType: oci.MediaTypeManifest, Tags: 1})
		e.Bytes += int64(len(manifest))
		repositories[im.repository] = true
		for _, part := range parts {
			placed[im.repository+"@"+string(part.Digest)] = true
			if _, known := blobs[part.Digest]; !known {
				blobs[part.Digest] = Blob{im.repository, part.Digest, part.Size}
				e.Bytes += part.Size
			}
		}
	}
	e.Repositories, e.Placed = len(repositories), len(placed)
	for _, blob := range blobs {
		e.Blobs = append(e.Blobs, blob)
	}
	slices.SortFunc(e.Blobs, func(a, b Blob) int { return cmp.Compare(a.Digest, b.Digest) })
	return e, nil
}

type writer struct {
	root string
	plan Plan
}

// madeLayer is a layer that is in the registry.
type madeLayer struct {
	oci.Descriptor
	diffID oci.Digest
}

// layers makes every distinct layer once.
func (w *writer) layers(ctx context.Context) (map[uint64]madeLayer, error) {
	distinct := map[uint64]layer{}
	for _, im := range w.plan.images {
		for _, l := range im.layers {
			distinct[l.id] = l
		}
	}
	type numbered struct {
		id   uint64
		made madeLayer
	}
	results := make(chan numbered, len(distinct))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for id, l := range distinct {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			made, err := w.layer(l)
			results <- numbered{id, made}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	close(results)
	out := map[uint64]madeLayer{}
	for r := range results {
		out[r.id] = r.made
	}
	return out, nil
}

// layer writes a layer that any tool takes for one: a gzip stream, without
// compression, of an archive with one file of random bytes.
func (w *writer) layer(l layer) (made madeLayer, err error) {
	f, err := os.CreateTemp(w.root, "layer-")
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(w.root, 0o777); err != nil {
			return made, err
		}
		f, err = os.CreateTemp(w.root, "layer-")
	}
	if err != nil {
		return made, err
	}
	defer os.Remove(f.Name()) // there unless it got its name
	defer f.Close()
	compressed, plain := sha256.New(), sha256.New()
	zip, err := gzip.NewWriterLevel(io.MultiWriter(f, compressed), gzip.NoCompression)
	if err != nil {
		return made, err
	}
	if err := writeArchive(io.MultiWriter(zip, plain), w.plan.Seed, l); err != nil {
		return made, err
	}
	if err := zip.Close(); err != nil {
		return made, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return made, err
	}
	made.diffID = oci.DigestFromSum(plain.Sum(nil))
	made.Descriptor = oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: oci.DigestFromSum(compressed.Sum(nil)), Size: size}
	path := w.data(made.Digest)
	return made, errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.Rename(f.Name(), path), os.Chmod(path, 0o644))
}

func writeArchive(to io.Writer, seed uint64, l layer) error {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], l.id)
	archive := tar.NewWriter(to)
	header := &tar.Header{Name: fmt.Sprintf("layer-%d", l.id), Mode: 0o644, Size: l.size, ModTime: time.Unix(0, 0)}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.CopyN(archive, rand.NewChaCha8(key), l.size); err != nil {
		return err
	}
	return archive.Close()
}

// image writes an image's config and manifest, and the links by which the
// registry finds all of it.
func (w *writer) image(im plannedImage, made map[uint64]madeLayer) (oci.Digest, []byte, []oci.Descriptor, error) {
	config := map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Labels": map[string]string{"name": im.repository + ":" + im.tag}}}
	diffs, layers := []oci.Digest{}, []oci.Descriptor{}
	for _, l := range im.layers {
		diffs = append(diffs, made[l.id].diffID)
		layers = append(layers, made[l.id].Descriptor)
	}
	config["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffs}
	configText, err := json.Marshal(config)
	if err != nil {
		return "", nil, nil, err
	}
	configDesc := oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: oci.DigestOf(configText), Size: int64(len(configText))}
	manifest, err := json.Marshal(struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Config        oci.Descriptor   `json:"config"`
		Layers        []oci.Descriptor `json:"layers"`
	}{2, oci.MediaTypeManifest, configDesc, layers})
	if err != nil {
		return "", nil, nil, err
	}
	digest := oci.DigestOf(manifest)
	parts := append(layers, configDesc)
	writes := []error{w.write(w.data(configDesc.Digest), configText), w.write(w.data(digest), manifest)}
	repo := filepath.Join(w.root, "repositories", im.repository)
	for _, part := range parts {
		writes = append(writes, w.link(digestDir(filepath.Join(repo, "_layers"), part.Digest), part.Digest))
	}
	writes = append(writes, w.link(digestDir(filepath.Join(repo, "_manifests", "revisions"), digest), digest))
	// Real repositories have tags that nobody carries. Without any, a list of tags
	// looks like that of a cache, which knows only what it was asked for.
	for _, tag := range []string{im.tag, notCarried} {
		tag = filepath.Join(repo, "_manifests", "tags", tag)
		writes = append(writes, w.link(digestDir(filepath.Join(tag, "index"), digest), digest), w.link(filepath.Join(tag, "current"), digest))
	}
	return digest, manifest, parts, errors.Join(writes...)
}

// notCarried is a tag of every repository.
const notCarried = "main"

func (w *writer) data(d oci.Digest) string {
	return filepath.Join(w.root, "blobs", "sha256", d.Hex()[:2], d.Hex(), "data")
}

func digestDir(dir string, d oci.Digest) string { return filepath.Join(dir, "sha256", d.Hex()) }

func (w *writer) link(dir string, to oci.Digest) error {
	return w.write(filepath.Join(dir, "link"), []byte(to))
}

func (w *writer) write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
