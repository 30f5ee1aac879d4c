package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// guarded starts a registry that holds an edition and wants a login.
func guarded(t testing.TB, user, password string) *registrytest.Server {
	t.Helper()
	server := registrytest.Start(t, registrytest.New(registrytest.WithTokenAuth(registrytest.TokenAuth{User: user, Password: password})))
	c, err := wire.New(wire.Options{PlainHTTP: true, Credentials: map[string]wire.Credential{server.Host: {User: user, Password: password}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := edition.Write(t.Context(), c, server.Repository("deckhouse/ee"), edition.Tiny()); err != nil {
		t.Fatal(err)
	}
	server.Reset()
	return server
}

// S2.2.3, S2.5: every stage that logs in takes the password from the first line of
// standard input, or of a file, and the scripts do; its document then comes by file,
// and nothing is asked of the registry where that is forgotten.
func TestPasswordStdin(t *testing.T) {
	t.Parallel()
	const password = "pass word"
	src := guarded(t, "user", password)
	target := guarded(t, "user", password)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("password"), []byte(password+"\nof the registry\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	from, to := src.Host+"/deckhouse/ee", target.Host+"/mirror"
	login := []string{"--login", "user", "--insecure"}
	list := at("images.txt")
	if err := os.WriteFile(list, []byte(from+"@>=1.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	selected := run(t, run(t, password, "ferry-discover", append([]string{"deckhouse", "--source", from, "--password-stdin"}, login...)...), "ferry-select")
	if err := os.WriteFile(at("selection.json"), []byte(selected), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		program string
		args    []string
	}{
		{"ferry-discover", append([]string{"deckhouse", "--source", from}, login...)},
		{"ferry-discover", append([]string{"generic", list}, login...)},
		{"ferry-fetch", append([]string{"-i", at("selection.json"), "--store", at("store"), "-o", at("inventory.json")}, login...)},
		{"ferry-pull", []string{at("disk"), "--source", from, "--source-login", "user", "--insecure"}},
		{"ferry-publish", append([]string{"-i", at("inventory.json"), to}, login...)},
		{"ferry-publish", append([]string{"verify", "-i", at("inventory.json"), to}, login...)},
		{"ferry-push", []string{at("disk"), target.Host + "/pushed", "-u", "user", "--insecure"}},
	} {
		name := tc.program + " " + tc.args[0]
		t.Run(filepath.Base(name), func(t *testing.T) {
			if r := try(t, "wrong\n", tc.program, append(tc.args, "--password-stdin")...); r.code != 77 {
				t.Errorf("a wrong password: exit status %d\n%s", r.code, r.stderr)
			}
			run(t, "", tc.program, append(tc.args, "--password-file", at("password"))...)
			run(t, password+"\r\n", tc.program, append(tc.args, "--password-stdin")...)
			if r := try(t, "\n", tc.program, append(tc.args, "--password-stdin")...); r.code != 64 {
				t.Errorf("no password: exit status %d\n%s", r.code, r.stderr)
			}
		})
	}
	src.Reset()
	target.Reset()
	for name, tc := range map[string]struct {
		program string
		args    []string
	}{
		"fetch":    {"ferry-fetch", []string{"--store", at("other"), "--password-stdin"}},
		"publish":  {"ferry-publish", []string{to, "--password-stdin"}},
		"verify":   {"ferry-publish", []string{"verify", to, "-i", "-", "--password-stdin"}},
		"discover": {"ferry-discover", []string{"generic", "--password-stdin"}},
		"both":     {"ferry-publish", []string{to, "-i", at("inventory.json"), "--password-stdin", "--password-file", at("password")}},
		"no login": {"ferry-publish", []string{to, "-i", at("inventory.json"), "--password-stdin"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := tc.args
			if name != "no login" {
				args = append(args, login...)
			}
			if r := try(t, password+"\n"+selected, tc.program, args...); r.code != 64 || strings.Contains(r.stderr, password) {
				t.Errorf("exit status %d, want 64\n%s", r.code, r.stderr)
			}
		})
	}
	t.Run("no login but a licence", func(t *testing.T) {
		r := shell(t, dir, "echo x | ferry-fetch -i selection.json --store other --insecure --password-stdin", "D8_MIRROR_LICENSE_TOKEN="+password)
		if r.code != 64 {
			t.Errorf("exit status %d, want 64\n%s", r.code, r.stderr)
		}
	})
	if n := len(src.Requests()) + len(target.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
}
