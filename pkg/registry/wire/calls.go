package wire

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Resolve implements registry.Source.
func (c *Client) Resolve(ctx context.Context, at oci.Reference) (oci.Descriptor, error) {
	h := c.host(at.Host)
	if !h.heads.bad() {
		op := newOperation(verbResolve, withoutTag(at))
		op.single = true // GET is the next try
		err := c.askManifest(ctx, op, http.MethodHead)
		switch {
		case err == nil:
			if desc, ok := headDescriptor(at, op.answer.header); ok {
				h.heads.found()
				return desc, nil
			}
		case fault.KindOf(err) == fault.NotFound:
			if c.headTells(ctx, h) {
				return oci.Descriptor{}, err
			}
		case !headIsRefused(op.status, err):
			return oci.Descriptor{}, err
		}
	}
	desc, _, err := c.Manifest(ctx, at)
	return desc, err
}

// heads is whether HEAD of a manifest can be believed where it says that there is
// none: at some registries it says so of all (Q13), and what is there would be taken
// for absent.
type heads struct {
	mu    sync.Mutex
	state int            // 0 as long as that is open, 1 when it can, -1 when not
	known *oci.Reference // a manifest that has been read
}

func (h *heads) bad() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state < 0
}

// found notes that HEAD has found something.
func (h *heads) found() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == 0 {
		h.state = 1
	}
}

// read notes a manifest that is there.
func (h *heads) read(at oci.Reference) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil {
		h.known = &at
	}
}

// headTells reports whether a HEAD that found nothing is the last word. One
// manifest that is known to be there shows it, once for each registry; while there
// is none, GET has to be asked.
func (c *Client) headTells(ctx context.Context, h *host) bool {
	h.heads.mu.Lock()
	defer h.heads.mu.Unlock() // others wait for the one that asks
	if h.heads.state == 0 && h.heads.known != nil {
		op := newOperation(verbResolve, *h.heads.known)
		op.single = true
		switch err := c.askManifest(ctx, op, http.MethodHead); {
		case err == nil:
			h.heads.state = 1
		case fault.KindOf(err) == fault.NotFound:
			h.heads.state = -1
		}
	}
	return h.heads.state > 0
}

// headIsRefused reports whether GET may succeed where HEAD failed: not when the
// registry gave a definite answer, or wants to be left alone.
func headIsRefused(status int, err error) bool {
	switch fault.KindOf(err) {
	case fault.NotFound, fault.RateLimited, fault.Cancelled:
		return false
	case fault.Denied:
		return status == http.StatusForbidden
	}
	return true
}

// headDescriptor reads the answer to HEAD; ok is false when it is incomplete
// (Q13), or contradicts at, which GET then tells in full.
func headDescriptor(at oci.Reference, header http.Header) (desc oci.Descriptor, ok bool) {
	size, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	desc = oci.Descriptor{MediaType: header.Get("Content-Type"), Digest: oci.Digest(header.Get("Docker-Content-Digest")), Size: size}
	complete := err == nil && size > 0 && oci.IsManifest(desc.MediaType) && desc.Digest.Valid()
	return desc, complete && (at.Digest == "" || at.Digest == desc.Digest)
}

// Manifest implements registry.Source.
func (c *Client) Manifest(ctx context.Context, at oci.Reference) (oci.Descriptor, []byte, error) {
	op := newOperation(verbManifest, withoutTag(at))
	if err := c.askManifest(ctx, op, http.MethodGet); err != nil {
		return oci.Descriptor{}, nil, err
	}
	body, contentType := op.answer.body, op.answer.header.Get("Content-Type")
	m, err := oci.ParseManifest(contentType, body)
	if err != nil {
		return oci.Descriptor{}, nil, fault.New(fault.Protocol, op.subject, err).
			Hint("check that %s is a registry and not a web page in front of it", at.Host)
	}
	desc := oci.Descriptor{MediaType: m.MediaType, Digest: oci.DigestOf(body), Size: int64(len(body))}
	if at.Digest != "" && at.Digest != desc.Digest {
		return oci.Descriptor{}, nil, protocol(op.subject, "the registry sends a manifest with the digest %s", desc.Digest)
	}
	c.host(at.Host).heads.read(at.Repository.WithDigest(desc.Digest))
	return desc, body, nil
}

// withoutTag asks by digest where there is one: a tag may move (N21).
func withoutTag(at oci.Reference) oci.Reference {
	if at.Digest != "" {
		at.Tag = ""
	}
	return at
}

// manifestTypes are asked for. Schema 1 is among them, which ferry cannot carry:
// a registry that has nothing else would say that there is nothing at all.
var manifestTypes = []string{strings.Join([]string{
	oci.MediaTypeIndex, oci.MediaTypeManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest,
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.v1+json",
}, ", ")}

// askManifest asks for a manifest, by HEAD or GET; op.answer is what came.
func (c *Client) askManifest(ctx context.Context, op *operation, method string) error {
	return c.do(ctx, op, func(ctx context.Context, h *host) error {
		req, err := h.request(ctx, method, op.repo, "/manifests/"+cmp.Or(string(op.ref.Digest), op.ref.Tag), nil)
		if err != nil {
			return err
		}
		req.Header["Accept"] = manifestTypes
		_, err = h.exchange(op, req)
		return err
	})
}

// HasBlob implements registry.Target.
func (c *Client) HasBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor) (bool, error) {
	_, err := c.headBlob(ctx, newOperation(verbHasBlob, repo.WithDigest(desc.Digest)))
	if fault.KindOf(err) == fault.NotFound {
		return false, nil
	}
	return err == nil, err
}

// BlobSize implements registry.Standing.
func (c *Client) BlobSize(ctx context.Context, repo oci.Repository, digest oci.Digest) (int64, error) {
	op := newOperation(verbHasBlob, repo.WithDigest(digest))
	header, err := c.headBlob(ctx, op)
	kind := fault.KindOf(err)
	switch {
	case kind == fault.Denied && op.status == http.StatusForbidden, kind == fault.Unsupported, kind == fault.Protocol:
		return -1, nil // GET may succeed, or tells more
	case err != nil:
		return 0, err
	}
	size, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
	if err != nil || size < 0 || header.Get("Content-Encoding") != "" {
		return -1, nil
	}
	return size, nil
}

func (c *Client) headBlob(ctx context.Context, op *operation) (header http.Header, err error) {
	err = c.do(ctx, op, func(ctx context.Context, h *host) error {
		req, err := h.request(ctx, http.MethodHead, op.repo, "/blobs/"+string(op.ref.Digest), nil)
		if err != nil {
			return err
		}
		header, err = h.finish(op, req, http.StatusOK)
		return err
	})
	return header, err
}

// MountBlob implements registry.Target.
func (c *Client) MountBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, from oci.Repository) (bool, error) {
	if from.Host != repo.Host {
		return false, nil
	}
	op := newOperation(verbMount, repo.WithDigest(desc.Digest))
	op.from = from.Path
	err := c.do(ctx, op, func(ctx context.Context, h *host) error {
		req, err := h.request(ctx, http.MethodPost, repo, "/blobs/uploads/", nil)
		if err != nil {
			return err
		}
		req.URL.RawQuery = url.Values{"mount": {string(desc.Digest)}, "from": {from.Path}}.Encode()
		_, err = h.finish(op, req, http.StatusCreated)
		return err
	})
	switch kind := fault.KindOf(err); {
	case err == nil:
		return true, nil
	case kind == fault.Cancelled, temporary(kind):
		return false, err
	}
	return false, nil // whatever was said (Q5), the upload tells
}

// PutManifest implements registry.Target.
func (c *Client) PutManifest(ctx context.Context, at oci.Reference, mediaType string, body []byte) error {
	digest := oci.DigestOf(body)
	if at.Digest != "" && at.Digest != digest {
		return fault.Newf(fault.Damaged, at.String(), "the manifest has the digest %s", digest)
	}
	at.Digest = digest
	op := newOperation(verbPutManifest, at)
	op.body, op.mediaType = body, mediaType
	if at.Tag != "" {
		op.ref.Digest = ""
	}
	if !oci.IsManifest(mediaType) || len(body) > oci.ManifestLimit {
		return fault.Newf(fault.Unsupported, op.subject, "cannot send a manifest of %d bytes and the type %.100q", len(body), mediaType)
	}
	return c.do(ctx, op, func(ctx context.Context, h *host) error {
		req, err := h.request(ctx, http.MethodPut, op.repo, "/manifests/"+cmp.Or(op.ref.Tag, string(digest)), bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", mediaType)
		header, err := h.finish(op, req, http.StatusCreated)
		if err != nil {
			return err
		}
		if got := header.Get("Docker-Content-Digest"); got != "" && got != string(digest) {
			return protocol(op.subject, "the registry has taken the manifest as %.100q", got)
		}
		return nil
	})
}
