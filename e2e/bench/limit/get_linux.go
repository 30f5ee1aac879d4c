package limit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"ferry/e2e/measure"
	"ferry/pkg/oci"

	"golang.org/x/sys/unix"
)

// Get says what to download.
type Get struct {
	Host        string `required:"" help:"The registry."`
	List        string `required:"" help:"The file that WriteList made."`
	Manifests   string `help:"The file that WriteManifests made."`
	Dir         string `required:"" help:"The directory for the content."`
	Connections int    `default:"8" help:"So many at a time."`
	Direct      bool   `help:"Write past the page cache."`
}

// Run downloads and hashes every blob once, and every manifest of the list, and writes
// each byte once. It returns when the content is on disk.
func (g *Get) Run(ctx context.Context) error {
	items, err := g.items()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(g.Dir, 0o777); err != nil {
		return err
	}
	client := newClient(g.Connections)
	found := make([][]extent, g.Connections)
	err = each(ctx, g.Connections, items, func(ctx context.Context, number int, items <-chan item) error {
		to, err := g.sink(number)
		if err != nil {
			return err
		}
		defer to.close()
		for it := range items {
			at := to.written + int64(to.filled)
			if err := g.get(ctx, client, it, to); err != nil {
				return fmt.Errorf("%s: %w", it.digest, err)
			}
			found[number] = append(found[number], extent{filepath.Base(to.file.Name()), at, to.written + int64(to.filled) - at, it.digest})
		}
		return to.finish()
	})
	if err != nil {
		return err
	}
	var all []extent
	for _, extents := range found {
		all = append(all, extents...)
	}
	return errors.Join(writeExtents(g.Dir, all), measure.SyncFS(g.Dir))
}

// item is a blob or a manifest at the source.
type item struct {
	path   string // below /v2/
	digest oci.Digest
	accept string
}

func (g *Get) items() ([]item, error) {
	blobs, err := readList(g.List)
	if err != nil {
		return nil, err
	}
	manifests, err := readManifests(g.Manifests)
	var items []item
	for _, b := range blobs {
		items = append(items, item{path: b.Repository + "/blobs/", digest: b.Digest})
	}
	for _, m := range manifests {
		items = append(items, item{m.Repository + "/manifests/", m.Digest, m.MediaType})
	}
	return items, err
}

func (g *Get) get(ctx context.Context, client *http.Client, it item, to *sink) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/v2/%s%s", g.Host, it.path, it.digest), nil)
	if err != nil {
		return err
	}
	if it.accept != "" {
		req.Header.Set("Accept", it.accept)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	hash := sha256.New()
	for {
		n, err := resp.Body.Read(to.free())
		hash.Write(to.free()[:n])
		if err := to.take(n); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if got := oci.DigestFromSum(hash.Sum(nil)); got != it.digest {
		return fmt.Errorf("status %d with content %s", resp.StatusCode, got)
	}
	return nil
}

func newClient(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
		DisableCompression: true,
	}}
}

// sink is a file that is filled through one large buffer, which direct I/O
// demands and buffered I/O likes.
type sink struct {
	file    *os.File
	buf     []byte
	filled  int
	written int64
}

func (g *Get) sink(number int) (*sink, error) {
	flags := os.O_CREATE | os.O_TRUNC | os.O_WRONLY
	if g.Direct {
		flags |= unix.O_DIRECT
	}
	f, err := os.OpenFile(filepath.Join(g.Dir, "content-"+strconv.Itoa(number)), flags, 0o666)
	if err != nil {
		return nil, err
	}
	// Whole pages: direct I/O takes no others.
	buf, err := unix.Mmap(-1, 0, bufferSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	return &sink{file: f, buf: buf}, err
}

func (s *sink) free() []byte { return s.buf[s.filled:] }

// take says that n bytes more of the buffer are filled.
func (s *sink) take(n int) error {
	s.filled += n
	if s.filled < len(s.buf) {
		return nil
	}
	return s.flush(s.filled)
}

func (s *sink) flush(n int) error {
	_, err := s.file.Write(s.buf[:n])
	s.written += int64(s.filled)
	s.filled = 0
	return err
}

// finish writes what is left, as whole blocks, and cuts the file to its length.
func (s *sink) finish() error {
	const block = 4096
	if err := s.flush((s.filled + block - 1) / block * block); err != nil {
		return err
	}
	return s.file.Truncate(s.written)
}

func (s *sink) close() {
	_ = s.file.Close() // what matters is synced
	_ = unix.Munmap(s.buf)
}
