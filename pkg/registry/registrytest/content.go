package registrytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"ferry/pkg/oci"
)

// content is a blob or manifest, in memory or in a file.
type content struct {
	data []byte
	path string // set: the bytes are in this file
	size int64
}

func (c *content) open() (io.ReadSeekCloser, error) {
	if c.path != "" {
		return os.Open(c.path)
	}
	return nopCloser{bytes.NewReader(c.data)}, nil
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// upload is an open session. Its bytes only grow, so they are hashed as they
// come.
type upload struct {
	mu   sync.Mutex // one request at a time writes
	repo string
	hash hash.Hash
	size int64
	buf  bytes.Buffer
	file *os.File // set: the bytes go here instead of into buf
}

func newUpload(repo, dir, id string) (*upload, error) {
	u := &upload{repo: repo, hash: sha256.New()}
	if dir == "" {
		return u, nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	var err error
	u.file, err = os.Create(filepath.Join(dir, id))
	return u, err
}

// append adds body; what arrived before an error stays.
func (u *upload) append(body io.Reader) error {
	var dst io.Writer = &u.buf
	if u.file != nil {
		dst = u.file
	}
	n, err := io.Copy(io.MultiWriter(dst, u.hash), body)
	u.size += n
	return err
}

func (u *upload) digest() oci.Digest { return oci.DigestFromSum(u.hash.Sum(nil)) }

// finish turns the upload into content, whose file is named by its digest.
func (u *upload) finish() (*content, error) {
	if u.file == nil {
		return &content{data: u.buf.Bytes(), size: u.size}, nil
	}
	path := filepath.Join(filepath.Dir(u.file.Name()), u.digest().Hex())
	if err := u.file.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(u.file.Name(), path); err != nil {
		return nil, err
	}
	return &content{path: path, size: u.size}, nil
}

func (u *upload) discard() {
	if u.file != nil {
		u.file.Close()
		os.Remove(u.file.Name())
	}
}

// PutBlobFrom is PutBlob for content that is streamed; with [WithDir] it never
// lies in memory.
func (r *Registry) PutBlobFrom(path string, body io.Reader) (oci.Descriptor, error) {
	r.mu.Lock()
	id := r.nextID("seed")
	r.mu.Unlock()
	u, err := newUpload(path, r.opts.dir, id)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if err := u.append(body); err != nil {
		u.discard()
		return oci.Descriptor{}, err
	}
	c, err := u.finish()
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc := oci.Descriptor{MediaType: "application/octet-stream", Digest: u.digest(), Size: u.size}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content[desc.Digest] = c
	r.repository(path).blobs[desc.Digest] = true
	return desc, nil
}

// ImageManifest returns an OCI image manifest.
func ImageManifest(config oci.Descriptor, layers ...oci.Descriptor) []byte {
	if layers == nil {
		layers = []oci.Descriptor{}
	}
	return marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": config, "layers": layers})
}

// AttachedManifest returns the manifest of an artifact that has subject, with an
// annotation, as a list of referrers must repeat it.
func AttachedManifest(subject oci.Descriptor, artifactType string, config oci.Descriptor, layers ...oci.Descriptor) []byte {
	return marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "artifactType": artifactType, "config": config, "layers": layers,
		"subject": subject, "annotations": map[string]string{"of": string(subject.Digest)},
	})
}

// IndexManifest returns an OCI image index.
func IndexManifest(manifests ...oci.Descriptor) []byte {
	if manifests == nil {
		manifests = []oci.Descriptor{}
	}
	return marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": manifests})
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("registrytest: %v", err)) // plain maps and descriptors always encode
	}
	return data
}
