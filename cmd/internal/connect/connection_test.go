package connect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/registry/wire"

	"github.com/google/go-cmp/cmp"
)

// S8.2: what a ModuleSource says of its registry reaches the stages that know no
// vendor by a file that is for its owner alone, and is read as it was written.
func TestConnectionFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "connection.json")
	want := &Connection{Host: "registry.example:5000", PlainHTTP: true, CA: "-----BEGIN\n", Login: "license-token", Password: "p\"<>&"}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	got, err := ReadConnection(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestConnectionFileRefused(t *testing.T) {
	const secret = "hunter2"
	for name, text := range map[string]string{
		"empty":                    "",
		"cut":                      `{"host":"h","password":"` + secret,
		"no host":                  `{"login":"u","password":"` + secret + `"}`,
		"misspelt":                 `{"host":"h","passwort":"` + secret + `"}`,
		"password without a login": `{"host":"h","password":"` + secret + `"}`,
		"two":                      `{"host":"h"}{"host":"` + secret + `"}`,
		"of another type":          `{"host":"h","login":["` + secret + `"]}`,
	} {
		path := filepath.Join(t.TempDir(), "connection.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConnection(path)
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: got %v, want usage", name, err)
		} else if strings.Contains(err.Error()+fault.HintOf(err), secret) {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
	if _, err := ReadConnection(filepath.Join(t.TempDir(), "missing")); fault.KindOf(err) != fault.Usage {
		t.Errorf("missing: got %v, want usage", err)
	}
}

// A credential goes to one origin, and there is one that says which.
func TestConnectionSuits(t *testing.T) {
	for _, tc := range []struct {
		name, host string
		login      wire.Credential
		want       *fault.Kind
	}{
		{"its registry", "h:5000", wire.Credential{}, nil},
		{"no image, or several registries", "", wire.Credential{}, nil},
		{"another registry", "h", wire.Credential{}, fault.Usage},
		{"a second login", "h:5000", wire.Credential{User: "u", Password: "p"}, fault.Usage},
		{"a password left in the environment", "h:5000", wire.Credential{Password: "p"}, fault.Usage},
	} {
		c := &Connection{Host: "h:5000", Login: "license-token"}
		if err := c.suits(tc.host, tc.login); fault.KindOf(err) != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}
