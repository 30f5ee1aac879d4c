package wire

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

const (
	referrerPages = 100    // of one list
	referrerLimit = 10_000 // manifests attached to one other
)

// Referrers implements registry.Source. That there is no such API is kept in
// mind for the repository, not for the host: behind one name there may be several
// registries, told apart by the path, and a signature that one of them lists must
// not be lost for what another one cannot do.
func (c *Client) Referrers(ctx context.Context, repo oci.Repository, digest oci.Digest) ([]oci.Descriptor, error) {
	h := c.host(repo.Host)
	subject := repo.WithDigest(digest)
	if _, silent := h.silent.Load(repo.Path); silent {
		return nil, fault.Newf(fault.Unsupported, subject.String(), "the registry has no referrers API")
	}
	var found []oci.Descriptor
	seen := map[oci.Digest]bool{}
	page := h.address(repo, "/referrers/"+string(digest))
	for pages := 0; page != nil; pages++ {
		if pages == referrerPages || len(found) > referrerLimit {
			return nil, protocol(subject.String(), "the registry lists referrers without end").Hint(withoutAttachments)
		}
		list, next, err := c.referrersPage(ctx, subject, page)
		if err != nil {
			return nil, err
		}
		for _, desc := range list {
			if !seen[desc.Digest] {
				seen[desc.Digest] = true
				found = append(found, desc)
			}
		}
		page = next
	}
	return found, nil
}

// withoutAttachments is the way around a registry that fails at this alone.
const withoutAttachments = "report it to whoever runs the registry; --skip-attachments leaves out what only this list names"

// referrersPage asks for one page, and tells where the next one is.
func (c *Client) referrersPage(ctx context.Context, subject oci.Reference, page *url.URL) ([]oci.Descriptor, *url.URL, error) {
	op := newOperation(verbReferrers, subject)
	if err := c.page(ctx, op, page, oci.MediaTypeIndex); err != nil {
		return nil, nil, c.withoutReferrers(op, err)
	}
	m, err := oci.ParseManifest(op.answer.header.Get("Content-Type"), op.answer.body)
	if err != nil || m.MediaType != oci.MediaTypeIndex {
		return nil, nil, protocol(op.subject, "the list of referrers is not an image index").Hint(withoutAttachments)
	}
	for _, blob := range m.Blobs {
		return nil, nil, protocol(op.subject, "%s is attached to it, of type %.100q, which is no manifest that can be carried", blob.Digest, blob.MediaType).
			Hint("--skip-attachments leaves it out, with all that is attached")
	}
	next, err := nextPage(page, op.answer.header)
	if err != nil {
		return nil, nil, protocol(op.subject, "the list of referrers continues at an address that is none").Hint(withoutAttachments)
	}
	return m.Manifests, next, nil
}

// withoutReferrers sorts a refusal: one that says that there is no such API is
// kept in mind. A 404 about a name or a manifest does not say so, and nothing else
// does: that a right is lacking, or a registry ails, is no answer to the question.
func (c *Client) withoutReferrers(op *operation, err error) error {
	kind := fault.KindOf(err)
	switch {
	case op.status == http.StatusNotFound && kind == fault.NotFound && (op.code == "" || op.code == codeUnsupported),
		kind == fault.Unsupported && op.lacksVerb():
		c.host(op.repo.Host).silent.Store(op.repo.Path, true)
		return fault.New(fault.Unsupported, op.subject, err)
	case kind == fault.Unsupported:
		return fault.New(fault.Protocol, op.subject, err).Hint(withoutAttachments)
	case kind == fault.Denied, kind == fault.Protocol:
		return fault.New(kind, op.subject, err).Hint("%s; where only questions for referrers are refused, --skip-attachments asks none", fault.HintOf(err))
	}
	return err
}

const codeUnsupported = "UNSUPPORTED"

// lacksVerb reports whether the last refusal said that there is no such thing to
// ask for.
func (op *operation) lacksVerb() bool {
	return op.status == http.StatusMethodNotAllowed || op.status == http.StatusNotImplemented || op.code == codeUnsupported
}

// nextPage is the link to what follows, or nil. Where it leads is for the
// transport to judge (N5). Some registries leave the angle brackets out (Q25).
func nextPage(page *url.URL, header http.Header) (*url.URL, error) {
	for _, line := range header.Values("Link") {
		for line != "" {
			_, bracketed, opened := strings.Cut(line, "<")
			address, rest, ok := strings.Cut(bracketed, ">")
			if !opened {
				address, rest, ok = strings.Cut(line, ";")
				address, rest = strings.TrimSpace(address), ";"+rest
			}
			if !ok {
				break
			}
			parameters, others, _ := strings.Cut(rest, ",")
			if isNext(parameters) {
				return page.Parse(address)
			}
			line = others
		}
	}
	return nil, nil
}

// isNext reports whether a link's parameters say that it is the next page.
func isNext(parameters string) bool {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "rel") && strings.EqualFold(strings.Trim(value, `"`), "next") {
			return true
		}
	}
	return false
}
