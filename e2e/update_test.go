package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// S6.11, S9 row 96: an update carries what the source has gained, is refused
// where the target lacks what it leaves out, and completes it where it does not.
func TestUpdate(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.Minors = 3
	src, _ := source(t, opts)
	from := []string{"--source", src.Host + "/deckhouse/ee", "--insecure"}
	january, february, march := t.TempDir(), t.TempDir(), t.TempDir()
	target := registrytest.Start(t, registrytest.New())
	push := []string{target.Host + "/mirror/ee", "--insecure"}
	run(t, "", "ferry-pull", append(from, january)...)
	receipt := filepath.Join(t.TempDir(), "receipt.json")
	run(t, "", "ferry-push", january, push[0], push[1], "--receipt", receipt)
	opts.Minors = 4
	made, err := edition.Write(t.Context(), client(t), src.Repository("deckhouse/ee"), opts)
	if err != nil {
		t.Fatal(err)
	}

	run(t, "", "ferry-pull", append(from, february, "--since-bundle", filepath.Join(january, "bundle.json"))...)
	full, update := int64(0), bytesOf(t, february)
	{
		whole := t.TempDir()
		run(t, "", "ferry-pull", append(from, whole)...)
		full = bytesOf(t, whole)
	}
	if update == 0 || update*2 > full {
		t.Errorf("the update has %d bytes, a whole bundle %d", update, full)
	}

	empty := registrytest.Start(t, registrytest.New())
	r := try(t, "", "ferry-push", february, empty.Host+"/mirror/ee", "--insecure")
	if r.code != 3 || len(empty.Writes()) > 0 || !strings.Contains(r.stderr, "update") {
		t.Errorf("to an empty target: exit status %d and %d writes\n%s", r.code, len(empty.Writes()), r.stderr)
	}
	out := run(t, "", "ferry-push", february, push[0], push[1])
	expected := func(name string) string {
		if strings.HasPrefix(name, "installer:") || strings.HasPrefix(name, "deckhouse-cli") {
			return "mirror/" + name
		}
		return strings.Replace("mirror/ee/"+name, "/:", ":", 1)
	}
	tags := target.Tags()
	for name, digest := range made.Expected {
		if tags[expected(name)] != digest {
			t.Errorf("%s is %s at the target, want %s", name, tags[expected(name)], digest)
		}
	}
	listed := map[string]bool{}
	for _, tag := range decode[contract.ReceiptSpec](t, out).Spec.Tags {
		listed[strings.TrimPrefix(tag.Repository, target.Host+"/")+":"+tag.Tag] = true
	}
	for name := range made.Expected {
		if !listed[expected(name)] {
			t.Errorf("the receipt does not list %s", name)
		}
	}

	// The next one builds on an update, or on what a publish said.
	for _, since := range []string{filepath.Join(february, "bundle.json"), receipt} {
		disk := filepath.Join(march, filepath.Base(since))
		run(t, "", "ferry-pull", append(from, disk, "--since-bundle", since)...)
		run(t, "", "ferry-push", disk, push[0], push[1])
	}
}

// bytesOf is the size of the archives in dir.
func bytesOf(t *testing.T, dir string) int64 {
	t.Helper()
	var n int64
	for _, text := range archives(t, dir, 0) {
		n += int64(len(text))
	}
	return n
}
