package e2e

import (
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// ferry-publish takes at most three requests for each blob in a repository and two
// for each tag of an edition, sends each blob once, and reads each tag once when
// all stands, in 1.05 requests for each.
func TestPublishRequests(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	inventory := fetched(t, src.Host, t.TempDir())
	contents := decode[contract.InventorySpec](t, inventory).Spec.Contents
	roots, pairs := map[string][]oci.Digest{}, 0
	for _, im := range contents.Images {
		roots[im.Path] = append(roots[im.Path], im.Digest)
	}
	for _, digests := range roots {
		_, blobs := contents.Graph().Closure(digests...)
		pairs += len(blobs)
	}
	for name, opts := range map[string][]registrytest.Option{
		"a registry that can all":   nil,
		"one without referrers":     {registrytest.Q21NoReferrers()},
		"one that does not mount":   {registrytest.Q5Mount(202)},
		"one without lists of tags": {registrytest.Q27NoTagList(405)},
	} {
		target := registrytest.Start(t, registrytest.New(opts...))
		receipt := run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
		first, tags := target.Requests(), len(target.Tags())
		if limit := 3*pairs + 2*tags; len(first) > limit {
			t.Errorf("%s: %d requests, the limit is %d for %d blobs in their repositories and %d tags", name, len(first), limit, pairs, tags)
		}
		if n := target.Count(registrytest.KindPing, ""); n > 0 {
			t.Errorf("%s: %d pings", name, n)
		}
		sent := map[string]int{}
		for _, r := range first {
			if r.Kind == registrytest.KindUpload && r.Method == "PUT" {
				sent[r.Query[strings.Index(r.Query, "digest="):]]++
			}
		}
		for digest, n := range sent {
			if n > 1 && !strings.Contains(name, "mount") {
				t.Errorf("%s: %s was sent %d times", name, digest, n)
			}
		}
		target.Reset()
		if again := run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure"); again != receipt {
			t.Errorf("%s: the second receipt differs", name)
		}
		if n := len(target.Requests()); float64(n) > 1.05*float64(tags) {
			t.Errorf("%s: publishing again takes %d requests for %d tags", name, n, tags)
		}
		if n := target.Count(registrytest.KindReferrers, ""); n > 1 && strings.Contains(name, "referrers") {
			t.Errorf("%s: it was asked for referrers %d times", name, n)
		}
		for _, r := range target.Requests() {
			if r.Write() || r.Kind == registrytest.KindBlob {
				t.Errorf("%s: publishing again asks %s %s", name, r.Method, r.Path)
			}
		}
	}
}
