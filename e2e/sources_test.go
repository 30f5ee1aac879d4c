package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"ferry/e2e/edition"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// This file has the sources of S11.2, which broke real pulls, as the binaries
// meet them.

// files is a layer: a tar of names and contents.
func files(t *testing.T, namesAndContents ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(namesAndContents); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: namesAndContents[i], Mode: 0o644, Size: int64(len(namesAndContents[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, namesAndContents[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstandard(t *testing.T, layer []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(layer, nil)
}

// says is the layer of a channel image.
func says(t *testing.T, version string) []byte {
	return files(t, "version.json", fmt.Sprintf(`{"version":%q}`, version))
}

// mirrored pulls and pushes with the scripts, and returns what stands at the
// target, without its root and without discovery tags.
func mirrored(t *testing.T, source string, flags ...string) map[string]oci.Digest {
	t.Helper()
	disk := t.TempDir()
	run(t, "", "ferry-pull", append([]string{disk, "--source", source, "--insecure"}, flags...)...)
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", disk, target.Host+"/mirror/dkp", "--insecure")
	out := map[string]oci.Digest{}
	for name, digest := range target.Tags() {
		if digest != oci.NewPlaceholder().Descriptor.Digest {
			out[strings.TrimPrefix(strings.TrimPrefix(name, "mirror/dkp"), "/")] = digest
		}
	}
	return out
}

func names(tags map[string]oci.Digest) string {
	var out []string
	for name := range tags {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

const ee = "deckhouse/ee"

// S11.2.1, S9 rows 15, 45 and 63: a development registry has one build and no
// channels. A build without its install image is carried without components; a
// version without it is a failure that names it.
func TestDevelopmentRegistry(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	part := src.PutImage(ee, "", files(t, "part", "1"))
	src.PutImage(ee, "pr123", files(t, "a", "1"))
	src.PutImage(ee+"/install", "pr123", files(t, "deckhouse/candi/images_digests.json", fmt.Sprintf(`{"m":{"i":%q}}`, part.Digest)))
	src.PutImage(ee+"/install-standalone", "pr123", files(t, "b", "1"))
	src.PutImage(ee, "pr124", files(t, "a", "2"))
	src.PutImage(ee, "v1.70.0", files(t, "a", "3"))

	want := ":" + part.Digest.Hex() + " :pr123 install-standalone:pr123 install:pr123"
	if got := names(mirrored(t, src.Host+"/"+ee, "--deckhouse-tag", "pr123")); got != want {
		t.Errorf("pr123: %s, want %s", got, want)
	}
	if got := names(mirrored(t, src.Host+"/"+ee, "--deckhouse-tag", "pr124")); got != ":pr124" {
		t.Errorf("pr124, without an install image: %s", got)
	}
	r := try(t, "", "ferry-pull", t.TempDir(), "--source", src.Host+"/"+ee, "--insecure", "--deckhouse-tag", "v1.70.0")
	if r.code != 76 || !strings.Contains(r.stderr, ee+"/install:v1.70.0") {
		t.Errorf("v1.70.0 without an install image: exit status %d\n%s", r.code, r.stderr)
	}
}

// S11.2.2, S9 row 21: CSE has the channel lts alone.
func TestLTSOnly(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	cse := "deckhouse/cse"
	for _, tag := range []string{"lts", "v1.67.3"} {
		src.PutImage(cse+"/release-channel", tag, says(t, "v1.67.3"))
	}
	src.PutImage(cse, "v1.67.3", files(t, "a", "1"))
	src.PutImage(cse+"/install", "v1.67.3", files(t, "deckhouse/candi/images_digests.json", "{}"))
	want := ":v1.67.3 install:lts install:v1.67.3 release-channel:lts release-channel:v1.67.3"
	if got := names(mirrored(t, src.Host+"/"+cse)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// S11.2.3, S9 row 17: a mirror of a pinned version is a source: five channels
// lead to one version, and the root has just that.
func TestPullFromAPinnedMirror(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	first := t.TempDir()
	run(t, "", "ferry-pull", first, "--source", src.Host+"/"+ee, "--insecure", "--deckhouse-tag", "v1.68.0")
	middle := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", first, middle.Host+"/mirror/dkp", "--insecure")
	want := map[string]oci.Digest{}
	for name, digest := range middle.Tags() {
		if digest != oci.NewPlaceholder().Descriptor.Digest {
			want[strings.TrimPrefix(strings.TrimPrefix(name, "mirror/dkp"), "/")] = digest
		}
	}
	got := mirrored(t, middle.Host+"/mirror/dkp")
	if names(got) != names(want) || len(want) == 0 {
		t.Errorf("%s, want %s", names(got), names(want))
	}
}

// S11.2.4, S1.2.2, S9 rows 10 and 31: CE has neither security databases nor
// packages, and gets no empty archive for them.
func TestCommunityEdition(t *testing.T) {
	t.Parallel()
	opts := edition.Tiny()
	opts.NoSecurity = true
	src, made := source(t, opts)
	disk := t.TempDir()
	run(t, "", "ferry-pull", disk, "--source", src.Host+"/"+ee, "--insecure")
	for _, name := range []string{"security.tar", "package-versions.tar"} {
		if _, err := os.Stat(filepath.Join(disk, name)); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	target := registrytest.Start(t, registrytest.New())
	run(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure")
	assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
}

// S11.2.5: a registry refuses everything outside the licence, whether it exists
// or not. What is wanted and refused fails, by name; left out, the rest is
// carried.
func TestLicenceDoesNotCoverAll(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403} {
		src, made := source(t, edition.Tiny())
		refuse := func(repository string) {
			src.Inject(registrytest.Fault{Repository: repository, Status: status, Times: registrytest.Always})
		}
		refuse("deckhouse/installer")
		refuse(ee + "/packages")
		disk := t.TempDir()
		args := []string{disk, "--source", src.Host + "/" + ee, "--insecure"}
		r := try(t, "", "ferry-pull", args...)
		if r.code != 77 || !strings.Contains(r.stderr, ee+"/packages") || !strings.Contains(r.stderr, "--no-packages") {
			t.Errorf("%d: exit status %d\n%s", status, r.code, r.stderr)
		}
		r = try(t, "", "ferry-pull", append(args, "--no-packages")...)
		if r.code != 77 || !strings.Contains(r.stderr, "deckhouse/installer:latest") {
			t.Errorf("%d: exit status %d\n%s", status, r.code, r.stderr)
		}
		run(t, "", "ferry-pull", append(args, "--no-packages", "--no-installer")...)
		target := registrytest.Start(t, registrytest.New())
		run(t, "", "ferry-push", disk, target.Host+"/mirror", "--insecure")
		delete(made.Expected, "installer:latest")
		assertTarget(t, target.Tags(), "mirror", made.Expected, made.Discovery)
	}
}

// S11.2.7, S9 rows 26 and 32: a port in the address, plain HTTP, and a
// certificate that nobody signed; the flags reach every stage of a script.
func TestSelfSignedRegistry(t *testing.T) {
	t.Parallel()
	plain, made := source(t, edition.Tiny())
	tlsOf := func(reg *registrytest.Registry) (host, ca string) {
		server := httptest.NewUnstartedServer(reg)
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are meant
		server.StartTLS()
		t.Cleanup(server.Close)
		ca = filepath.Join(t.TempDir(), "ca.crt")
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(server.URL, "https://"), ca
	}
	from, ca := tlsOf(plain.Registry)
	for _, tc := range []struct{ flag, env string }{{"--tls-skip-verify", ""}, {"", "SSL_CERT_FILE=" + ca}} {
		t.Run(tc.flag+tc.env, func(t *testing.T) {
			reg := registrytest.New()
			to, _ := tlsOf(reg) // one certificate serves all servers of httptest
			r := shell(t, t.TempDir(), `
				ferry-pull disk --source "$SOURCE/deckhouse/ee" $FLAG
				ferry-push disk "$TARGET/mirror" $FLAG >receipt.json
			`, "SOURCE="+from, "TARGET="+to, "FLAG="+tc.flag, tc.env)
			if r.code != 0 {
				t.Fatalf("exit status %d\n%s", r.code, r.stderr)
			}
			assertTarget(t, reg.Tags(), "mirror", made.Expected, made.Discovery)
		})
	}
	r := try(t, "", "ferry-pull", t.TempDir(), "--source", from+"/"+ee)
	if r.code == 0 || !strings.Contains(r.stderr, "SSL_CERT_FILE") {
		t.Errorf("without a flag: exit status %d\n%s", r.code, r.stderr)
	}
}

// S11.2.8, S3.6.1: a suspended channel stops a pull, unless it is overridden.
func TestSuspendedChannels(t *testing.T) {
	t.Parallel()
	for _, suspended := range []string{"alpha", "lts"} {
		src, _ := source(t, edition.Tiny())
		src.PutImage(ee+"/release-channel", suspended, files(t, "version.json", `{"version":"v1.68.1","suspend":true}`))
		args := []string{t.TempDir(), "--source", src.Host + "/" + ee, "--insecure"}
		r := try(t, "", "ferry-pull", args...)
		if r.code != 3 || !strings.Contains(r.stderr, `"`+suspended+`"`) || !strings.Contains(r.stderr, "--ignore-suspend") {
			t.Errorf("%s: exit status %d\n%s", suspended, r.code, r.stderr)
		}
		run(t, "", "ferry-pull", append(args, "--ignore-suspend")...)
	}
}

// S11.2.9, S1.4.2, S1.6.1, S1.6.2, S1.6.3, S1.6.4, S9 rows 2 and 41: what version images of modules
// look like, and one whose layer breaks off.
func TestModuleShapes(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	m := func(name string) string { return ee + "/modules/" + name }
	module := func(name string, layers ...[]byte) {
		src.PutImage(ee+"/modules", name, files(t, "x", name))
		src.PutImage(m(name), "v1.0.0", layers...)
		src.PutImage(m(name)+"/release", "stable", says(t, "v1.0.0"))
	}
	module("plain", files(t, "module.yaml", "{broken", "version.json", "broken", "changelog.yaml", "\tbroken"))
	src.PutImage(m("plain")+"/release", "stable", says(t, "v1.0.0"), files(t, "changelog.yaml", "\tbroken", "module.yaml", "{broken"))
	module("extra", files(t, "./extra_images.json", `{"scanner":5,"flag":true,"list":[]}`), files(t, "top", "1"))
	src.PutImage(m("extra")+"/extra/scanner", "5", files(t, "scanner", "1"))
	internal := src.PutImage(m("internal"), "", files(t, "internal", "1"))
	module("internal", files(t, "images_digests.json", fmt.Sprintf(`[{"deep":[{"er":%q}]}]`, internal.Digest)))
	flags := []string{"--no-platform", "--no-security-db", "--no-installer"}
	want := "modules/extra/extra/scanner:5 modules/extra/release:stable modules/extra:v1.0.0 " +
		"modules/internal/release:stable modules/internal:" + internal.Digest.Hex() + " modules/internal:v1.0.0 " +
		"modules/plain/release:stable modules/plain:v1.0.0"
	if got := names(mirrored(t, src.Host+"/"+ee, flags...)); got != want {
		t.Errorf("%s, want %s", got, want)
	}

	cut := files(t, "extra_images.json", `{"scanner":"v1"}`, "more", strings.Repeat("x", 4096))
	module("cut", files(t, "x", "1"), cut[:1500])
	r := try(t, "", "ferry-pull", append([]string{t.TempDir(), "--source", src.Host + "/" + ee, "--insecure"}, flags...)...)
	if r.code != 76 || !strings.Contains(r.stderr, m("cut")) {
		t.Errorf("a layer that breaks off: exit status %d\n%s", r.code, r.stderr)
	}
}

// S11.2.10, S1.5.1, S1.5.2, S1.5.3, S1.5.4, S1.10.1: what install images look like.
func TestInstallShapes(t *testing.T) {
	t.Parallel()
	const tagsFile, digestsFile = "deckhouse/candi/images_tags.json", "deckhouse/candi/images_digests.json"
	src := registrytest.Start(t, registrytest.New())
	byDigest := src.PutImage(ee, "", files(t, "by", "digest"))
	byTag := src.PutImage(ee, "component", files(t, "by", "tag"))
	digests := fmt.Sprintf(`{"m":{"i":%q}}`, byDigest.Digest)
	const tags = `{"m":{"i":"component"}}`
	for _, tc := range []struct {
		name   string
		layers [][]byte
		want   oci.Digest // "" fails
	}{
		{"zstd on top", [][]byte{files(t, digestsFile, digests), zstandard(t, files(t, "bin", "1"))}, byDigest.Digest},
		{"names with ./", [][]byte{files(t, "./"+digestsFile, digests)}, byDigest.Digest},
		{"a whiteout over the tags", [][]byte{files(t, tagsFile, tags), files(t, digestsFile, digests, "deckhouse/candi/.wh.images_tags.json", "")}, byDigest.Digest},
		{"both", [][]byte{files(t, tagsFile, tags, digestsFile, digests)}, byTag.Digest},
		{"empty tags", [][]byte{files(t, tagsFile, "", digestsFile, digests)}, byDigest.Digest},
		{"none", [][]byte{files(t, "other", "1")}, ""},
		{"both empty", [][]byte{files(t, tagsFile, "", digestsFile, "")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src.PutImage(ee, "v1.0.0", files(t, "a", "1"))
			src.PutImage(ee+"/install", "v1.0.0", tc.layers...)
			args := []string{"--deckhouse-tag", "v1.0.0"}
			if tc.want == "" {
				r := try(t, "", "ferry-pull", append([]string{t.TempDir(), "--source", src.Host + "/" + ee, "--insecure"}, args...)...)
				if r.code != 76 || !strings.Contains(r.stderr, ee+"/install:v1.0.0") {
					t.Errorf("exit status %d\n%s", r.code, r.stderr)
				}
				return
			}
			var components []oci.Digest
			for name, digest := range mirrored(t, src.Host+"/"+ee, args...) {
				if strings.HasPrefix(name, ":") && name != ":v1.0.0" {
					components = append(components, digest)
				}
			}
			if !slices.Equal(components, []oci.Digest{tc.want}) {
				t.Errorf("components %v, want %s", components, tc.want)
			}
		})
	}
}

// S11.2.11, S1.10.4: a catalogue of more than a thousand names, page by page.
func TestLongCatalogue(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New(registrytest.Q25Pages(1000, registrytest.PagesByPath)))
	image := src.PutImage(ee+"/modules", "mod-0000", files(t, "x", "1"))
	body := src.Content(image.Digest)
	for i := range 2300 {
		src.PutManifest(ee+"/modules", fmt.Sprintf("mod-%04d", i), image.MediaType, body)
	}
	for _, name := range []string{"mod-0007", "mod-1003", "mod-2299"} {
		src.PutImage(ee+"/modules/"+name, "v1.0.0", files(t, "v", name))
		src.PutImage(ee+"/modules/"+name+"/release", "stable", says(t, "v1.0.0"))
	}
	got := names(mirrored(t, src.Host+"/"+ee, "--no-platform", "--no-security-db", "--no-installer",
		"-i", "mod-0007", "-i", "mod-1003", "-i", "mod-2299"))
	want := "modules/mod-0007/release:stable modules/mod-0007:v1.0.0 modules/mod-1003/release:stable modules/mod-1003:v1.0.0 modules/mod-2299/release:stable modules/mod-2299:v1.0.0"
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// S11.2.12, S5.8, S9 row 70: a pinned package among more than twelve versions.
// The pin owns its tags, whatever package-versions knows of them.
func TestPinnedPackage(t *testing.T) {
	t.Parallel()
	src := registrytest.Start(t, registrytest.New())
	const p = ee + "/packages/p"
	src.PutImage(ee+"/packages", "p", files(t, "x", "1"))
	for i := range 14 {
		version := fmt.Sprintf("v1.%d.0", i)
		src.PutImage(p, version, files(t, "v", version))
		src.PutImage(p+"/version", version, says(t, version))
	}
	for _, channel := range []string{"alpha", "beta", "early-access", "stable", "rock-solid"} {
		src.PutImage(p+"/version", channel, says(t, "v1.13.0"))
	}
	got := mirrored(t, src.Host+"/"+ee, "--no-platform", "--no-modules", "--no-security-db", "--no-installer", "--include-package", "p@=v1.2.0")
	want := src.Tags()[p+"/version:v1.2.0"]
	for _, channel := range []string{"alpha", "beta", "early-access", "stable", "rock-solid", "lts"} {
		if digest := got["packages/p/version:"+channel]; digest != want {
			t.Errorf("%s leads to %s, want v1.2.0", channel, digest)
		}
	}
	if n := strings.Count(names(got), "packages/p/version:v1."); n != 14 {
		t.Errorf("%d versions are known at the target, want all 14", n)
	}
}

// S1.9.1: the databases keep the types of their configs and layers, byte by byte.
func TestDatabasesStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	got := mirrored(t, src.Host+"/"+ee)
	types := map[string]bool{}
	for name, digest := range src.Tags() {
		path, ok := strings.CutPrefix(name, ee+"/")
		if !ok || !strings.HasPrefix(path, "security/") {
			continue
		}
		if got[path] != digest {
			t.Errorf("%s is %s at the target, want %s", path, got[path], digest)
		}
		var m struct {
			Config oci.Descriptor
			Layers []oci.Descriptor
		}
		if err := json.Unmarshal(src.Content(digest), &m); err != nil {
			t.Fatal(err)
		}
		for _, d := range append(m.Layers, m.Config) {
			types[d.MediaType] = true
		}
	}
	for _, want := range []string{
		"application/vnd.aquasec.trivy.config.v1+json", "application/octet-stream", "application/vnd.oci.empty.v1+json",
		"application/vnd.aquasec.trivy.db.layer.v1.tar+gzip", "application/vnd.aquasec.trivy.javadb.layer.v1.tar+gzip",
		"application/deckhouse.io.bdu.layer.v1.tar+gzip", "application/vnd.cncf.openpolicyagent.layer.v1.tar+gzip",
	} {
		if !types[want] {
			t.Errorf("no database of type %s was tried", want)
		}
	}
}
