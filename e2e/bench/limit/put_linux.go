package limit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Put says what to upload.
type Put struct {
	Host        string `required:"" help:"The registry."`
	Dir         string `required:"" help:"The directory that Get filled."`
	Connections int    `default:"8" help:"So many at a time."`
}

// repository is where all blobs go.
const repository = "limit"

// Run uploads every blob once, in the two requests that the specification asks
// for.
func (p *Put) Run(ctx context.Context) error {
	extents, err := readExtents(p.Dir)
	if err != nil {
		return err
	}
	files := map[string]*os.File{}
	for _, e := range extents {
		if files[e.file] == nil {
			f, err := os.Open(filepath.Join(p.Dir, e.file))
			if err != nil {
				return err
			}
			defer f.Close()
			files[e.file] = f
		}
	}
	client := newClient(p.Connections)
	return each(ctx, p.Connections, extents, func(ctx context.Context, _ int, extents <-chan extent) error {
		for e := range extents {
			if err := p.put(ctx, client, e, io.NewSectionReader(files[e.file], e.offset, e.size)); err != nil {
				return fmt.Errorf("%s: %w", e.digest, err)
			}
		}
		return nil
	})
}

func (p *Put) put(ctx context.Context, client *http.Client, e extent, body io.Reader) error {
	location, err := send(ctx, client, http.MethodPost, fmt.Sprintf("http://%s/v2/%s/blobs/uploads/", p.Host, repository), http.NoBody, 0, http.StatusAccepted)
	if err != nil {
		return err
	}
	query := location.Query()
	query.Set("digest", string(e.digest))
	location.RawQuery = query.Encode()
	_, err = send(ctx, client, http.MethodPut, location.String(), body, e.size, http.StatusCreated)
	return err
}

// send makes a request that must end with the status want, and returns where the
// answer leads.
func send(ctx context.Context, client *http.Client, method, target string, body io.Reader, size int64, want int) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		var text strings.Builder
		_, _ = io.CopyN(&text, resp.Body, 500)
		return nil, fmt.Errorf("%s: status %d: %s", method, resp.StatusCode, &text)
	}
	return resp.Location()
}
