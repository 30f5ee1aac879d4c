package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// S7.11.4, S7.11.5: what ferry-push has brought is proven from bundle.json alone, where
// ferry-push puts it; every gap is told and reported, and nothing is written.
func TestVerifyLater(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	target := registrytest.Start(t, registrytest.New())
	pushed := run(t, "", "ferry-push", disk, target.Host+"/mirror/ee", "--insecure")
	text, err := os.ReadFile(filepath.Join(disk, "bundle.json"))
	if err != nil {
		t.Fatal(err)
	}
	bundle := string(text)
	args := []string{"verify", target.Host + "/mirror/ee", "--insecure", "--map", "installer=/mirror/installer", "--map", "deckhouse-cli=/mirror/deckhouse-cli"}
	target.Reset()
	for name, input := range map[string]string{"Bundle": bundle, "Inventory": run(t, "", "ferry-unpack", disk)} {
		for _, content := range []string{"--content=false", "--content"} {
			t.Run(name+" "+content, func(t *testing.T) {
				got := decode[contract.ReceiptSpec](t, run(t, input, "ferry-publish", append(args, content)...)).Spec
				if got.Blobs == 0 || (got.Verified == contract.VerifiedContents) != (content == "--content") {
					t.Errorf("verified %q, with %d blobs", got.Verified, got.Blobs)
				}
				got.Verified, got.Blobs, got.Children = "", 0, 0
				if diff := cmp.Diff(decode[contract.ReceiptSpec](t, pushed).Spec, got); diff != "" {
					t.Errorf("the Receipt differs from that of the push:\n%s", diff)
				}
			})
		}
	}
	t.Run("script", func(t *testing.T) {
		got := decode[contract.ReceiptSpec](t, run(t, "", "ferry-push", "--check", disk, target.Host+"/mirror/ee", "--insecure")).Spec
		if got.Verified != contract.VerifiedSizes || got.Blobs == 0 || len(got.Tags) != len(decode[contract.ReceiptSpec](t, pushed).Spec.Tags) {
			t.Errorf("verified %q, with %d blobs and %d tags", got.Verified, got.Blobs, len(got.Tags))
		}
	})
	t.Run("kept", func(t *testing.T) {
		kept := filepath.Join(t.TempDir(), "receipt.json")
		for range 2 { // a kept Receipt is no answer
			target.Reset()
			run(t, bundle, "ferry-publish", append(args, "--keep", kept)...)
			if len(target.Requests()) == 0 {
				t.Error("the target was not asked")
			}
		}
	})
	t.Run("gaps", func(t *testing.T) {
		blobs := decode[contract.BundleSpec](t, bundle).Spec.Contents.Blobs
		gone := 0
		for path := range reposOf(target) {
			for _, blob := range blobs {
				if target.Has(path, blob.Digest) {
					target.Delete(path, string(blob.Digest))
					gone++
				}
			}
		}
		target.Delete("mirror/ee/release-channel", "stable")
		report := filepath.Join(t.TempDir(), "report.json")
		r := try(t, bundle, "ferry-publish", append(args, "--report", report)...)
		if r.code != 76 || r.stdout != "" || !strings.Contains(r.stderr, "it is not at the target") || !strings.Contains(r.stderr, "--check-blobs") {
			t.Errorf("exit status %d\n%s", r.code, r.stderr)
		}
		text, err := os.ReadFile(report)
		if err != nil {
			t.Fatal(err)
		}
		items := decode[contract.ReportSpec](t, string(text)).Spec.Items
		if len(items) != gone+1 || gone < 30 {
			t.Errorf("%d items in the report, want %d", len(items), gone+1)
		}
		stable := false
		for _, item := range items {
			stable = stable || item.Item == target.Host+"/mirror/ee/release-channel:stable"
		}
		if !stable {
			t.Error("the tag is not among them")
		}
		if r := try(t, "", "ferry-push", "--check", disk, target.Host+"/mirror/ee", "--insecure"); r.code != 76 || r.stdout != "" {
			t.Errorf("ferry-push --check: exit status %d, want 76\n%s", r.code, r.stderr)
		}
	})
	t.Run("it is down", func(t *testing.T) {
		target.Inject(registrytest.Fault{Status: 503, Times: registrytest.Always})
		defer target.Heal()
		if r := try(t, bundle, "ferry-publish", append(args, "--retries", "0")...); r.code != 75 || r.stdout != "" {
			t.Errorf("exit status %d, want 75\n%s", r.code, r.stderr)
		}
	})
	t.Run("refused", func(t *testing.T) {
		target.Inject(registrytest.Fault{Status: 401, Times: registrytest.Always})
		defer target.Heal()
		if r := try(t, bundle, "ferry-publish", args...); r.code != 77 || strings.Contains(r.stderr, "not at the target") {
			t.Errorf("exit status %d, want 77\n%s", r.code, r.stderr)
		}
	})
	if writes := target.Writes(); len(writes) > 0 {
		t.Errorf("it wrote %v", writes)
	}
	t.Run("mended", func(t *testing.T) {
		run(t, run(t, "", "ferry-unpack", disk), "ferry-publish", append(append([]string{}, args[1:]...), "--check-blobs")...)
		run(t, bundle, "ferry-publish", args...)
	})
	t.Run("wrong flags", func(t *testing.T) {
		for _, more := range []string{"--check-blobs", "--bypass-access-checks"} {
			if r := try(t, bundle, "ferry-publish", append(args, more)...); r.code != 64 {
				t.Errorf("%s: exit status %d", more, r.code)
			}
		}
		if r := try(t, bundle, "ferry-publish", args[1:]...); r.code != 65 {
			t.Errorf("a Bundle is published: exit status %d\n%s", r.code, r.stderr)
		}
	})
}

// reposOf are the repositories of a registry.
func reposOf(target *registrytest.Server) map[string]bool {
	repos := map[string]bool{}
	for name := range target.Tags() {
		path, _, _ := strings.Cut(name, ":")
		repos[path] = true
	}
	return repos
}
