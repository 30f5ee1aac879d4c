package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// The chain, as it is typed in the README, carries everything, in one pipe.
//
// S5.1, S7.7, S7.8.
func TestChain(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Default())
	target := registrytest.Start(t, registrytest.New())
	r := shell(t, t.TempDir(), `
		ferry-discover deckhouse --source "$SOURCE/deckhouse/ee" --insecure | ferry-select | ferry-fetch --store store --insecure | ferry-pack disk > bundle.json
		ferry-unpack disk | ferry-publish "$TARGET/mirror/dkp" --insecure -o receipt.json
		cmp bundle.json disk/bundle.json
	`, "SOURCE="+src.Host, "TARGET="+target.Host)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	assertTarget(t, target.Tags(), "mirror/dkp", made.Expected, made.Discovery)
	if n := target.OpenUploads(); n != 0 {
		t.Errorf("%d upload sessions were left open", n)
	}
	for _, q := range src.Requests() {
		if q.Write() {
			t.Errorf("the source was written to: %s %s", q.Method, q.Path)
		}
	}
}

// Each stage alone, from files.
func TestStagesFromFiles(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	target := registrytest.Start(t, registrytest.New())
	dir := t.TempDir()
	r := shell(t, dir, `
		ferry-discover deckhouse --source "$SOURCE/deckhouse/ee" --insecure -o catalog.json
		ferry-select -i catalog.json -o selection.json
		ferry-fetch -i selection.json --store store --insecure --plan -o plan.json
		ferry-fetch -i plan.json --store store --insecure -o inventory.json
		ferry-pack -i inventory.json disk -o bundle.json
		ferry-unpack disk -o unpacked.json
		ferry-publish -i unpacked.json "$TARGET/mirror" --insecure -o receipt.json
		ferry-unpack disk --to other -o copied.json
		ferry-publish -i copied.json "$TARGET/mirror" --insecure -o again.json
		# The Receipts name different Inventories, and say the same.
		cmp <(sed '1,/"spec"/d' receipt.json) <(sed '1,/"spec"/d' again.json)
	`, "SOURCE="+src.Host, "TARGET="+target.Host)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)

	// S1.5.5, S5.4.7: the Plan is what is fetched, read once for both.
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	plan, inventory := decode[contract.PlanSpec](t, read("plan.json")), decode[contract.InventorySpec](t, read("inventory.json"))
	if diff := cmp.Diff(plan.Spec.Contents, inventory.Spec.Contents); diff != "" {
		t.Errorf("Plan and Inventory differ (-planned +fetched):\n%s", diff)
	}
}

// fetch | publish mirrors from registry to registry without an archive.
func TestFetchPublish(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	target := registrytest.Start(t, registrytest.New())
	run(t, fetched(t, src.Host, t.TempDir()), "ferry-publish", target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
}

// S3.9.3: the channels of a pinned tag stand in install too, and only where its
// release image and its install image are.
func TestPinnedInstallChannels(t *testing.T) {
	t.Parallel()
	const root = "deckhouse/ee"
	for _, tc := range []struct {
		name, pin         string
		prepare           func(src *registrytest.Server)
		releases, install string
	}{
		{"a version", "v1.68.0", func(*registrytest.Server) {},
			"alpha beta early-access rock-solid stable v1.68.0", "alpha beta early-access rock-solid stable v1.68.0"},
		{"a version without release image", "v1.68.0", func(src *registrytest.Server) {
			src.Delete(root+"/release-channel", "v1.68.0")
		}, "", "v1.68.0"},
		{"a custom tag without install image", "pr12345", func(src *registrytest.Server) {
			src.PutImage(root+"/release-channel", "pr12345")
			src.Delete(root+"/install", "pr12345")
		}, "alpha beta early-access pr12345 rock-solid stable", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src, _ := source(t, edition.Tiny())
			tc.prepare(src)
			policy := []string{"--deckhouse-tag", tc.pin, "--no-modules", "--no-security-db", "--no-installer"}
			catalog := run(t, "", "ferry-discover", append(discoverArgs(src.Host), policy...)...)
			plan := run(t, run(t, catalog, "ferry-select", policy...), "ferry-fetch", "--store", t.TempDir(), "--insecure", "--plan")
			tags := map[string][]string{}
			digests := map[oci.Digest]bool{}
			for _, im := range decode[contract.PlanSpec](t, plan).Spec.Contents.Images {
				tags[im.Path] = append(tags[im.Path], im.Tag)
				if im.Path == "install" {
					digests[im.Digest] = true
				}
			}
			want := []string{tc.releases, tc.install}
			if diff := cmp.Diff(want, []string{strings.Join(tags["release-channel"], " "), strings.Join(tags["install"], " ")}); diff != "" {
				t.Errorf("release-channel, install (-want +got):\n%s", diff)
			}
			if len(digests) > 1 {
				t.Errorf("the channels of install are %d images", len(digests))
			}
		})
	}
}

// unpack | pack cuts a bundle anew; the chunks join to the same archive.
func TestRechunk(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	whole := packed(t, src.Host)
	const limit = 30000
	chunked := t.TempDir()
	run(t, run(t, "", "ferry-unpack", whole), "ferry-pack", chunked, "--chunk-size", fmt.Sprint(limit)+"B")
	assertJoins(t, whole, chunked, limit)
	again := t.TempDir()
	run(t, run(t, "", "ferry-unpack", chunked), "ferry-pack", again)
	assertSameFiles(t, whole, again)
}

// assertJoins checks that the chunks in chunked are at most limit bytes long
// and join to the archives in whole.
func assertJoins(t *testing.T, whole, chunked string, limit int64) {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(whole, "*.tar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in %s: %v", whole, err)
	}
	parts := 0
	for _, archive := range archives {
		want, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(filepath.Join(chunked, filepath.Base(archive)+".*.chunk"))
		if err != nil {
			t.Fatal(err)
		}
		var joined []byte
		for _, name := range slices.Sorted(slices.Values(names)) {
			part, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(part)) > limit {
				t.Errorf("%s has %d bytes, more than %d (S9 row 81)", name, len(part), limit)
			}
			joined = append(joined, part...)
			parts++
		}
		if !bytes.Equal(want, joined) {
			t.Errorf("the %d chunks of %s do not join to it", len(names), filepath.Base(archive))
		}
	}
	if parts <= len(archives) {
		t.Errorf("%d chunks of %d archives: nothing was cut", parts, len(archives))
	}
}

// filesOf reads a directory whole.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/")] = string(oci.DigestOf(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func assertSameFiles(t *testing.T, a, b string) {
	t.Helper()
	filesA, filesB := filesOf(t, a), filesOf(t, b)
	// What a bundle was made from may differ, and is said in its document.
	delete(filesA, "bundle.json")
	delete(filesB, "bundle.json")
	if diff := cmp.Diff(filesA, filesB); diff != "" {
		t.Errorf("the directories differ (-%s +%s):\n%s", a, b, diff)
	}
}

// Promise 4: two stores, two directories, one Selection: identical files, the
// document included.
func TestPackIsReproducible(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selection := run(t, catalog, "ferry-select")
	var dirs [2]string
	for i := range dirs {
		dirs[i] = t.TempDir()
		inventory := run(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure", "--parallel", fmt.Sprint(1+7*i))
		run(t, inventory, "ferry-pack", dirs[i], "--chunk-size", "100000B")
	}
	if diff := cmp.Diff(filesOf(t, dirs[0]), filesOf(t, dirs[1])); diff != "" {
		t.Errorf("the bundles differ:\n%s", diff)
	}
}

// What ferry-pack refuses before it writes leaves no directory behind.
func TestPackRefusesChunksAndLeavesNothing(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	dir := filepath.Join(t.TempDir(), "bundle")
	r := try(t, fetched(t, src.Host, t.TempDir()), "ferry-pack", dir, "--chunk-size", "10B")
	if r.code != 64 || !strings.Contains(r.stderr, "are the most") {
		t.Errorf("exit status %d, want 64 for too many files\n%s", r.code, r.stderr)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v, want none", err)
	}
}

// A pull and a push with d8's flags over real registries: complete, nothing
// extra, and a second push sends nothing.
func TestPullAndPushOverDockerRegistry(t *testing.T) {
	t.Parallel()
	opts := edition.Default()
	opts.Minors, opts.Components, opts.Modules, opts.Packages, opts.ExtraImages = 7, 40, 10, 4, 3
	from, to := servers.DockerRegistry(t), servers.DockerRegistry(t)
	made, err := edition.Write(t.Context(), client(t), oci.Repository{Host: from, Path: "deckhouse/ee"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	target, log := servers.Recorded(t, to)
	disk := t.TempDir()
	run(t, "", "ferry-pull", disk, "--source", from+"/deckhouse/ee", "--insecure")
	run(t, "", "ferry-push", disk, target+"/mirror/dkp", "--insecure")
	names := slices.Concat(slices.Collect(maps.Keys(made.Expected)), made.Discovery)
	assertTarget(t, tagsBelow(t, to, "mirror/dkp", names), "mirror/dkp", made.Expected, made.Discovery)
	releases := 0
	for name := range made.Expected {
		if strings.HasPrefix(name, ":v") {
			releases++
		}
	}
	t.Logf("%d tags, %d of them discovery tags, of %d releases", len(made.Expected)+len(made.Discovery), len(made.Discovery), releases)

	before := len(log.Requests())
	run(t, "", "ferry-push", disk, target+"/mirror/dkp", "--insecure")
	second := log.Requests()[before:]
	if len(second) == 0 {
		t.Error("the second push asked for nothing: it proved nothing")
	}
	for _, r := range second {
		if r.Method != "GET" && r.Method != "HEAD" {
			t.Errorf("the second push sent %s %s", r.Method, r.Path)
		}
	}
}

// The same over distribution v3; skopeo, which shares no code with us, reads
// every tag back.
func TestSkopeoReadsWhatWasPublished(t *testing.T) {
	t.Parallel()
	skopeo := servers.Skopeo(t)
	src, made := source(t, edition.Tiny())
	host := servers.Distribution(t)
	run(t, run(t, "", "ferry-unpack", packed(t, src.Host)), "ferry-publish", host+"/mirror", "--insecure")
	copied := t.TempDir()
	for name, digest := range made.Expected {
		ref := "docker://" + host + "/mirror/" + name
		if strings.HasPrefix(name, ":") {
			ref = "docker://" + host + "/mirror" + name
		}
		to := filepath.Join(copied, digest.Hex())
		cmd := program(t, "ferry-fetch")
		cmd.Path, cmd.Args = skopeo, []string{"skopeo", "copy", "--all", "--src-tls-verify=false", ref, "dir:" + to}
		if r := finish(t, cmd); r.code != 0 {
			t.Errorf("skopeo copy %s: %s", ref, r.stderr)
			continue
		}
		// Its copy of an index is no witness: it writes it anew (S5.11).
		cmd = program(t, "ferry-fetch")
		cmd.Path, cmd.Args = skopeo, []string{"skopeo", "inspect", "--raw", "--tls-verify=false", ref}
		if r := finish(t, cmd); r.code != 0 {
			t.Errorf("skopeo inspect %s: %s", ref, r.stderr)
		} else if oci.DigestOf([]byte(r.stdout)) != digest {
			t.Errorf("skopeo read another manifest at %s than %s", ref, digest)
		}
	}
}

// The network is asked for each distinct blob once: what fetch receives is what
// the Plan lists, besides answers without content, and lists of tags and referrers.
func TestNetworkBytes(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Default())
	selection := run(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select")
	src.Reset()
	out := run(t, selection, "ferry-fetch", "--store", t.TempDir(), "--insecure")
	contents := decode[contract.InventorySpec](t, out).Spec.Contents
	var distinct, received int64
	for _, b := range contents.Blobs {
		distinct += b.Size
	}
	for _, m := range contents.Manifests {
		distinct += m.Size
	}
	for _, r := range src.Requests() {
		if r.Status < 300 && r.Kind != registrytest.KindTags && r.Kind != registrytest.KindReferrers {
			received += r.BytesOut
		}
	}
	t.Logf("received %d bytes for %d distinct ones: ratio %.4f", received, distinct, float64(received)/float64(distinct))
	if received*100 > distinct*101 {
		t.Errorf("received %d bytes, more than 1.01 of the %d distinct ones", received, distinct)
	}
}

// A list of images, the smallest vendor, end to end.
func TestGenericList(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	a := src.PutImage("team/app", "v1.2.3", []byte("a"))
	b := src.PutImage("team/base", "latest", []byte("b"))
	target := registrytest.Start(t, registrytest.New())
	list := fmt.Sprintf("# ours\n%[1]s/team/app:v1.2.3\n\n%[1]s/team/base:latest tools/base:stable # renamed\n", src.Host)
	catalog := run(t, list, "ferry-discover", "generic", "--insecure")
	disk := t.TempDir()
	run(t, run(t, run(t, catalog, "ferry-select"), "ferry-fetch", "--store", t.TempDir(), "--insecure"), "ferry-pack", disk)
	run(t, run(t, "", "ferry-unpack", disk), "ferry-publish", target.Host+"/mirror", "--insecure")
	want := map[string]oci.Digest{"mirror/team/app:v1.2.3": a.Digest, "mirror/tools/base:stable": b.Digest}
	if diff := cmp.Diff(want, target.Tags()); diff != "" {
		t.Errorf("tags at the target (-want +got):\n%s", diff)
	}
}

// Every stage tells which documents it speaks, and has a manual page.
func TestContractsAndManuals(t *testing.T) {
	t.Parallel()
	for stage, want := range map[string]string{
		"discover": "writes ferry/v1alpha1 Catalog\n",
		"select": "reads ferry/v1alpha1 Catalog\nreads ferry/v1alpha1 Selection\nreads ferry/v1alpha1 Plan\nreads ferry/v1alpha1 Inventory\nreads ferry/v1alpha1 Bundle\n" +
			"writes ferry/v1alpha1 Selection\nwrites ferry/v1alpha1 Explanation\n",
		"fetch":   "reads ferry/v1alpha1 Selection\nreads ferry/v1alpha1 Plan\nwrites ferry/v1alpha1 Inventory\nwrites ferry/v1alpha1 Plan\n",
		"pack":    "reads ferry/v1alpha1 Inventory\nwrites ferry/v1alpha1 Bundle\nwrites ferry/v1alpha1 Inventory\n",
		"unpack":  "writes ferry/v1alpha1 Inventory\n",
		"publish": "reads ferry/v1alpha1 Inventory\nreads ferry/v1alpha1 Bundle\nwrites ferry/v1alpha1 Receipt\nwrites ferry/v1alpha1 Target\n",
	} {
		if diff := cmp.Diff(want+"writes ferry/v1alpha1 Report\n", run(t, "", "ferry-"+stage, "--contracts")); diff != "" {
			t.Errorf("contracts of %s (-want +got):\n%s", stage, diff)
		}
		if man := run(t, "", "ferry-"+stage, "--man"); !strings.Contains(man, `.SH "EXIT STATUS"`) {
			t.Errorf("%s has no manual page:\n%s", stage, man)
		}
	}
}
