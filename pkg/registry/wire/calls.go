package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/regclient/regclient/scheme"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/manifest"
	"github.com/regclient/regclient/types/ref"
	"github.com/regclient/regclient/types/tag"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Resolve implements registry.Source.
func (c *Client) Resolve(ctx context.Context, at oci.Reference) (oci.Descriptor, error) {
	op := newOperation(verbResolve, withoutTag(at))
	op.single = true // GET is the next try
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) error {
		_, err := r.ManifestHead(ctx, at)
		return op.unlessAnswered(err)
	})
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
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) error {
		_, err := r.ManifestGet(ctx, at)
		return op.unlessAnswered(err) // what it means is ours to read
	})
	if err != nil {
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

// unlessAnswered drops regclient's verdict on an answer that came in full.
func (op *operation) unlessAnswered(err error) error {
	if op.answer != nil && op.failure == nil {
		return nil
	}
	return err
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
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) (err error) {
		list, err = r.TagList(ctx, at, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list.GetTags()
}

// HasBlob implements registry.Target.
func (c *Client) HasBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor) (bool, error) {
	op := newOperation(verbHasBlob, repo.WithDigest(desc.Digest))
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) error {
		_, err := r.BlobHead(ctx, at, descOf(desc))
		return err
	})
	if fault.KindOf(err) == fault.NotFound {
		return false, nil
	}
	return err == nil, err
}

// MountBlob implements registry.Target.
func (c *Client) MountBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, from oci.Repository) (bool, error) {
	if from.Host != repo.Host {
		return false, nil
	}
	op := newOperation(verbMount, repo.WithDigest(desc.Digest))
	op.from = from.Path
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) error {
		return r.BlobMount(ctx, refOf(oci.Reference{Repository: from}), at, descOf(desc))
	})
	switch kind := fault.KindOf(err); {
	case err == nil:
		return true, nil
	case kind == fault.Cancelled, temporary(kind):
		return false, err
	}
	return false, nil // whatever was said (Q5), the upload tells
}

// PutBlob implements registry.Target. Every try is a new upload session.
func (c *Client) PutBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error {
	ctx, stop := withDeadline(ctx, c.opts.Timeout) // of all tries together
	defer stop()
	pauses := &operation{retries: c.opts.Retries, backoff: c.opts.Backoff}
	for {
		err := c.putBlob(ctx, repo, desc, body)
		if !temporary(fault.KindOf(err)) || ctx.Err() != nil {
			return err
		}
		pause, ok := pauses.nextPause()
		if !ok {
			return err
		}
		if errors.Is(sleep(ctx, pause), errDeadline) {
			return deadlineFault(repo.WithDigest(desc.Digest).String())
		}
		if ctx.Err() != nil {
			return fault.New(fault.KindOf(ctx.Err()), repo.WithDigest(desc.Digest).String(), ctx.Err())
		}
	}
}

func (c *Client) putBlob(ctx context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error {
	op := newOperation(verbPutBlob, repo.WithDigest(desc.Digest))
	src := &source{body: body, size: desc.Size, subject: op.subject}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return fault.New(fault.Local, op.subject, err)
	}
	err := c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) error {
		_, err := r.BlobPut(ctx, at, descOf(desc), src)
		return err
	})
	if err != nil && src.failure != nil {
		return src.failure // not the registry's doing
	}
	return err
}

// source is a blob to send. It remembers when the fault is ours.
type source struct {
	body    io.ReadSeeker
	size    int64
	at      int64
	subject string
	failure error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.at += int64(n)
	switch {
	case err == io.EOF && s.at != s.size:
		s.failure = fault.Newf(fault.Damaged, s.subject, "the blob has %d bytes here, want %d", s.at, s.size)
		return n, s.failure
	case err != nil && err != io.EOF:
		s.failure = err
		if fault.KindOf(err) == nil {
			s.failure = fault.New(fault.Local, s.subject, err)
		}
	}
	return n, err
}

func (s *source) Seek(offset int64, whence int) (int64, error) {
	at, err := s.body.Seek(offset, whence)
	s.at = at
	return at, err
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
	m, err := manifest.New(manifest.WithRaw(body), manifest.WithDesc(descOf(oci.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(body))})))
	if err != nil {
		return fault.New(fault.Unsupported, op.subject, fmt.Errorf("manifest: %w", err))
	}
	return c.do(ctx, op, func(ctx context.Context, r *reg.Reg, at ref.Ref) error {
		return r.ManifestPut(ctx, at, m)
	})
}
