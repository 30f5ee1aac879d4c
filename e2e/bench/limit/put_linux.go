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

	"ferry/e2e/bench/content"
	"ferry/pkg/oci"
)

// Put says what to upload.
type Put struct {
	Host        string `required:"" help:"The registry."`
	Dir         string `required:"" help:"The directory that Get filled."`
	Manifests   string `help:"The file that WriteManifests made, if Get had it."`
	Connections int    `default:"8" help:"So many at a time."`
}

// repository is where everything goes.
const repository = "limit"

// Run uploads every blob once, in the two requests that the specification asks
// for. Then it puts each manifest of the list, behind those that it names, as often
// as there are places for it.
func (p *Put) Run(ctx context.Context) error {
	extents, err := readExtents(p.Dir)
	if err != nil {
		return err
	}
	manifests, err := readManifests(p.Manifests)
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
	for _, wave := range waves(extents, manifests) {
		err := each(ctx, p.Connections, wave, func(ctx context.Context, _ int, loads <-chan load) error {
			for l := range loads {
				if err := p.put(ctx, client, l, io.NewSectionReader(files[l.file], l.offset, l.size)); err != nil {
					return fmt.Errorf("%s: %w", l.digest, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// load is what one upload takes.
type load struct {
	extent
	mediaType string // of a manifest
	name      string // that a manifest is put under; "" for a blob
}

// waves are all blobs, and then manifests by their height.
func waves(extents []extent, manifests []content.Manifest) [][]load {
	known := map[oci.Digest]content.Manifest{}
	highest := -1
	for _, m := range manifests {
		known[m.Digest] = m
		highest = max(highest, m.Height)
	}
	out := make([][]load, highest+2)
	for _, e := range extents {
		m, manifest := known[e.digest]
		if !manifest {
			out[0] = append(out[0], load{extent: e})
			continue
		}
		for i := range m.Tags {
			out[1+m.Height] = append(out[1+m.Height], load{e, m.MediaType, fmt.Sprintf("%.32s-%d", e.digest.Hex(), i)})
		}
		for range m.Untagged {
			out[1+m.Height] = append(out[1+m.Height], load{e, m.MediaType, string(e.digest)})
		}
	}
	return out
}

func (p *Put) put(ctx context.Context, client *http.Client, l load, body io.Reader) error {
	if l.name == "" {
		return p.blob(ctx, client, l.extent, body)
	}
	_, err := send(ctx, client, http.MethodPut, fmt.Sprintf("http://%s/v2/%s/manifests/%s", p.Host, repository, l.name), l.mediaType, body, l.size, http.StatusCreated)
	return err
}

func (p *Put) blob(ctx context.Context, client *http.Client, e extent, body io.Reader) error {
	location, err := send(ctx, client, http.MethodPost, fmt.Sprintf("http://%s/v2/%s/blobs/uploads/", p.Host, repository), "", http.NoBody, 0, http.StatusAccepted)
	if err != nil {
		return err
	}
	query := location.Query()
	query.Set("digest", string(e.digest))
	location.RawQuery = query.Encode()
	_, err = send(ctx, client, http.MethodPut, location.String(), "", body, e.size, http.StatusCreated)
	return err
}

// send makes a request that must end with the status want, and returns where the
// answer leads.
func send(ctx context.Context, client *http.Client, method, target, mediaType string, body io.Reader, size int64, want int) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
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
