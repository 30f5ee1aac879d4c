package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// registries are real ones, with the referrers API and without.
var registries = map[string]struct {
	start func(testing.TB) string
	api   bool
}{
	"olareg":       {servers.OlaregEmpty, true},
	"distribution": {servers.Distribution, false},
}

// The suite that the registry in the process passes, over real ones.
func TestConformanceOfRealRegistries(t *testing.T) {
	t.Parallel()
	for name, registry := range registries {
		t.Run(name, func(t *testing.T) {
			repo := oci.Repository{Host: registry.start(t), Path: "conformance"}
			registrytest.Conformance(t, client(t), repo)
			_, err := client(t).Referrers(t.Context(), repo.Join("tags"), oci.DigestOf(nil))
			if api := err == nil; api != registry.api || !api && fault.KindOf(err) != fault.Unsupported {
				t.Errorf("referrers: %v, the registry has the API: %v", err, registry.api)
			}
		})
	}
}

// attached are the names in an edition that belong to what is attached to images.
func attached(made *edition.Edition) map[string]oci.Digest {
	out := map[string]oci.Digest{}
	for name, digest := range made.Expected {
		if _, tag, _ := strings.Cut(name, ":"); strings.HasPrefix(tag, "sha256-") && !strings.HasSuffix(tag, ".att") {
			out[name] = digest
		}
	}
	return out
}

// S1.7.4, S1.7.5, S7.6.5: what is attached at a source of either kind is listed by a
// target of either kind, as that target can, and publishing again sends nothing.
func TestAttachmentsArrive(t *testing.T) {
	t.Parallel()
	for fromName, from := range registries {
		source := from.start(t)
		made, err := edition.Write(t.Context(), client(t), oci.Repository{Host: source, Path: "deckhouse/ee"}, edition.Tiny())
		if err != nil {
			t.Fatal(err)
		}
		inventory := fetched(t, source, t.TempDir())
		for toName, to := range registries {
			t.Run(fromName+" to "+toName, func(t *testing.T) {
				target, log := servers.Recorded(t, to.start(t))
				receipt := decode[contract.ReceiptSpec](t, run(t, inventory, "ferry-publish", target+"/mirror", "--insecure")).Spec
				have := map[string]oci.Digest{}
				for _, tag := range receipt.Tags {
					have[strings.TrimPrefix(strings.TrimPrefix(tag.Repository, target+"/mirror"), "/")+":"+tag.Tag] = tag.Digest
				}
				for name, digest := range attached(made) {
					if have[name] != digest {
						t.Errorf("%s is %q at the target, want %s", name, have[name], digest)
					}
				}
				if len(receipt.Referrers) < 2 {
					t.Errorf("the receipt has the referrers %v, want those of a component and of a module", receipt.Referrers)
				}
				for _, r := range receipt.Referrers {
					if (r.ListedBy == contract.ListedByAPI) != to.api {
						t.Errorf("%s is listed by %s", r.Digest, r.ListedBy)
					}
					assertListed(t, r, to.api)
				}
				before := len(log.Requests())
				again := decode[contract.ReceiptSpec](t, run(t, inventory, "ferry-publish", target+"/mirror", "--insecure")).Spec
				if diff := cmp.Diff(receipt, again); diff != "" {
					t.Errorf("the second receipt differs:\n%s", diff)
				}
				for _, r := range log.Requests()[before:] {
					if r.Method != "GET" && r.Method != "HEAD" {
						t.Errorf("the second run sent %s %s", r.Method, r.Path)
					}
				}
			})
		}
	}
}

// assertListed asks the target as a client would that wants to verify.
func assertListed(t *testing.T, r contract.ReceiptReferrer, api bool) {
	t.Helper()
	repo, err := oci.ParseRepository(r.Repository)
	if err != nil {
		t.Fatal(err)
	}
	var listed []oci.Descriptor
	if api {
		if listed, err = client(t).Referrers(t.Context(), repo, r.Subject); err != nil {
			t.Fatal(err)
		}
	} else {
		_, body, err := client(t).Manifest(t.Context(), repo.WithTag(oci.ReferrersTag(r.Subject)))
		if err != nil {
			t.Fatal(err)
		}
		index, err := oci.ParseManifest(oci.MediaTypeIndex, body)
		if err != nil {
			t.Fatal(err)
		}
		listed = index.Manifests
	}
	for _, desc := range listed {
		if desc.Digest == r.Digest {
			return
		}
	}
	t.Errorf("%s does not list %s for %s", repo, r.Digest, r.Subject)
}

// S1.7.4: --skip-attachments leaves what d8 carries.
func TestSkipAttachments(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	disk := t.TempDir()
	run(t, "", "ferry-pull", disk, "--source", src.Host+"/deckhouse/ee", "--insecure", "--skip-attachments")
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure")
	want := maps.Clone(made.Expected)
	for name := range attached(made) {
		delete(want, name)
	}
	maps.DeleteFunc(want, func(_ string, digest oci.Digest) bool {
		m, err := oci.ParseManifest("", src.Content(digest))
		return err == nil && m.Subject != nil
	})
	if len(want) == len(made.Expected) {
		t.Fatal("nothing is attached: the test proves nothing")
	}
	assertTarget(t, target.Tags(), "mirror", want, made.Discovery)
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindReferrers || strings.HasSuffix(r.Reference, ".sig") {
			t.Errorf("the source was asked for %s", r.Path)
		}
	}
}

// S1.7.4, S1.7.5: images of a list come with what is attached to them.
func TestGenericAttachments(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	app := src.PutImage("team/app", "v1", []byte("a"))
	signature := src.PutImage("team/app", oci.ReferrersTag(app.Digest)+".sig", []byte("s"))
	sbom := src.PutAttached("team/app", "", app, "text/spdx", []byte("sbom"))
	for _, tc := range []struct {
		flags []string
		want  map[string]oci.Digest
	}{
		{nil, map[string]oci.Digest{
			"mirror/tools/app:stable":                                   app.Digest,
			"mirror/tools/app:" + oci.ReferrersTag(app.Digest) + ".sig": signature.Digest,
			"mirror/tools/app:" + sbom.Digest.Hex():                     sbom.Digest,
		}},
		{[]string{"--skip-attachments"}, map[string]oci.Digest{"mirror/tools/app:stable": app.Digest}},
	} {
		target := registrytest.Start(t, registrytest.New())
		catalog := run(t, fmt.Sprintf("%s/team/app:v1 tools/app:stable\n", src.Host), "ferry-discover", "generic", "--insecure")
		inventory := run(t, run(t, catalog, "ferry-select", tc.flags...), "ferry-fetch", "--store", t.TempDir(), "--insecure")
		run(t, inventory, "ferry-publish", target.Host+"/mirror", "--insecure")
		if diff := cmp.Diff(tc.want, target.Tags()); diff != "" {
			t.Errorf("%v: tags at the target (-want +got):\n%s", tc.flags, diff)
		}
	}
}
