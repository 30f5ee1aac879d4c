// Package modulesource reads a ModuleSource (S8.2): the resource by which a
// cluster of Deckhouse is told where modules are, and mirror-modules too. It
// stands apart from package deckhouse because it holds a password: discover alone
// reads it.
//
// What is read decides which registry gets a password, so the fields that count
// are read strictly; what a cluster adds, metadata and status, is passed over.
package modulesource

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"ferry/pkg/fault"
	"ferry/pkg/oci"

	"sigs.k8s.io/yaml"
)

const (
	apiVersion = "deckhouse.io/v1alpha1"
	kind       = "ModuleSource"
)

// limit is the largest ModuleSource, in bytes; certificates are the bulk of one.
const limit = 1 << 20

// Source is where a ModuleSource says that modules are.
type Source struct {
	// Repository has the modules: its tags are their names.
	Repository oci.Repository
	// PlainHTTP says that its registry does not speak TLS.
	PlainHTTP bool
	// CA are certificates in PEM to trust beside the system's, or "".
	CA string
	// Login and Password are those for the registry; without a login it is
	// anonymous.
	Login, Password string
	// Others are the hosts, sorted, that the dockerCfg has logins for where it
	// has none for the registry: mostly a slip.
	Others []string
}

// resource is a ModuleSource. The registry's fields are taken apart one by one,
// for encoding/json would take "dockercfg" for "dockerCfg", which a cluster does
// not.
type resource struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Registry map[string]json.RawMessage `json:"registry"`
	} `json:"spec"`
}

// Parse reads a ModuleSource. No error quotes a secret.
// Kind: fault.Usage, without a subject: the caller knows the file.
func Parse(text []byte) (*Source, error) {
	s, err := parse(text)
	if err != nil {
		return nil, fault.Newf(fault.Usage, "", "not a usable ModuleSource: %w", err)
	}
	return s, nil
}

func parse(text []byte) (*Source, error) {
	r, err := decode(text)
	if err != nil {
		return nil, err
	}
	fields, err := r.fields()
	if err != nil {
		return nil, err
	}
	s := &Source{CA: fields["ca"]}
	if s.Repository, err = oci.ParseRepository(strings.TrimSuffix(fields["repo"], "/")); err != nil {
		return nil, fmt.Errorf("spec.registry.repo: %w", err)
	}
	switch strings.ToUpper(fields["scheme"]) {
	case "", "HTTPS":
	case "HTTP":
		s.PlainHTTP = true
	default:
		return nil, fmt.Errorf("spec.registry.scheme: %q is neither HTTP nor HTTPS", fields["scheme"])
	}
	if err := s.logIn(fields["dockerCfg"]); err != nil {
		return nil, fmt.Errorf("spec.registry.dockerCfg: %w", err)
	}
	return s, nil
}

// separator parts the documents of a YAML stream; one may begin behind it.
var separator = regexp.MustCompile(`(?m)^(?:---|\.\.\.)(?:[ \t]|\r?$)`)

// decode reads the one resource of a YAML stream. A second one is refused, for
// the library would read the first and drop the others.
func decode(text []byte) (*resource, error) {
	if len(text) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	var found []byte
	for _, document := range separator.Split(string(text), -1) {
		body, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			return nil, errors.New("it is not YAML, or a key stands twice in it") // the cause may quote a line
		}
		if string(body) == "null" {
			continue
		}
		if found != nil {
			return nil, errors.New("the file holds several resources")
		}
		found = body
	}
	if found == nil {
		return nil, errors.New("the file is empty")
	}
	r := &resource{}
	if err := json.Unmarshal(found, r); err != nil {
		return nil, typeError(err)
	}
	if r.Kind != kind {
		return nil, fmt.Errorf("kind is %q, want %s", r.Kind, kind)
	}
	if r.APIVersion != apiVersion {
		return nil, fmt.Errorf("apiVersion is %q, want %s", r.APIVersion, apiVersion)
	}
	return r, nil
}

// typeError says which field has the wrong type, without its value.
func typeError(err error) error {
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) && typed.Field != "" {
		return fmt.Errorf("%s is a %s, which it must not be", typed.Field, typed.Value)
	}
	return errors.New("it is not a resource")
}

// known are the fields of spec.registry.
var known = []string{"ca", "dockerCfg", "repo", "scheme"}

// fields are the texts of spec.registry. A misspelt field would mean no login or
// no certificate, and show up as a refusal much later.
func (r *resource) fields() (map[string]string, error) {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Spec.Registry)) {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("spec.registry.%s is unknown; there are %s", name, strings.Join(known, ", "))
		}
		var text *string // null is nothing
		if err := json.Unmarshal(r.Spec.Registry[name], &text); err != nil {
			return nil, fmt.Errorf("spec.registry.%s is no text", name)
		}
		if text != nil {
			out[name] = *text
		}
	}
	if out["repo"] == "" {
		return nil, errors.New("spec.registry.repo is missing")
	}
	return out, nil
}

// login is what docker's configuration has for one registry.
type login struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// logIn takes the login of the repository's registry from dockerCfg, docker's
// configuration in base64.
func (s *Source) logIn(dockerCfg string) error {
	// Without the blanks that YAML puts for the line breaks of a long text.
	text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(dockerCfg), ""))
	if err != nil {
		return errors.New("it is not base64")
	}
	if len(text) == 0 {
		return nil
	}
	var config struct {
		Auths map[string]login `json:"auths"`
	}
	if json.Unmarshal(text, &config) != nil {
		return errors.New("what the base64 holds is not docker's configuration in JSON")
	}
	found, ok := config.Auths[s.Repository.Host]
	if !ok {
		s.Others = slices.Sorted(maps.Keys(config.Auths))
		return nil
	}
	if s.Login, s.Password, err = found.read(); err != nil {
		return fmt.Errorf("the login for %s: %w", s.Repository.Host, err)
	}
	return nil
}

func (l login) read() (user, password string, err error) {
	if l.Auth != "" { // which goes before the other two, as in docker
		text, err := base64.StdEncoding.DecodeString(l.Auth)
		if err != nil {
			return "", "", errors.New("auth is not base64")
		}
		var ok bool
		if l.Username, l.Password, ok = strings.Cut(string(text), ":"); !ok {
			return "", "", errors.New("auth is not USER:PASSWORD in base64")
		}
	}
	switch {
	case l.Username != "":
		return l.Username, l.Password, nil
	case l.Password != "":
		return "", "", errors.New("it has a password and no user")
	case l.IdentityToken != "" || l.RegistryToken != "":
		return "", "", errors.New("it is a token; auth, or username and password, are wanted")
	}
	return "", "", nil
}
