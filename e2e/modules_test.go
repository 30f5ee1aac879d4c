package e2e

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/e2e/servers"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// moduleSource writes a ModuleSource of host's modules, with further lines in
// spec.registry.
func moduleSource(t testing.TB, host string, lines ...string) string {
	t.Helper()
	text := "apiVersion: deckhouse.io/v1alpha1\nkind: ModuleSource\nmetadata:\n  name: deckhouse\nspec:\n  releaseChannel: Stable\n  registry:\n"
	for _, line := range append([]string{"repo: " + host + "/" + ee + "/modules"}, lines...) {
		text += "    " + strings.ReplaceAll(line, "\n", "\n    ") + "\n"
	}
	path := filepath.Join(t.TempDir(), "ms.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dockerCfg is the line with the login for host.
func dockerCfg(host string) string {
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	return "dockerCfg: " + encode(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, encode(servers.User+":"+servers.Password)))
}

// modulesOf is what of an edition a ModuleSource carries: its modules, at the
// root (S8.5).
func modulesOf(made *edition.Edition) (want map[string]oci.Digest, discovery []string) {
	want = map[string]oci.Digest{}
	for name, digest := range made.Expected {
		if below, ok := strings.CutPrefix(name, "modules/"); ok {
			want[below] = digest
		}
	}
	for _, name := range made.Discovery {
		if module, ok := strings.CutPrefix(name, "modules:"); ok {
			discovery = append(discovery, ":"+module)
		}
	}
	return want, discovery
}

// secureSource is a registry behind TLS and a login that holds an edition, and
// the certificate that it shows.
func secureSource(t *testing.T, opts edition.Options) (host, ca string, made *edition.Edition) {
	t.Helper()
	reg := registrytest.New(registrytest.WithTokenAuth(registrytest.TokenAuth{User: servers.User, Password: servers.Password}))
	server := httptest.NewUnstartedServer(reg)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are meant
	server.StartTLS()
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "https://")
	made = fill(t, host, opts, wire.Options{SkipTLSVerify: true})
	return host, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), made
}

// loggedIn talks to a registry that wants the login.
func loggedIn(t *testing.T, host string, how wire.Options) *wire.Client {
	t.Helper()
	how.Credentials = map[string]wire.Credential{host: {User: servers.User, Password: servers.Password}}
	c, err := wire.New(how)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fill writes an edition to a registry that wants the login.
func fill(t *testing.T, host string, opts edition.Options, how wire.Options) *edition.Edition {
	t.Helper()
	made, err := edition.Write(t.Context(), loggedIn(t, host, how), oci.Repository{Host: host, Path: ee}, opts)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// S8.2, S8.3: the stages carry the modules of a ModuleSource, over TLS with its
// certificate authority and with its login, which none of the documents holds.
func TestModuleSourceChain(t *testing.T) {
	t.Parallel()
	host, ca, made := secureSource(t, edition.Default())
	target := registrytest.Start(t, registrytest.New())
	work := t.TempDir()
	r := shell(t, work, `
		ferry-discover modules "$SOURCE" --write-connection connection.json -o catalog.json
		[[ $(stat -c %a connection.json) == 600 ]]
		ferry-select -i catalog.json -o selection.json
		ferry-fetch -i selection.json --store store --connection connection.json -o inventory.json
		ferry-pack -i inventory.json disk -o bundle.json
		ferry-unpack disk | ferry-publish "$TARGET/mirror/modules" --insecure -o receipt.json
	`, "SOURCE="+moduleSource(t, host, dockerCfg(host), "scheme: https", "ca: |\n  "+strings.ReplaceAll(strings.TrimSpace(ca), "\n", "\n  ")), "TARGET="+target.Host)
	if r.code != 0 {
		t.Fatalf("exit status %d\n%s", r.code, r.stderr)
	}
	want, discovery := modulesOf(made)
	assertTarget(t, target.Tags(), "mirror/modules", want, discovery)
	documents, err := filepath.Glob(filepath.Join(work, "*.json"))
	if err != nil || len(documents) < 6 {
		t.Fatalf("documents: %v, %v", documents, err)
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), servers.Password) != (filepath.Base(path) == "connection.json") {
			t.Errorf("%s: the password is where it should not be, or is not where it should", path)
		}
	}
}

// S8.2: what a ModuleSource leaves out is not made up for: no other login or
// certificate is tried for its registry.
func TestModuleSourceRefusals(t *testing.T) {
	t.Parallel()
	host, ca, _ := secureSource(t, edition.Tiny())
	certificate := "ca: |\n  " + strings.ReplaceAll(strings.TrimSpace(ca), "\n", "\n  ")
	for _, tc := range []struct {
		name  string
		lines []string
		code  int
		words string
	}{
		{"no login", []string{certificate}, 77, "dockerCfg"},
		{"a login for another host", []string{certificate, dockerCfg("registry.example")}, 77, "loginsFor=registry.example"},
		{"no certificate", []string{dockerCfg(host)}, 76, "certificate"},
		{"plain HTTP", []string{dockerCfg(host), "scheme: HTTP"}, 76, ""},
		{"a certificate that is none", []string{dockerCfg(host), "ca: x"}, 64, "certificate authorities"},
		{"misspelt", []string{certificate, "dockercfg: x"}, 64, "spec.registry.dockercfg"},
	} {
		cmd := program(t, "ferry-discover", "modules", moduleSource(t, host, tc.lines...), "--retries=0")
		cmd.Env = append(cmd.Env, "D8_MIRROR_SOURCE_LOGIN="+servers.User, "D8_MIRROR_SOURCE_PASSWORD="+servers.Password)
		r := finish(t, cmd)
		if r.code != tc.code || r.stdout != "" || !strings.Contains(r.stderr, tc.words) {
			t.Errorf("%s: exit status %d, want %d with %q\n%s", tc.name, r.code, tc.code, tc.words, r.stderr)
		}
		if strings.Contains(r.stderr, servers.Password) {
			t.Errorf("%s: the password is on stderr", tc.name)
		}
	}
	r := try(t, "", "ferry-discover", "modules", filepath.Join(t.TempDir(), "missing.yml"))
	if r.code != 65 {
		t.Errorf("no such file: exit status %d\n%s", r.code, r.stderr)
	}
}

// S8.3: discover and select agree about a filter, and select about what it finds.
func TestModulesFilterChain(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	catalog := func(filter string) string {
		return run(t, "", "ferry-discover", "modules", moduleSource(t, src.Host, "scheme: HTTP"), "--modules-filter="+filter)
	}
	one := "mod-00:v1.0.0"
	spec := decode[contract.SelectionSpec](t, run(t, catalog(one), "ferry-select", "--modules-filter", one)).Spec
	if len(spec.Images) != 2 || spec.Images[0].Path != "mod-00" || spec.Images[1].Path != "mod-00/release" {
		t.Errorf("selected %+v", spec.Images)
	}
	for _, r := range src.Requests() {
		if r.Kind == registrytest.KindBlob || r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("%s %s: more than the filter needs", r.Method, r.Path)
		}
	}
	for _, tc := range []struct {
		made, chosen string
		code         int
	}{
		{one, "mod-00:stable", 65}, // discover read no channels
		{"", "mod-00:v9.9.9", 3},
		{"", "mod-01:stable", 3},
		{"", "mod-00", 64},
	} {
		if r := try(t, catalog(tc.made), "ferry-select", "--modules-filter", tc.chosen); r.code != tc.code {
			t.Errorf("%q of a catalog for %q: exit status %d, want %d\n%s", tc.chosen, tc.made, r.code, tc.code, r.stderr)
		}
	}
	if r := try(t, run(t, "", "ferry-discover", discoverArgs(src.Host)...), "ferry-select", "--modules-filter", one); r.code != 64 {
		t.Errorf("of an edition: exit status %d\n%s", r.code, r.stderr)
	}
}
