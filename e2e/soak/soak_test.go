package soak

import (
	"bytes"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// TestSoak is "make soak" in little: with this seed, a loop loses nothing.
//
// N14, N16, N21, N24: faults and kills of all kinds at once.
func TestSoak(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, stage := range []string{"discover", "select", "fetch", "pack", "unpack", "publish"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, "ferry-"+stage), "ferry/cmd/"+stage)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", stage, err, out)
		}
	}
	var out bytes.Buffer
	result, err := Run(t.Context(), Options{Binaries: dir, Dir: t.TempDir(), Seed: 6, Duration: 5 * time.Minute, Loops: 1, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(result)
	for _, loss := range result.Losses {
		t.Error(loss)
	}
	if result.Loops != 1 || result.Kills == 0 || result.Faults.Sum() < 40 || len(result.Faults) < 8 {
		t.Errorf("too little was tried: %v\n%s", result, &out)
	}
	t.Attr("cases", strconv.Itoa(result.Faults.Sum()+result.Kills))
	t.Attr("figure:faults-of-soaks", strconv.Itoa(result.Faults.Sum()))
	t.Attr("figure:kills-of-soaks", strconv.Itoa(result.Kills))
}

// Whatever a loop could lose is noticed.
func TestDifferences(t *testing.T) {
	t.Parallel()
	digest, other := oci.DigestOf([]byte("a")), oci.DigestOf([]byte("b"))
	good := func() state {
		return state{files: map[string]oci.Digest{"platform.tar": digest}, tags: map[string]oci.Digest{"a:v1": digest},
			content: map[oci.Digest][]string{digest: {"a", "b"}}, receipt: "{\n}"}
	}
	for name, tt := range map[string]struct {
		spoil func(*state)
		want  string
	}{
		"nothing":               {func(*state) {}, ""},
		"a file is gone":        {func(s *state) { clear(s.files) }, "platform.tar"},
		"a file is another":     {func(s *state) { s.files["platform.tar"] = other }, "platform.tar"},
		"a file too many":       {func(s *state) { s.files["x.partial"] = other }, "x.partial is there"},
		"a tag is gone":         {func(s *state) { clear(s.tags) }, "a:v1"},
		"a tag is another":      {func(s *state) { s.tags["a:v1"] = other }, "a:v1"},
		"a tag too many":        {func(s *state) { s.tags["a:v2"] = other }, "a:v2 is there"},
		"content is gone":       {func(s *state) { clear(s.content) }, string(digest)},
		"content of one place":  {func(s *state) { s.content[digest] = []string{"a"} }, string(digest)},
		"another receipt":       {func(s *state) { s.receipt = "{\nx}" }, "line 2"},
		"a receipt that is cut": {func(s *state) { s.receipt = "{" }, "1 lines"},
	} {
		t.Run(name, func(t *testing.T) {
			got := good()
			tt.spoil(&got)
			list := strings.Join(differences(good(), got), "\n")
			if (list == "") != (tt.want == "") || !strings.Contains(list, tt.want) {
				t.Errorf("differences are %q, want %q", list, tt.want)
			}
		})
	}
}

// What is at the target with wrong bytes is not there.
func TestHolds(t *testing.T) {
	t.Parallel()
	target := registrytest.New()
	if _, err := stateOf(t.TempDir(), target); err == nil {
		t.Error("a directory without a bundle is a state")
	}
}

// A seed means the same faults, in whatever order the requests come; another one
// means others.
func TestFaultsOfASeed(t *testing.T) {
	t.Parallel()
	var requests []*http.Request
	for i := range 300 {
		requests = append(requests, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/a/blobs/sha256:"+strconv.Itoa(i%100), nil))
	}
	of := func(seed uint64, requests []*http.Request) map[string]int {
		p := &proxy{}
		p.begin(http.NotFoundHandler(), seed)
		got := map[string]int{}
		for _, req := range requests {
			if fault, _ := p.choose(req); fault != "" {
				got[req.URL.Path+" "+fault]++
			}
		}
		return got
	}
	first := of(1, requests)
	backwards := slices.Clone(requests)
	slices.Reverse(backwards)
	if !maps.Equal(first, of(1, backwards)) {
		t.Error("the order of requests changes their faults")
	}
	if maps.Equal(first, of(2, requests)) {
		t.Error("two seeds mean the same")
	}
	if n := len(first); n < 5 || n > 60 {
		t.Errorf("%d of 300 requests are spoilt", n)
	}
	if n := len(of(0, requests)); n != 0 {
		t.Errorf("%d requests are spoilt without a seed", n)
	}
}
