package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

const plainHTTP = "scheme: HTTP"

// S8.1, S8.4, S8.5: the documented way, both ways, between real registries that
// want logins: modules of a ModuleSource into a directory, the directory into
// the closed network. The tags there have the digests of the source; a module
// without images_digests.json is among them (S9 row 41).
func TestMirrorModules(t *testing.T) {
	t.Parallel()
	from, to := servers.DockerRegistryWithLogin(t), servers.DockerRegistryWithLogin(t)
	made := fill(t, from, edition.Default(), wire.Options{PlainHTTP: true})
	want, discovery := modulesOf(made)
	dir := filepath.Join(t.TempDir(), "d8-modules")
	pulled := try(t, "", "ferry-mirror-modules", "--modules-dir="+dir, "--module-source="+moduleSource(t, from, plainHTTP, dockerCfg(from)), "--verbose-summary")
	if pulled.code != 0 {
		t.Fatalf("exit status %d\n%s", pulled.code, pulled.stderr)
	}
	// S2.7: the summary is of the modules, and there is one.
	if n := strings.Count(pulled.stderr, "║ Modules "); n != 1 || !strings.Contains(pulled.stderr, "mod-00") || strings.Contains(pulled.stderr, "║ Platform") {
		t.Errorf("the summary:\n%s", pulled.stderr)
	}
	for name := range want {
		path, _, _ := strings.Cut(name, ":")
		for _, file := range []string{"oci-layout", "index.json"} {
			if _, err := os.Stat(filepath.Join(dir, path, file)); err != nil {
				t.Errorf("%s is no layout on disk: %v", path, err)
			}
		}
	}
	for name := range filesOf(t, dir) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Contains(string(text), servers.Password) || strings.HasPrefix(name, ".") {
			t.Errorf("%s travels, and must not, or cannot be read: %v", name, err)
		}
	}
	receipt := run(t, "", "ferry-mirror-modules", "--modules-dir="+dir, "--registry="+to+"/deckhouse/ee/modules",
		"--registry-login="+servers.User, "--registry-password="+servers.Password, "--insecure")
	have := tagsSeenBy(t, loggedIn(t, to, wire.Options{PlainHTTP: true}), to, ee+"/modules", append(slices.Clone(discovery), slices.Collect(keys(want))...))
	assertTarget(t, have, ee+"/modules", want, discovery)
	if got := decode[contract.ReceiptSpec](t, receipt).Spec; len(got.Tags) != len(want)+len(discovery) {
		t.Errorf("the receipt has %d tags, want %d and %d", len(got.Tags), len(want), len(discovery))
	}
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// S8.1, S8.1.1: every spelling of the flags, dhctl's and d8's, and the variables.
func TestMirrorModulesFlags(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Tiny())
	want, discovery := modulesOf(made)
	ms := moduleSource(t, src.Host, plainHTTP)
	for _, tc := range []struct {
		name       string
		dir        string // of the modules, below the working directory
		pull, push []string
		env        []string
	}{
		{"S8.1 long flags", "x", []string{"--modules-dir", "x", "--module-source", ms}, []string{"--modules-dir", "x", "--registry", "TARGET", "--registry-login", "u", "--registry-password", "p", "--insecure"}, nil},
		{"S8.1 short flags", "x", []string{"-d", "x", "-m", ms}, []string{"-dx", "-rTARGET", "-u", "u", "-pp", "--insecure"}, nil},
		{"S8.1 underscores, switches", "x", []string{"--modules_dir=x", "--module_source=" + ms, "--tls_skip_verify", "--insecure=false"}, []string{"-d", "x", "-r", "TARGET", "-u", "u", "-p", "p", "--tls-skip-verify=false", "--insecure=true"}, nil},
		{"S8.1 variables", "x", []string{"-m", ms}, []string{"push", "--insecure"}, []string{
			"DHCTL_CLI_MIRROR_MODULES_DIR=x", "DHCTL_CLI_MIRROR_USER=u", "DHCTL_CLI_MIRROR_PASS=p",
		}},
		{"S8.2 logins that are meant for ferry-pull", "x", []string{"-d", "x", "-m", ms}, []string{"-d", "x", "-r", "TARGET", "--insecure"}, []string{
			"D8_MIRROR_SOURCE_LOGIN=x", "D8_MIRROR_SOURCE_PASSWORD=x", "D8_MIRROR_LICENSE_TOKEN=x", "D8_MIRROR_REGISTRY_LOGIN=u", "D8_MIRROR_REGISTRY_PASSWORD=p",
		}},
		{"S8.1.1 d8's words and default directory", "modules", []string{"pull", "-m", ms}, []string{"push", "-r", "TARGET", "-u", "u", "-p", "p", "--insecure"}, nil},
		{"S8.1.1 a word goes before the other's variable", "x", []string{"pull", "-d", "x", "-m", ms}, []string{"-d", "x", "push", "-r", "TARGET", "-uu", "-pp", "--insecure"}, []string{
			"DHCTL_CLI_MIRROR_MODULES_SOURCE=" + ms,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target := registrytest.Start(t, registrytest.New(registrytest.WithBasicAuth("u", "p")))
			work, at := t.TempDir(), target.Host+"/mods"
			mirror := func(args []string, env ...string) {
				t.Helper()
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "TARGET", at)
				}
				cmd := program(t, "ferry-mirror-modules", args...)
				cmd.Dir, cmd.Env = work, append(append(cmd.Env, tc.env...), env...)
				if r := finish(t, cmd); r.code != 0 {
					t.Fatalf("%v: exit status %d\n%s", args, r.code, r.stderr)
				}
			}
			mirror(tc.pull)
			if entries, err := os.ReadDir(work); err != nil || len(entries) != 1 || entries[0].Name() != tc.dir {
				t.Errorf("in the working directory: %v, %v, want %s", entries, err, tc.dir)
			}
			if tc.push[0] == "push" { // else a pull would be ambiguous
				mirror(tc.push, "DHCTL_CLI_MIRROR_PRIVATE_REGISTRY="+at)
			} else {
				mirror(tc.push)
			}
			assertTarget(t, target.Tags(), "mods", want, discovery)
		})
	}
}

// S8.1.1: what is ambiguous or cannot take effect is refused before any work.
func TestMirrorModulesRefusesFlags(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	ms := moduleSource(t, src.Host, plainHTTP)
	for _, tc := range []struct {
		args, env []string
	}{
		{args: []string{"-d", "x"}},
		{args: []string{"-d", "x", "-m", ms, "-r", "h/p"}},
		{args: []string{"-d", "x", "-r", "h/p"}, env: []string{"DHCTL_CLI_MIRROR_MODULES_SOURCE=" + ms}},
		{args: []string{"-m", ms}},
		{args: []string{"-r", "h/p"}},
		{args: []string{"pull"}},
		{args: []string{"pull", "-r", "h/p"}},
		{args: []string{"pull", "-m", ms, "-r", "h/p"}},
		{args: []string{"pull", "push", "-m", ms}},
		{args: []string{"push", "-d", "x"}},
		{args: []string{"-d", "x", "-m", ms, "-u", "u"}},
		{args: []string{"-d", "x", "-m", ms, "--receipt", "f"}},
		{args: []string{"-d", "x", "-r", "h/p", "-f", "a:v1"}},
		{args: []string{"-d", "x", "-r", "h/p", "--force"}},
		{args: []string{"-d", "x", "-m", ms, "--insecure=perhaps"}},
		{args: []string{"-d", "x", "-m", ms, "--no-such-flag"}},
		{args: []string{"-d", "x", "-m", ms, "word"}},
		{args: []string{"-d", "x", "-m"}},
	} {
		cmd := program(t, "ferry-mirror-modules", tc.args...)
		cmd.Dir, cmd.Env = t.TempDir(), append(cmd.Env, tc.env...)
		src.Reset()
		r := finish(t, cmd)
		if r.code != 64 || !strings.Contains(r.stderr, "ferry-mirror-modules: error:") || r.stdout != "" {
			t.Errorf("%v: exit status %d, stdout %q, stderr %q", tc.args, r.code, r.stdout, r.stderr)
		}
		if entries, err := os.ReadDir(cmd.Dir); err != nil || len(entries) > 0 || len(src.Requests()) > 0 {
			t.Errorf("%v: work was begun: %v %v, %d requests", tc.args, entries, err, len(src.Requests()))
		}
	}
}

// S8.3, S9 row 43: a filter by either name; what it does not name is not on disk.
func TestMirrorModulesFilter(t *testing.T) {
	t.Parallel()
	opts := edition.Tiny()
	opts.Modules = 2
	src, _ := source(t, opts)
	ms := moduleSource(t, src.Host, plainHTTP)
	for _, tc := range []struct{ flags, want string }{
		{"-f mod-00:v1.0.0", "mod-00/release:v1.0.0 mod-00:v1.0.0"},
		{"--filter=mod-00:v1.0.0;mod-01:stable", "mod-00/release:v1.0.0 mod-00:v1.0.0 mod-01/release:stable mod-01/release:v1.1.1 mod-01:v1.1.1"},
		{"--modules-filter mod-01:alpha;", "mod-01/release:alpha mod-01/release:v1.2.0 mod-01:v1.2.0"},
	} {
		dir := t.TempDir()
		run(t, "", "ferry-mirror-modules", append([]string{"-d", dir, "-m", ms}, strings.Fields(tc.flags)...)...)
		target := registrytest.Start(t, registrytest.New())
		run(t, "", "ferry-mirror-modules", "-d", dir, "-r", target.Host+"/mods", "--insecure")
		var got []string
		for name := range target.Tags() {
			name = strings.TrimPrefix(strings.TrimPrefix(name, "mods"), "/")
			tag := name[strings.LastIndexByte(name, ':')+1:]
			// Internal images, attestations, extra images and names are not of the filter's doing.
			if len(tag) < 64 && !strings.HasSuffix(tag, ".att") && !strings.Contains(name, "/extra/") && name[0] != ':' {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", tc.flags, got, tc.want)
		}
	}
	if r := try(t, "", "ferry-mirror-modules", "-d", t.TempDir(), "-m", ms, "-f", "mod-00:v7"); r.code != 3 || !strings.Contains(r.stderr, "mod-00") {
		t.Errorf("an unknown version: exit status %d\n%s", r.code, r.stderr)
	}
}

// S8.4: a pull that failed goes on, and what it left is published by no push; a
// pull that was finished is not downloaded again.
func TestMirrorModulesContinues(t *testing.T) {
	t.Parallel()
	src, made := source(t, edition.Default())
	want, discovery := modulesOf(made)
	dir, ms := t.TempDir(), moduleSource(t, src.Host, plainHTTP)
	pull := []string{"-d", dir, "-m", ms}
	target := registrytest.Start(t, registrytest.New())
	push := []string{"-d", dir, "-r", target.Host + "/mods", "--insecure"}

	have := refusedAfter(t, src, filepath.Join(dir, ".ferry", "store"), "ferry-mirror-modules", pull...)
	if r := try(t, "", "ferry-mirror-modules", push...); r.code == 0 || len(target.Requests()) > 0 {
		t.Errorf("an unfinished pull was pushed: exit status %d, %d requests", r.code, len(target.Requests()))
	}

	again := func(what string, have map[string]bool) {
		t.Helper()
		src.Reset()
		run(t, "", "ferry-mirror-modules", pull...)
		for _, r := range src.Requests() {
			if r.Kind == registrytest.KindBlob && (have == nil || have[r.Reference]) {
				t.Errorf("%s: blob %s of %s was requested again", what, r.Reference, r.Repository)
			}
		}
	}
	again("after a failure", have)
	before := filesOf(t, dir)
	again("after the end", nil)
	if diff := cmp.Diff(before, filesOf(t, dir)); diff != "" {
		t.Errorf("the second pull changed the directory:\n%.2000s", diff)
	}
	for range 2 {
		target.Reset()
		run(t, "", "ferry-mirror-modules", push...)
		assertTarget(t, target.Tags(), "mods", want, discovery)
	}
	for _, r := range target.Requests() {
		if r.Write() {
			t.Errorf("the second push wrote %s %s", r.Method, r.Path)
		}
	}
}

// S8.4, S6.10: what an earlier pull brought is replaced when that is asked for,
// and what is damaged there is fetched anew.
func TestMirrorModulesAgain(t *testing.T) {
	t.Parallel()
	opts := edition.Tiny()
	opts.Modules = 2
	src, _ := source(t, opts)
	dir, ms := t.TempDir(), moduleSource(t, src.Host, plainHTTP)
	run(t, "", "ferry-mirror-modules", "-d", dir, "-m", ms)
	other := []string{"-d", dir, "-m", ms, "-f", "mod-00:v1.0.0"}
	before := filesOf(t, dir)
	if r := try(t, "", "ferry-mirror-modules", other...); r.code != 64 || !strings.Contains(r.stderr, "--force") {
		t.Errorf("other modules: exit status %d, want 64 and a word of --force\n%s", r.code, r.stderr)
	}
	after := filesOf(t, dir)
	for name, digest := range before {
		if after[name] != digest {
			t.Errorf("%s was changed without --force", name)
		}
	}
	// The directory is still that of the earlier pull, and whole.
	target := registrytest.Start(t, registrytest.New())
	if r := try(t, "", "ferry-mirror-modules", "-d", dir, "-r", target.Host+"/mods", "--insecure"); r.code != 0 || !strings.Contains(r.stderr, "note: a later pull") {
		t.Errorf("exit status %d, want 0 and a note\n%s", r.code, r.stderr)
	}
	run(t, "", "ferry-mirror-modules", append(other, "--force")...)
	if entries, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(entries) != 2 {
		t.Errorf("in the directory: %v, %v, want a module and the document", entries, err)
	}
	damage(t, dir)
	run(t, "", "ferry-mirror-modules", append(other, "--force")...)
	run(t, "", "ferry-unpack", "--modules", dir)

	foreign := t.TempDir()
	dhctl(t, foreign)
	src.Reset()
	if r := try(t, "", "ferry-mirror-modules", "-d", foreign, "-m", ms, "--force"); r.code != 64 || len(src.Requests()) > 0 {
		t.Errorf("a directory of dhctl's: exit status %d, %d requests, want 64 and none\n%s", r.code, len(src.Requests()), r.stderr)
	}
}

// damage alters the last byte of a blob of a directory of layouts.
func damage(t *testing.T, dir string) {
	t.Helper()
	var blobs []string
	for name := range filesOf(t, dir) {
		if strings.Contains(name, "blobs/sha256/") {
			blobs = append(blobs, filepath.Join(dir, name))
		}
	}
	slices.Sort(blobs)
	text, err := os.ReadFile(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(blobs[0], text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// S8.4: a damaged layout is refused, and nothing is written to the registry.
func TestMirrorModulesDamaged(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	ours, theirs, other := t.TempDir(), t.TempDir(), t.TempDir()
	run(t, "", "ferry-mirror-modules", "-d", ours, "-m", moduleSource(t, src.Host, plainHTTP))
	dhctl(t, theirs)
	dhctl(t, other)
	damage(t, ours)
	damage(t, theirs)
	if err := os.WriteFile(filepath.Join(other, "console", "release", "index.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	edition := packed(t, src.Host)
	for name, tc := range map[string]struct {
		dir  string
		code int
	}{
		"ours": {ours, 65}, "theirs": {theirs, 65}, "a cut index": {other, 65},
		"a bundle of an edition": {edition, 64}, "nothing": {t.TempDir(), 64},
	} {
		target := registrytest.Start(t, registrytest.New())
		r := try(t, "", "ferry-mirror-modules", "-d", tc.dir, "-r", target.Host+"/mods", "--insecure")
		if r.code != tc.code || r.stdout != "" || len(target.Requests()) > 0 {
			t.Errorf("%s: exit status %d, want %d; %d requests\n%s", name, r.code, tc.code, len(target.Requests()), r.stderr)
		}
	}
}

// dhctl writes a directory as dhctl mirror-modules does (S8.4), and returns what
// a push of it must bring: two annotations, a platform on each descriptor, an
// indented index.json, and no document about the whole.
func dhctl(t *testing.T, dir string) map[string]oci.Digest {
	t.Helper()
	want := map[string]oci.Digest{}
	for _, name := range []string{"console", "virtualization"} {
		internal := dhctlImage(t, filepath.Join(dir, name), "internal of "+name)
		versions := map[string]oci.Descriptor{
			"v1.0.0":              dhctlImage(t, filepath.Join(dir, name), name),
			internal.Digest.Hex(): internal,
		}
		releases := map[string]oci.Descriptor{}
		for _, tag := range []string{"stable", "v1.0.0"} {
			releases[tag] = dhctlImage(t, filepath.Join(dir, name, "release"), "release of "+name)
		}
		dhctlIndex(t, filepath.Join(dir, name), "registry.example:5000/deckhouse/ee/modules/"+name, versions)
		dhctlIndex(t, filepath.Join(dir, name, "release"), "registry.example:5000/deckhouse/ee/modules/"+name+"/release", releases)
		for tag, desc := range versions {
			want[name+":"+tag] = desc.Digest
		}
		for tag, desc := range releases {
			want[name+"/release:"+tag] = desc.Digest
		}
	}
	return want
}

func dhctlImage(t *testing.T, layout, content string) oci.Descriptor {
	t.Helper()
	blob := func(mediaType string, data []byte) oci.Descriptor {
		d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
		path := filepath.Join(layout, "blobs", "sha256", d.Digest.Hex())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	config := blob("application/vnd.docker.container.image.v1+json", fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","x":%q}`, content))
	layer := blob("application/vnd.docker.image.rootfs.diff.tar.gzip", []byte(content))
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeDockerManifest, "config": config, "layers": []oci.Descriptor{layer},
	})
	if err != nil {
		t.Fatal(err)
	}
	return blob(oci.MediaTypeDockerManifest, manifest)
}

func dhctlIndex(t *testing.T, layout, repository string, tags map[string]oci.Descriptor) {
	t.Helper()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Size        int64             `json:"size"`
		Digest      oci.Digest        `json:"digest"`
		Annotations map[string]string `json:"annotations"`
		Platform    map[string]string `json:"platform"`
	}
	var list []descriptor
	for _, tag := range slices.Sorted(keys(tags)) {
		list = append(list, descriptor{tags[tag].MediaType, tags[tag].Size, tags[tag].Digest, map[string]string{
			"io.deckhouse.image.short_tag": tag, "org.opencontainers.image.ref.name": repository + ":" + tag,
		}, map[string]string{"architecture": "amd64", "os": "linux"}})
	}
	text, err := json.MarshalIndent(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": list}, "", "   ")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"index.json": text, "oci-layout": []byte(`{"imageLayoutVersion": "1.0.0"}`)} {
		if err := os.WriteFile(filepath.Join(layout, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// S8.4, S8.5, S9 row 92: directories that dhctl wrote are published, and left as
// they are. A module without a release layout does not hide the others.
func TestMirrorModulesOfDhctl(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := dhctl(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "virtualization", "release")); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if strings.HasPrefix(name, "virtualization/release:") {
			delete(want, name)
		}
	}
	before := filesOf(t, dir)
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-mirror-modules", "-d", dir, "-r", "https://"+target.Host+"/deckhouse/ee/modules/", "--insecure")
	assertTarget(t, target.Tags(), ee+"/modules", want, []string{":console", ":virtualization"})
	placeholder := oci.NewPlaceholder().Descriptor.Digest
	for _, name := range []string{"console", "virtualization"} {
		if got := target.Tags()[ee+"/modules:"+name]; got != placeholder {
			t.Errorf("%s is announced by %s, want the constant placeholder", name, got)
		}
	}
	if diff := cmp.Diff(before, filesOf(t, dir)); diff != "" {
		t.Errorf("the push changed the directory:\n%.2000s", diff)
	}
}

// S8.6: what dhctl mirror wrote, one archive of all, is published like others.
func TestBundleOfDhctlMirror(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	tags, _ := recorded(t, "d8-default")
	archive, err := os.ReadFile(filepath.Join("testdata", "golden", "d8-default", "platform.tar"))
	if err != nil {
		t.Fatal(err)
	}
	for i, half := range [][]byte{archive[:len(archive)/2], archive[len(archive)/2:]} {
		if err := os.WriteFile(filepath.Join(disk, fmt.Sprintf("d8.tar.%04d.chunk", i)), half, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure")
	got := target.Tags()
	if len(got) == 0 {
		t.Error("nothing was published")
	}
	for name, digest := range got {
		if want := tags[strings.TrimPrefix(strings.TrimPrefix(name, "mirror"), "/")]; digest != want {
			t.Errorf("%s is %s, want %s", name, digest, want)
		}
	}
}

// S8.3: a ModuleSource without modules is a warning, and makes a whole directory
// of nothing.
func TestMirrorNoModules(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	dir := t.TempDir()
	r := try(t, "", "ferry-mirror-modules", "-d", dir, "-m", moduleSource(t, src.Host, plainHTTP))
	if r.code != 0 || !strings.Contains(r.stderr, "spec.registry.repo") {
		t.Errorf("exit status %d\n%s", r.code, r.stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "bundle.json")); err != nil {
		t.Error(err)
	}
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-mirror-modules", "-d", dir, "-r", target.Host+"/mods", "--insecure")
	if tags := target.Tags(); len(tags) > 0 {
		t.Errorf("published: %v", tags)
	}
}

// S8.1: however the script ends, the file with the password is gone, and no
// stage runs on.
func TestMirrorModulesTerminated(t *testing.T) {
	t.Parallel()
	// What this process ignores, as it does under nohup, the script would too, and the
	// test would never end; what it listens to, programs that it starts do not inherit.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for signal, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGHUP: 143} {
		t.Run(signal.String(), func(t *testing.T) {
			src := registrytest.Start(t, registrytest.New(registrytest.WithBasicAuth(servers.User, servers.Password)))
			fill(t, src.Host, edition.Tiny(), wire.Options{PlainHTTP: true})
			src.Reset()
			src.Inject(registrytest.Fault{Kind: registrytest.KindBlob, Method: "GET", Skip: 12, Stall: true, Times: registrytest.Always})
			private := t.TempDir()
			cmd := program(t, "ferry-mirror-modules", "-d", t.TempDir(), "-m", moduleSource(t, src.Host, plainHTTP, dockerCfg(src.Host)))
			cmd.Env = append(cmd.Env, "TMPDIR="+private)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for n := 0; n < 12; {
				n = src.Count(registrytest.KindBlob, "GET")
				time.Sleep(time.Millisecond) // until the stall; nothing is asserted about time
			}
			held, err := filepath.Glob(filepath.Join(private, "*", "connection.json"))
			if err != nil || len(held) != 1 {
				t.Fatalf("connection files: %v, %v", held, err)
			}
			for path, mode := range map[string]os.FileMode{held[0]: 0o600, filepath.Dir(held[0]): 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v, want mode %o", path, info, err, mode)
				}
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("exit status %d, want %d\n%s", got, code, stderr.String())
			}
			if left, err := os.ReadDir(private); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if err := syscall.Kill(-cmd.Process.Pid, 0); err == nil {
				t.Error("a stage still runs")
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			}
		})
	}
}
