package wire

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"ferry/pkg/oci"
)

const (
	tagPageSize  = 1000     // tags asked for at a time (S1.10.4)
	tagPageLimit = 16 << 20 // bytes of one page
	tagLimit     = 1 << 20  // tags of one repository
	tagPages     = 50_000   // requests for one list
)

// Tags implements registry.Source. It follows links; where there is none, and the
// page does not look like the last, it asks for what comes behind the last tag.
func (c *Client) Tags(ctx context.Context, repo oci.Repository) ([]string, error) {
	h := c.host(repo.Host)
	behind := func(last string) *url.URL {
		page := h.address(repo, "/tags/list")
		page.RawQuery = url.Values{"n": {strconv.Itoa(tagPageSize)}}.Encode()
		if last != "" {
			page.RawQuery += "&" + url.Values{"last": {last}}.Encode()
		}
		return page
	}
	var tags []string
	seen := map[string]bool{}
	page := behind("")
	for pages := 0; ; pages++ {
		names, next, err := c.tagPage(ctx, repo, page)
		if err != nil {
			return nil, err
		}
		before := len(tags)
		for _, name := range names {
			if !oci.ValidTag(name) {
				return nil, protocol(repo.String(), "the registry lists %.150q, which is not a tag", name)
			}
			if !seen[name] {
				seen[name] = true
				tags = append(tags, name)
			}
		}
		switch {
		case len(tags) > tagLimit || pages == tagPages:
			return nil, protocol(repo.String(), "the registry lists more than %d tags", tagLimit)
		case next != nil && len(tags) == before && pages > 0:
			return nil, protocol(repo.String(), "the registry's list of tags goes in circles")
		case next != nil:
			page = next
		// Some registries cut the list at a round number and name no next
		// page (Q25): only an odd or an empty rest is surely the last.
		case len(tags) == before || len(names) < tagPageSize && len(names)%50 != 0:
			return tags, nil
		default:
			page = behind(tags[len(tags)-1])
		}
	}
}

// tagPage asks for one page, and tells where the next one is.
func (c *Client) tagPage(ctx context.Context, repo oci.Repository, page *url.URL) (names []string, next *url.URL, err error) {
	op := newOperation(verbTags, oci.Reference{Repository: repo})
	if err := c.page(ctx, op, page, "application/json"); err != nil {
		return nil, nil, err
	}
	var doc struct {
		Tags []string `json:"tags"` // null where there are none
	}
	if json.Unmarshal(op.answer.body, &doc) != nil {
		return nil, nil, protocol(op.subject, "the tag list is not JSON").
			Hint("check that %s is a registry and not a web page in front of it", repo.Host)
	}
	if next, err = nextPage(page, op.answer.header); err != nil {
		return nil, nil, protocol(op.subject, "the list of tags continues at an address that is none")
	}
	return doc.Tags, next, nil
}
