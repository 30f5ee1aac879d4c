package e2e

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// assertOnce checks that nothing was asked for twice: no manifest and no blob by
// whatever name, and no tag or digest for what it stands for. Only a version may
// bring a manifest that another repository has brought (S5.3.8).
func assertOnce(t *testing.T, src *registrytest.Registry) {
	t.Helper()
	tags := src.Tags()
	times, brought := map[string]int{}, map[string]bool{}
	for _, r := range src.Requests() {
		what := r.Reference // content is the same in every repository
		if r.Kind == registrytest.KindManifest && !strings.HasPrefix(what, "sha256:") {
			if what = string(tags[r.Repository+":"+r.Reference]); what == "" || r.Method == "HEAD" {
				what = r.Repository + ":" + r.Reference
			} else {
				brought[what] = true
				what = r.Repository + "@" + what
			}
		} else if r.Kind == registrytest.KindManifest && brought[what] {
			t.Errorf("%s: asked for by digest after a tag has brought it", what)
		}
		switch r.Kind {
		case registrytest.KindTags:
			// discover chooses by a list, fetch looks for what is attached
			// (S1.7.7): it must not miss what came in between.
			what = r.Repository + "?" + r.Query
			if what += " by discover"; times[fmt.Sprint(r.Method, " ", r.Kind, " ", what)] > 0 {
				what = r.Repository + "?" + r.Query + " by fetch"
			}
		case registrytest.KindReferrers:
			what = r.Repository + "@" + r.Reference // each repository has its own
		}
		times[fmt.Sprint(r.Method, " ", r.Kind, " ", what)]++
	}
	for what, n := range times {
		if n > 1 {
			t.Errorf("%s: asked for %d times", what, n)
		}
	}
	if len(times) < 100 {
		t.Errorf("only %d different requests were made: nothing is shown", len(times))
	}
	if n := src.Count(registrytest.KindPing, ""); n > 0 {
		t.Errorf("%d pings (S9 row 98)", n)
	}
}

// share puts an image that stands at from into the repository to as well, under
// the given tags.
func share(t *testing.T, src *registrytest.Server, from, tag, to string, tags ...string) {
	t.Helper()
	c := client(t)
	desc, body, err := c.Manifest(t.Context(), src.Repository(from).WithTag(tag))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := oci.ParseManifest(desc.MediaType, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range manifest.Blobs {
		body, _, err := c.Blob(t.Context(), src.Repository(from), blob, nil)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		src.PutBlob(to, data)
	}
	for _, tag := range tags {
		src.PutManifest(to, tag, desc.MediaType, body)
	}
}

// A pull asks its source for nothing twice, whatever number of channels, versions
// and repositories share an image: discover leaves what it read where fetch finds
// it, and nobody asks again what a tag stands for (S9 rows 98 and 99, S5.3.1, S5.3.8).
func TestPullAsksForNothingTwice(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, src *registrytest.Server)
	}{
		{"channels share versions", func(*testing.T, *registrytest.Server) {}},
		{"add-ons share images, of releases and of versions", func(t *testing.T, src *registrytest.Server) {
			const root = "deckhouse/ee/"
			for _, to := range []string{"modules/mod-02", "modules/mod-03", "packages/pkg-01"} {
				release := "/release"
				if strings.HasPrefix(to, "packages") {
					release = "/version"
				}
				share(t, src, root+"modules/mod-02/release", "v1.2.0", root+to+release, "alpha", "beta", "stable", "v1.2.0")
				share(t, src, root+"modules/mod-02", "v1.2.0", root+to, "v1.2.0")
			}
			share(t, src, root+"install-standalone", "v1.70.2", "deckhouse/installer", "latest")
		}},
		{"no packages, so that discover asks whether there are lists at all", func(t *testing.T, src *registrytest.Server) {
			src.Inject(registrytest.Fault{Kind: registrytest.KindTags, Repository: "deckhouse/ee/packages", Status: 404, Times: registrytest.Always})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src, _ := source(t, edition.Default())
			tc.prepare(t, src)
			src.Reset()
			disk := t.TempDir()
			run(t, "", "ferry-pull", disk, "--source", src.Host+"/deckhouse/ee", "--insecure")
			assertOnce(t, src.Registry)
			run(t, "", "ferry-unpack", disk)
		})
	}
}

// S9 row 98, S5.3.7: of a registry that wants tokens each stage asks for one a repository,
// whatever number of requests it makes there.
func TestPullAsksForFewTokens(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New(registrytest.WithTokenAuth(registrytest.TokenAuth{User: "license-token", Password: "key"})))
	c, err := wire.New(wire.Options{PlainHTTP: true, Credentials: map[string]wire.Credential{src.Host: {User: "license-token", Password: "key"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edition.Write(t.Context(), c, src.Repository("deckhouse/ee"), edition.Default()); err != nil {
		t.Fatal(err)
	}
	src.Reset()
	cmd := program(t, "ferry-pull", t.TempDir(), "--source", src.Host+"/deckhouse/ee", "--insecure")
	cmd.Env = append(cmd.Env, "D8_MIRROR_LICENSE_TOKEN=key")
	if r := finish(t, cmd); r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	times, refused := map[string]int{}, 0
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindToken {
			times[r.Query]++
		}
		if r.Status == 401 {
			refused++
		}
	}
	for scope, n := range times {
		if n > 2 { // discover and fetch
			t.Errorf("%s: %d tokens", scope, n)
		}
	}
	// Who has not seen a challenge sends none; that is the first few requests.
	if len(times) < 10 || refused > 20 || src.Count(registrytest.KindPing, "") > 0 {
		t.Errorf("tokens for %d scopes, %d refusals, %d pings", len(times), refused, src.Count(registrytest.KindPing, ""))
	}
}

// In one pipe with one store neither stage keeps it from the other, and nothing is
// asked for twice; a second pull into it asks for no content at all.
func TestPipeWithOneStore(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Default())
	dir := t.TempDir()
	pipe := `ferry-discover deckhouse --source "$SOURCE/deckhouse/ee" --insecure --store store | ferry-select | ferry-fetch --store store --insecure > inventory.json`
	if r := shell(t, dir, pipe, "SOURCE="+src.Host); r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	assertOnce(t, src.Registry)
	src.Reset()
	if r := shell(t, dir, pipe, "SOURCE="+src.Host); r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	for _, r := range src.Requests() {
		if r.Method == "GET" && (r.Kind == registrytest.KindBlob || r.Kind == registrytest.KindManifest) && r.Status < 300 {
			t.Errorf("the second pull asked again for %s", r.Path)
		}
	}
	target := registrytest.Start(t, registrytest.New())
	if r := shell(t, dir, `ferry-publish -i inventory.json "$TARGET/mirror" --insecure -o receipt.json`, "TARGET="+target.Host); r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
}

// S5.3.8: a Catalog says the same with a store and without.
func TestDiscoverWithStore(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	plain := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	store := t.TempDir()
	for range 2 { // into an empty store, and out of a full one
		if stored := run(t, "", "ferry-discover", append(discoverArgs(src.Host), "--store", store)...); stored != plain {
			t.Error("the Catalog made through a store differs")
		}
	}
	if blobs, err := filepath.Glob(filepath.Join(store, "blobs", "sha256", "*")); err != nil || len(blobs) == 0 {
		t.Errorf("the store holds nothing: %v", err)
	}
}

// S3.6.7, N21: a channel that moves between discover and fetch is carried as it
// was when its version was read, or the pull fails: it never announces a version
// that the bundle does not hold.
func TestChannelMovesAfterDiscover(t *testing.T) {
	t.Parallel()
	const releases = "deckhouse/ee/release-channel"
	src, made := source(t, edition.Default())
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	old := src.Tags()[releases+":stable"]
	share(t, src, releases, "v1.71.2", releases, "stable")
	if src.Tags()[releases+":stable"] == old {
		t.Fatal("the channel did not move")
	}
	src.Reset()
	inventory := run(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure")
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindManifest && r.Repository == releases && !strings.HasPrefix(r.Reference, "sha256:") {
			t.Errorf("%s %s was asked for", r.Method, r.Path)
		}
	}
	target := registrytest.Start(t, registrytest.New())
	run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
	if !strings.Contains(inventory, `/release-channel:stable"`) || strings.Contains(inventory, "release-channel@") {
		t.Error("the channel is not known by its tag any more")
	}

	src.Delete(releases, string(old))
	r := try(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure")
	if r.code != 76 || !strings.Contains(r.stderr, releases+":stable") || !strings.Contains(r.stderr, "run discover and select again") {
		t.Errorf("the locked image is gone: exit status %d\n%s", r.code, r.stderr)
	}
}

// S5.2: that a locked image is gone excuses nothing, though it be optional.
func TestLockedIsNeverAbsent(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	const versions = "deckhouse/ee/packages/pkg-00/version"
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select", "--no-packages", "--no-platform", "--no-modules")
	if !strings.Contains(selection, `/version:stable","digest":"sha256:`) {
		t.Fatalf("the channel is not locked:\n%s", selection)
	}
	src.Delete(versions, string(src.Tags()[versions+":stable"]))
	if r := try(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure"); r.code != 76 {
		t.Errorf("exit status %d\n%s", r.code, r.stderr)
	}
}
