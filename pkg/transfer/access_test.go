package transfer

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/fault"
	"ferry/pkg/registry/registrytest"
)

// asked splits the writes of a target into the access checks, which come first,
// and what follows them.
func asked(t *testing.T, target *registrytest.Server) (checked []string, rest []registrytest.Request) {
	t.Helper()
	writes := target.Writes()
	for len(writes) >= 2 && writes[0].Method == http.MethodPost && writes[1].Method == http.MethodDelete {
		if writes[0].Repository != writes[1].Repository {
			t.Errorf("an upload to %s was begun, and one to %s cancelled", writes[0].Repository, writes[1].Repository)
		}
		checked = append(checked, writes[0].Repository)
		writes = writes[2:]
	}
	return checked, writes
}

// S7.3.2, S9 rows 44 and 90: each root is asked about before the first byte, at
// a repository that is written to, and at the deepest one (Q1); nothing of it is left.
func TestPublishChecksAccess(t *testing.T) {
	module := Prefix{From: "modules/m", To: "shared/m", Absolute: true}
	for _, tc := range []struct {
		name     string
		prefixes []Prefix
		want     []string
	}{
		{"something lands at the target itself", nil, []string{"mirror/dkp", "mirror/dkp/modules/m/extra/scanner"}},
		{"another root", []Prefix{module}, []string{"mirror/dkp", "mirror/dkp/install", "shared/m", "shared/m/extra/scanner"}},
		{"nothing lands at the bare project", []Prefix{{From: "", To: "root"}}, []string{"mirror/dkp/install", "mirror/dkp/modules/m/extra/scanner"}},
		{"nor at that of another root", []Prefix{{From: "modules", To: "shared", Absolute: true}}, []string{"mirror/dkp", "mirror/dkp/install", "shared", "shared/m/extra/scanner"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			target := registrytest.Start(t, registrytest.New())
			p, c := b.publishTo(target, tc.prefixes...)
			if _, _, err := p.Publish(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			checked, rest := asked(t, target)
			if diff := cmp.Diff(tc.want, checked); diff != "" {
				t.Errorf("checked repositories (-want +got):\n%s", diff)
			}
			for _, r := range rest {
				if r.Method == http.MethodDelete {
					t.Errorf("another check at %s, behind the first writes", r.Repository)
				}
			}
			if n := target.OpenUploads(); n != 0 {
				t.Errorf("%d upload sessions are open", n)
			}
			target.Reset()
			if _, _, err := p.Publish(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			if writes := target.Writes(); len(writes) > 0 {
				t.Errorf("a second run, with nothing to write, asked: %v", writes)
			}
		})
	}
}

// S7.3.2: a refusal at any root ends the run before a byte is sent to any.
func TestPublishStopsAtRefusedAccess(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct {
		status int
		want   *fault.Kind
	}{{401, fault.Denied}, {403, fault.Denied}, {404, fault.NotFound}, {405, fault.Unsupported}, {503, fault.Transient}} {
		target := registrytest.Start(t, registrytest.New())
		p, c := b.publishTo(target, Prefix{From: "modules/m", To: "shared/m", Absolute: true})
		target.Inject(registrytest.Fault{Method: http.MethodPost, Repository: "shared/m", Status: tc.status, Times: registrytest.Always})
		_, _, err := p.Publish(t.Context(), &c)
		registrytest.WantKind(t, err, tc.want)
		if err == nil || !strings.Contains(err.Error(), target.Host+"/shared/m") {
			t.Errorf("%d: %v does not name the repository", tc.status, err)
		}
		for _, w := range target.Writes() {
			if w.Method == http.MethodPut || w.Method == http.MethodPatch || w.BytesIn > 0 {
				t.Errorf("%d: written before the check: %v", tc.status, w)
			}
		}
		if n := target.OpenUploads(); n != 0 {
			t.Errorf("%d: %d upload sessions are open", tc.status, n)
		}
		b.dir = t.TempDir() // the store is open until the test ends
	}
}

// S7.3.2: the check can be bypassed, with a warning that names the repository.
func TestPublishBypassesAccessCheck(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	var log bytes.Buffer
	p.BypassAccessCheck, p.Log = true, slog.New(slog.NewTextHandler(&log, nil))
	target.Inject(registrytest.Fault{Method: http.MethodPost, Repository: "mirror/dkp", Status: 403})
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "bypassed") != 1 || !strings.Contains(text, target.Host+"/mirror/dkp") {
		t.Errorf("the log says %q", text)
	}
}

// Where all tags are right, what is missing below them is found on the way; the
// check comes before that first write too, and once.
func TestPublishChecksAccessBeforeRepair(t *testing.T) {
	b := newBench(t)
	target := registrytest.Start(t, registrytest.New())
	p, c := b.publishTo(target)
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	_, blobs := c.Graph().Closure(c.Images[0].Digest)
	repo := strings.TrimSuffix("mirror/dkp/"+c.Images[0].Path, "/")
	for _, blob := range blobs {
		target.Delete(repo, string(blob))
	}
	target.Reset()
	p.CheckBlobs = true
	if _, _, err := p.Publish(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	checked, rest := asked(t, target)
	if diff := cmp.Diff([]string{repo}, checked); diff != "" || len(rest) == 0 {
		t.Errorf("checked repositories (-want +got), and %d writes behind them:\n%s", len(rest), diff)
	}
}
