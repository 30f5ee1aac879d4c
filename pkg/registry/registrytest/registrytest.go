// Package registrytest is a registry in the process: the pull, push, tag list,
// upload and referrers parts of the OCI distribution-spec over net/http, with faults on
// demand and a log of every request.
//
// It is as strict as a validating registry: a manifest whose blobs or children
// are not in its repository is refused, digests and upload offsets are checked.
// A client that passes against it asks for things in the right order. It keeps
// content in memory, or in files ([WithDir]) for content larger than that.
//
// It passes the conformance suite of the distribution-spec (e2e/conformance says
// but for what), and does what real registries do otherwise where it is told so:
// each [Quirk] is one such thing, named by its row of docs/failures.md.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"ferry/pkg/oci"
)

// Registry is an http.Handler that serves /v2/ and, with [WithTokenAuth],
// /token. It is safe for concurrent use.
type Registry struct {
	opts options

	mu      sync.Mutex
	content map[oci.Digest]*content
	repos   map[string]*repository
	uploads map[string]*upload
	tokens  map[string]*token
	log     []*Request
	faults  []*Fault
	release chan struct{} // closed by Release; stalled requests wait for it
	serial  int           // names uploads and tokens
	roomy   bool          // Heal has made room (Q38)
}

// repository is what one path holds. Content is shared, membership is not: a
// blob of another repository must be mounted or uploaded.
type repository struct {
	blobs     map[oci.Digest]bool
	manifests map[oci.Digest]string // media type
	tags      map[string]oci.Digest
}

type options struct {
	dir     string
	noRange bool
	auth    authenticator
	quirks  quirks
}

// WithDir keeps blobs in files of dir, so that content larger than the memory
// can be served; GET is then answered with sendfile.
func WithDir(dir string) Option { return option(func(o *options) { o.dir = dir }) }

// WithoutRange answers a Range request with 200 and the whole blob.
func WithoutRange() Option { return option(func(o *options) { o.noRange = true }) }

// New returns an empty registry.
func New(opts ...Option) *Registry {
	r := &Registry{
		content: map[oci.Digest]*content{},
		repos:   map[string]*repository{},
		uploads: map[string]*upload{},
		tokens:  map[string]*token{},
		release: make(chan struct{}),
	}
	for _, opt := range opts {
		opt.apply(&r.opts)
	}
	return r
}

// Listen serves the registry over plain HTTP on addr ("127.0.0.1:0") and
// returns the address it got. stop ends it, stalled requests included, and
// waits for its handlers.
func (r *Registry) Listen(addr string) (host string, stop func() error, err error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, err
	}
	var handlers sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			r.ServeHTTP(w, req)
		}),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // aborted handlers are faults that a test asked for
		ConnState:         r.connState,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = func() error {
		cancel()
		closeErr := server.Close()
		serveErr := <-done
		handlers.Wait()
		if errors.Is(serveErr, http.ErrServerClosed) {
			serveErr = nil
		}
		return errors.Join(closeErr, serveErr)
	}
	return listener.Addr().String(), stop, nil
}

// connState closes idle connections, where that is asked for.
func (r *Registry) connState(conn net.Conn, state http.ConnState) {
	if state == http.StateIdle && r.opts.quirks.closeIdle {
		conn.Close()
	}
}

// Server is a registry that listens on a loopback port.
type Server struct {
	*Registry
	Host string // "127.0.0.1:port"
}

// Start serves reg until the test ends.
func Start(t testing.TB, reg *Registry) *Server {
	t.Helper()
	host, stop, err := reg.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("registrytest: %v", err)
		}
	})
	return &Server{Registry: reg, Host: host}
}

// Repository returns the repository at path of this server.
func (s *Server) Repository(path string) oci.Repository {
	return oci.Repository{Host: s.Host, Path: path}
}

// PutBlob stores a blob in the repository at path, past all checks and faults.
func (r *Registry) PutBlob(path string, data []byte) oci.Descriptor {
	desc := oci.Descriptor{MediaType: "application/octet-stream", Digest: oci.DigestOf(data), Size: int64(len(data))}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.content[desc.Digest] = &content{data: slices.Clone(data), size: desc.Size}
	r.repository(path).blobs[desc.Digest] = true
	return desc
}

// PutManifest stores body in the repository at path, under tag unless that is
// "". Nothing is checked: hostile manifests are seeded this way.
func (r *Registry) PutManifest(path, tag, mediaType string, body []byte) oci.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.storeManifest(path, tag, mediaType, slices.Clone(body))
}

// PutImage stores an image of the given layers (raw bytes, not checked to be
// tar archives) in the repository at path, under tag unless that is "".
func (r *Registry) PutImage(path, tag string, layers ...[]byte) oci.Descriptor {
	config := r.PutBlob(path, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"n":%d}`, len(layers)))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	var descs []oci.Descriptor
	for _, layer := range layers {
		desc := r.PutBlob(path, layer)
		desc.MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
		descs = append(descs, desc)
	}
	return r.PutManifest(path, tag, oci.MediaTypeManifest, ImageManifest(config, descs...))
}

// PutAttached stores an artifact of one layer that has subject, a digest in the
// same repository, under tag unless that is "".
func (r *Registry) PutAttached(path, tag string, subject oci.Descriptor, artifactType string, layer []byte) oci.Descriptor {
	config := r.PutBlob(path, []byte("{}"))
	config.MediaType = "application/vnd.oci.empty.v1+json"
	blob := r.PutBlob(path, layer)
	blob.MediaType = artifactType
	return r.PutManifest(path, tag, oci.MediaTypeManifest, AttachedManifest(subject, artifactType, config, blob))
}

// Delete removes a tag, manifest or blob from the repository at path: what a
// garbage collection in the middle of a run does.
func (r *Registry) Delete(path, reference string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repository(path)
	delete(repo.tags, reference)
	delete(repo.manifests, oci.Digest(reference))
	delete(repo.blobs, oci.Digest(reference))
}

// Tags returns the digest of every tag, by "path:tag".
func (r *Registry) Tags() map[string]oci.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	tags := map[string]oci.Digest{}
	for path, repo := range r.repos {
		for tag, digest := range repo.tags {
			tags[path+":"+tag] = digest
		}
	}
	return tags
}

// Manifests returns the digest of every manifest in the repository at path, sorted.
func (r *Registry) Manifests(path string) []oci.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repos[path]
	if repo == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(repo.manifests))
}

// Has reports whether the repository at path holds digest as a blob or as a
// manifest.
func (r *Registry) Has(path string, digest oci.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	repo := r.repos[path]
	if repo == nil {
		return false
	}
	_, manifest := repo.manifests[digest]
	return manifest || repo.blobs[digest]
}

// Content returns the bytes of a blob or manifest of any repository, nil when
// there is none.
func (r *Registry) Content(digest oci.Digest) []byte {
	r.mu.Lock()
	c := r.content[digest]
	r.mu.Unlock()
	if c == nil {
		return nil
	}
	body, err := c.open()
	if err != nil {
		return nil
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return nil
	}
	return data
}

// OpenUploads counts upload sessions that were neither finished nor cancelled.
func (r *Registry) OpenUploads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.uploads)
}

// repository returns the repository at path, made when it is new. r.mu is held.
func (r *Registry) repository(path string) *repository {
	repo := r.repos[path]
	if repo == nil {
		repo = &repository{blobs: map[oci.Digest]bool{}, manifests: map[oci.Digest]string{}, tags: map[string]oci.Digest{}}
		r.repos[path] = repo
	}
	return repo
}

// storeManifest writes body and its tag. r.mu is held.
func (r *Registry) storeManifest(path, tag, mediaType string, body []byte) oci.Descriptor {
	desc := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(body), Size: int64(len(body))}
	repo := r.repository(path)
	r.content[desc.Digest] = &content{data: body, size: desc.Size}
	repo.manifests[desc.Digest] = mediaType
	if tag != "" {
		repo.tags[tag] = desc.Digest
	}
	return desc
}

// nextID names an upload or a token. r.mu is held.
func (r *Registry) nextID(kind string) string {
	r.serial++
	return fmt.Sprintf("%s-%d", kind, r.serial)
}

func (repo *repository) sortedTags() []string { return slices.Sorted(maps.Keys(repo.tags)) }
