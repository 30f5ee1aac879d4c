package wire

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/regclient/regclient/scheme"
	"github.com/regclient/regclient/types/tag"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Resolve implements registry.Source.
func (c *Client) Resolve(ctx context.Context, at oci.Reference) (oci.Descriptor, error) {
	op := newOperation(verbResolve, withoutTag(at))
	op.single = true // GET is the next try
	err := c.askManifest(ctx, op, http.MethodHead)
	if err == nil {
		if desc, ok := headDescriptor(at, op.answer.header); ok {
			return desc, nil
		}
	} else if !headIsRefused(op.status, err) {
		return oci.Descriptor{}, err
	}
	desc, _, err := c.Manifest(ctx, at)
	return desc, err
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

const (
	tagPageSize  = 1000     // tags asked for at a time (S1.10.4)
	tagPageLimit = 16 << 20 // bytes of one page
	tagLimit     = 1 << 20  // tags of one repository
)

// Tags implements registry.Source.
func (c *Client) Tags(ctx context.Context, repo oci.Repository) ([]string, error) {
	var tags []string
	seen := map[string]bool{}
	for {
		page, err := c.tagPage(ctx, repo, tags)
		if err != nil {
			return nil, err
		}
		before := len(tags)
		for _, name := range page {
			if !oci.ValidTag(name) {
				return nil, protocol(repo.String(), "the registry lists %.150q, which is not a tag", name)
			}
			if !seen[name] {
				seen[name] = true
				tags = append(tags, name)
			}
		}
		// Some registries cut the list at a round number and name no next
		// page (Q25): only an odd or an empty rest is surely the last.
		if len(tags) == before || len(page) < tagPageSize && len(page)%50 != 0 {
			return tags, nil
		}
		if len(tags) > tagLimit {
			return nil, protocol(repo.String(), "the registry lists more than %d tags", tagLimit)
		}
	}
}

// tagPage asks for what follows tags. regclient follows links until the page
// is full.
func (c *Client) tagPage(ctx context.Context, repo oci.Repository, tags []string) ([]string, error) {
	op := newOperation(verbTags, oci.Reference{Repository: repo})
	opts := []scheme.TagOpts{scheme.WithTagLimit(tagPageSize)}
	if len(tags) > 0 {
		opts = append(opts, scheme.WithTagLast(tags[len(tags)-1]))
	}
	var list *tag.List
	err := c.do(ctx, op, func(ctx context.Context, h *host) (err error) {
		list, err = h.reg.TagList(ctx, refOf(op.ref), opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list.GetTags()
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
