package modulesource

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"

	"github.com/google/go-cmp/cmp"
)

const secret = "hunter2"

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// source is a ModuleSource with these lines in spec.registry.
func source(lines ...string) string {
	return "apiVersion: deckhouse.io/v1alpha1\nkind: ModuleSource\nmetadata:\n  name: deckhouse\nspec:\n  registry:\n    " +
		strings.Join(lines, "\n    ") + "\n  releaseChannel: \"Stable\"\n"
}

const repo = "repo: registry.example.com:5000/deckhouse/ee/modules"

var repository = oci.Repository{Host: "registry.example.com:5000", Path: "deckhouse/ee/modules"}

// asked is what "kubectl get ms deckhouse -o yaml" prints.
const asked = `apiVersion: deckhouse.io/v1alpha1
kind: ModuleSource
metadata:
  creationTimestamp: "2024-03-11T20:33:51Z"
  finalizers:
  - modules.deckhouse.io/release-exists
  generation: 1
  labels:
    heritage: deckhouse
  name: deckhouse
  resourceVersion: "20241841"
  uid: f35d10be-3ff9-4cd9-b64c-4f58abd8f595
spec:
  registry:
    ca: |
      -----BEGIN CERTIFICATE-----
      MIIB
      -----END CERTIFICATE-----
    dockerCfg: %s
    repo: registry.example.com:5000/deckhouse/ee/modules
    scheme: HTTPS
  releaseChannel: ""
status:
  message: ""
  moduleErrors: []
  modules:
  - name: deckhouse-admin
    policy: deckhouse
  modulesCount: 10
  syncTime: "2024-03-28T14:25:35Z"
`

// S8.2: what a ModuleSource says.
func TestParse(t *testing.T) {
	auth := b64(fmt.Sprintf(`{"auths":{"registry.example.com:5000":{"auth":%q}}}`, b64("license-token:"+secret)))
	for _, tc := range []struct {
		name, text string
		want       Source
	}{
		{"no more than the repository", source(repo), Source{}},
		{"as a cluster prints it", fmt.Sprintf(asked, auth),
			Source{CA: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", Login: "license-token", Password: secret}},
		{"as JSON", `{"apiVersion":"deckhouse.io/v1alpha1","kind":"ModuleSource","spec":{"registry":{"repo":"registry.example.com:5000/deckhouse/ee/modules"}}}`, Source{}},
		{"a slash behind the repository", source(repo + "/"), Source{}},
		{"scheme HTTP", source(repo, "scheme: HTTP"), Source{PlainHTTP: true}},
		{"scheme in lower case", source(repo, "scheme: http"), Source{PlainHTTP: true}},
		{"scheme HTTPS", source(repo, "scheme: Https"), Source{}},
		{"empty fields", source(repo, `scheme: ""`, `dockerCfg: ""`, "ca:"), Source{}},
		{"auth", source(repo, "dockerCfg: "+auth), Source{Login: "license-token", Password: secret}},
		{"a colon in the password", source(repo, "dockerCfg: "+b64(fmt.Sprintf(`{"auths":{"registry.example.com:5000":{"auth":%q}}}`, b64("u:a:b")))), Source{Login: "u", Password: "a:b"}},
		{"username and password", source(repo, "dockerCfg: "+b64(`{"auths":{"registry.example.com:5000":{"username":"u","password":"p"}}}`)), Source{Login: "u", Password: "p"}},
		{"wrapped base64", source(repo, "dockerCfg: |", "  "+auth[:20], "  "+auth[20:]), Source{Login: "license-token", Password: secret}},
		{"folded base64", source(repo, "dockerCfg: "+auth[:20], "  "+auth[20:]), Source{Login: "license-token", Password: secret}},
		{"other fields of docker's configuration", source(repo, "dockerCfg: "+b64(`{"auths":{"registry.example.com:5000":{"username":"u","password":"p","email":"x"}},"credsStore":"x"}`)), Source{Login: "u", Password: "p"}},
		{"no auths", source(repo, "dockerCfg: "+b64(`{"auths":{}}`)), Source{}},
		{"an empty login", source(repo, "dockerCfg: "+b64(`{"auths":{"registry.example.com:5000":{}}}`)), Source{}},
		// The key must equal the host, the port included: else anonymous.
		{"logins for others", source(repo, "dockerCfg: "+b64(`{"auths":{"registry.example.com":{"username":"u","password":"p"},"a":{}}}`)),
			Source{Others: []string{"a", "registry.example.com"}}},
		{"document markers and comments", "# mine\n---\n" + source(repo) + "---\n# nothing\n", Source{}},
		{"end of document", source(repo) + "...\n", Source{}},
		{"lines that end as in Windows", strings.ReplaceAll("---\n"+source(repo), "\n", "\r\n"), Source{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Repository = repository
			got, err := Parse([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// S8.2: what would leave out a login, a certificate or a resource is refused,
// and no message repeats a password.
func TestParseRefuses(t *testing.T) {
	dockerCfg := func(entry string) string {
		return source(repo, "dockerCfg: "+b64(`{"auths":{"registry.example.com:5000":`+entry+`}}`))
	}
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"only comments", "---\n# x\n---\n", "empty"},
		{"no YAML", "a: b: c: " + secret, "not YAML"},
		{"a key twice", source(repo, repo), "twice"},
		{"two resources", source(repo) + "---\n" + source(repo), "several"},
		{"two resources, the second behind the marker", source(repo) + "--- {a: b}\n", "several"},
		{"two resources behind an end", source(repo) + "...\n" + source(repo), "several"},
		{"another kind", strings.Replace(source(repo), "kind: ModuleSource", "kind: List", 1), `kind is "List"`},
		{"another version", strings.Replace(source(repo), "v1alpha1", "v2", 1), "v2"},
		{"a list", "- a", "not a resource"},
		{"spec is a text", "apiVersion: deckhouse.io/v1alpha1\nkind: ModuleSource\nspec: " + secret, "spec is a string"},
		{"no repository", source("scheme: HTTP"), "spec.registry.repo is missing"},
		{"misspelt spec", strings.Replace(source(repo), "spec:", "specs:", 1), "spec.registry.repo is missing"},
		{"repository without a path", source("repo: registry.example.com"), "HOST[:PORT]/PATH"},
		{"repository with a scheme", source("repo: https://registry.example.com/modules"), "not a registry host"},
		{"repository in upper case", source("repo: registry.example.com/Modules"), "not a repository name"},
		{"misspelt field", source(repo, "dockercfg: "+b64(secret)), "spec.registry.dockercfg is unknown"},
		{"a number", source(repo, "ca: 5"), "spec.registry.ca is no text"},
		{"unknown scheme", source(repo, "scheme: FTP"), "scheme"},
		{"no base64", source(repo, "dockerCfg: "+secret+"!"), "not base64"},
		{"no JSON", source(repo, "dockerCfg: "+b64(secret)), "not docker's configuration"},
		{"auth is no base64", dockerCfg(`{"auth":"` + secret + `!"}`), "auth is not base64"},
		{"auth without a colon", dockerCfg(`{"auth":"` + b64(secret) + `"}`), "USER:PASSWORD"},
		{"a password alone", dockerCfg(`{"password":"` + secret + `"}`), "no user"},
		{"a token", dockerCfg(`{"identitytoken":"` + secret + `"}`), "token"},
		{"too large", source(repo) + strings.Repeat("#", limit), "bytes"},
	} {
		got, err := Parse([]byte(tc.text))
		switch {
		case err == nil:
			t.Errorf("%s: accepted as %+v", tc.name, got)
		case fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), tc.want):
			t.Errorf("%s: got %v, want usage with %q", tc.name, err, tc.want)
		case strings.Contains(err.Error(), secret), strings.Contains(err.Error(), b64(secret)):
			t.Errorf("%s: the error quotes a secret: %v", tc.name, err)
		}
	}
}

// S8.2: whatever the text, there is a usable repository or an error of usage, and
// a password only with a login.
func FuzzParse(f *testing.F) {
	f.Add([]byte(source(repo)))
	f.Add(fmt.Appendf(nil, asked, b64(`{"auths":{"registry.example.com:5000":{"auth":"dTpw"}}}`)))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("--- \n---\r\n--- x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("%v is not of usage", err)
			}
			return
		}
		if _, err := oci.ParseRepository(s.Repository.String()); err != nil {
			t.Errorf("accepted, and of no use: %v", err)
		}
		if s.Login == "" && s.Password != "" {
			t.Error("a password without a login")
		}
	})
}
