// Package connect holds the flags by which a stage reaches a registry.
package connect

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/wire"
	"ferry/pkg/stage"
	"ferry/pkg/transfer"
)

// Flags are common to all registries.
type Flags struct {
	Insecure      bool          `help:"Speak plain HTTP." group:"Connection"`
	TLSSkipVerify bool          `name:"tls-skip-verify" help:"Accept any certificate. To add a certificate authority instead, set SSL_CERT_FILE." group:"Connection"`
	TokenServer   []string      `placeholder:"HOST" help:"Trust HOST to give tokens for the credentials, though it is neither the registry nor in its domain; may be given again." group:"Connection"`
	Parallel      int           `default:"0" placeholder:"N" help:"Make at most N requests at a time. With 0, the default, as many as the way to the registry needs, up to 64; fewer when it answers that they are too many." group:"Connection"`
	Retries       int           `default:"5" placeholder:"N" help:"Repeat a request that may heal up to ${default} times, and what was given up then twice more; 0 repeats nothing." group:"Connection"`
	IdleTimeout   time.Duration `default:"60s" placeholder:"DURATION" help:"Give a request up when no byte has moved for so long (default ${default}). It is no limit to the whole; see --timeout." group:"Connection"`
	// Nil where it is not given: then the environment decides.
	Timeout *time.Duration `placeholder:"DURATION" help:"Give an operation on the registry up after so long, the transfer of its blob included; it is tried again as after any cut. 0 is no limit, the default." group:"Connection"`
}

// SourceFlags reach the registry that is read from.
type SourceFlags struct {
	Flags
	Login string `env:"D8_MIRROR_SOURCE_LOGIN" placeholder:"USER" help:"Log in as USER; the password comes from --password-file, --password-stdin or the environment." group:"Connection"`
	Secret
	Connection string `placeholder:"FILE" help:"Reach the registry that FILE names as it says: login, plain HTTP, certificate authority. JSON, as ferry-discover modules writes it." group:"Connection"`
}

// TargetFlags reach the registry that is written to.
type TargetFlags struct {
	Flags
	Login string `env:"D8_MIRROR_REGISTRY_LOGIN" placeholder:"USER" help:"Log in as USER; the password comes from --password-file, --password-stdin or the environment." group:"Connection"`
	Secret
	Connection string `placeholder:"FILE" help:"Reach the registry that FILE names as it says: login, plain HTTP, certificate authority. JSON, as ferry-discover modules writes it." group:"Connection"`
}

// Secret is where the password of a login comes from: never from arguments, which
// every user of the machine can see, and not from the environment where that is
// handed on.
type Secret struct {
	PasswordFile  string `xor:"password" placeholder:"FILE" help:"Read the password from the first line of FILE." group:"Connection"`
	PasswordStdin bool   `xor:"password" help:"Read the password from the first line of standard input. Documents then come by file (--input)." group:"Connection"`
}

const (
	sourcePassword = "D8_MIRROR_SOURCE_PASSWORD"
	licenseToken   = "D8_MIRROR_LICENSE_TOKEN"
	targetPassword = "D8_MIRROR_REGISTRY_PASSWORD"
	timeout        = "D8_MIRROR_TIMEOUT"
)

// environment is heeded by every client.
var environment = []stage.Variable{
	{Name: timeout, Help: "The duration of --timeout, such as 30m, where that flag is not given (S2.3). What is no duration is ignored with a warning."},
	{Name: "DOCKER_CONFIG", Help: "The directory of docker's config.json, whose credentials and helpers are used for hosts that no login is given for. Default ~/.docker."},
	{Name: "SSL_CERT_FILE, SSL_CERT_DIR", Help: "Certificate authorities to trust instead of the system's."},
	{Name: "HTTP_PROXY, HTTPS_PROXY, NO_PROXY", Help: "Proxies, as everywhere."},
}

// SourceEnvironment are the variables for the manual of a stage with SourceFlags.
func SourceEnvironment() []stage.Variable {
	return append([]stage.Variable{
		{Name: sourcePassword, Help: "The password for --login."},
		{Name: licenseToken, Help: "A licence key: stands for the login license-token with the key as password, where no login is given (S2.2.1)."},
	}, environment...)
}

// TargetEnvironment are those of a stage with TargetFlags.
func TargetEnvironment() []stage.Variable {
	return append([]stage.Variable{{Name: targetPassword, Help: "The password for --login."}}, environment...)
}

// ReadPassword reads the password where it comes by standard input. It has to be
// called before anything else is read from there, which is refused from then on.
// Kinds as [stage.Session.StdinSecret].
func (f Secret) ReadPassword(ctx context.Context, s *stage.Session) error {
	if !f.PasswordStdin {
		return nil
	}
	_, err := s.StdinSecret(ctx, stdinPassword)
	return err
}

const stdinPassword = "the password (--password-stdin)"

// read is the password, by a flag before the variable.
func (f Secret) read(ctx context.Context, s *stage.Session, variable string) (string, error) {
	switch {
	case f.PasswordStdin:
		return s.StdinSecret(ctx, stdinPassword)
	case f.PasswordFile != "":
		return firstLine(f.PasswordFile)
	}
	return s.Getenv(variable), nil
}

// given reports whether a flag tells the password.
func (f Secret) given() bool { return f.PasswordStdin || f.PasswordFile != "" }

// passwordLimit is the largest file that a password is read from, in bytes.
const passwordLimit = 64 << 10

// firstLine reads a password. No error quotes it.
func firstLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fault.New(fault.Usage, "--password-file", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, passwordLimit+1))
	if err != nil {
		return "", fault.New(fault.Usage, "--password-file", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimRight(line, "\r")
	switch {
	case len(line) > passwordLimit:
		return "", fault.Newf(fault.Usage, "--password-file", "the first line of %s is longer than %d bytes", path, passwordLimit)
	case line == "":
		return "", fault.Newf(fault.Usage, "--password-file", "the first line of %s is empty", path)
	}
	return line, nil
}

// Client connects to the source. The login is for host alone, and for none when
// host is "": a credential goes to one origin.
func (f SourceFlags) Client(ctx context.Context, s *stage.Session, host string) (*wire.Client, error) {
	password, err := f.read(ctx, s, sourcePassword)
	if err != nil {
		return nil, err
	}
	login := f.Login
	if license := s.Getenv(licenseToken); login == "" && license != "" && !f.given() {
		login, password = "license-token", license
	}
	return f.client(s, source, f.Connection, host, wire.Credential{User: login, Password: password})
}

// Client connects to the target.
func (f TargetFlags) Client(ctx context.Context, s *stage.Session, host string) (*wire.Client, error) {
	password, err := f.read(ctx, s, targetPassword)
	if err != nil {
		return nil, err
	}
	return f.client(s, target, f.Connection, host, wire.Credential{User: f.Login, Password: password})
}

// Validate refuses what wire would take for a default.
func (f Flags) Validate() error {
	switch {
	case f.Retries < 0:
		return fmt.Errorf("--retries %d is negative", f.Retries)
	case f.Parallel < 0:
		return fmt.Errorf("--parallel %d is negative", f.Parallel)
	}
	return nil
}

// InFlight is how many things to ask for at a time, for the client to choose how
// many requests that makes.
func (f Flags) InFlight() int { return cmp.Or(f.Parallel, wire.MaxConcurrency) }

// Retry is the patience with operations whose requests were given up.
func (f Flags) Retry() transfer.Retry {
	retry := transfer.DefaultRetry
	if f.Retries == 0 {
		retry.Attempts = 1
	}
	return retry
}

// side is what a registry is to a run.
type side bool

const (
	source side = true
	target side = false
)

func (f Flags) client(s *stage.Session, of side, connection, host string, login wire.Credential) (*wire.Client, error) {
	if connection != "" {
		c, err := ReadConnection(connection)
		if err != nil {
			return nil, err
		}
		if err := c.suits(host, login); err != nil {
			return nil, err
		}
		return f.connect(s, of, c)
	}
	opts := f.options(s, of)
	switch {
	case login.User == "" && login.Password != "":
		return nil, fault.Newf(fault.Usage, "", "there is a password, but no login").Hint("give --login, or its environment variable")
	case login.User != "" && host == "":
		return nil, fault.Newf(fault.Usage, "--login", "the images come from several registries, and a login is for one").
			Hint("put the credentials into docker's config.json, by host")
	case login.User != "":
		opts.Credentials = map[string]wire.Credential{host: login}
	}
	return wire.New(opts)
}

// Connect connects to a source as c says.
func (f Flags) Connect(s *stage.Session, c *Connection) (*wire.Client, error) {
	return f.connect(s, source, c)
}

func (f Flags) connect(s *stage.Session, of side, c *Connection) (*wire.Client, error) {
	opts := f.options(s, of)
	opts.Roots = c.CA
	opts.Credentials = map[string]wire.Credential{c.Host: {User: c.Login, Password: c.Password}}
	if c.PlainHTTP {
		opts.PlainHTTPHosts = []string{c.Host}
	}
	return wire.New(opts)
}

func (f Flags) options(s *stage.Session, of side) wire.Options {
	return wire.Options{
		PlainHTTP: f.Insecure, SkipTLSVerify: f.TLSSkipVerify, TokenServers: f.TokenServer,
		Concurrency: f.Parallel, Reads: of == source, IdleTimeout: f.IdleTimeout, Timeout: f.deadline(s), Retries: cmp.Or(f.Retries, -1),
		UserAgent: strings.Replace(s.Generator(), " ", "/", 1), Log: s.Log,
	}
}

// deadline is the longest that an operation on a registry may take; 0 or less is
// no limit (S2.3, S9 row 62).
func (f Flags) deadline(s *stage.Session) time.Duration {
	if f.Timeout != nil {
		return *f.Timeout
	}
	text := s.Getenv(timeout)
	if text == "" {
		return 0
	}
	limit, err := time.ParseDuration(text)
	if err != nil {
		s.Log.Warn("the variable is ignored: it holds no duration such as 30m", "variable", timeout, "value", text)
		return 0
	}
	return limit
}

// HostOf returns the one host of references (repositories or images), or "".
func HostOf(references []string) string {
	host := ""
	for _, r := range references {
		h, _, _ := strings.Cut(r, "/")
		if host != "" && h != host {
			return ""
		}
		host = h
	}
	return host
}

// maxPath is the longest path of a target in bytes, the slash before it counted.
const maxPath = 255

// Repository parses a HOST/PATH argument. https:// and http:// mean nothing,
// wherever they stand. A bare host is refused with the user's own address in
// the example (S7.2.1, Q2, Q3).
func Repository(what, value string) (oci.Repository, error) {
	trimmed := strings.TrimSuffix(strings.NewReplacer("https://", "", "http://", "").Replace(value), "/")
	host, path, _ := strings.Cut(trimmed, "/")
	switch {
	case trimmed == "":
		return oci.Repository{}, fault.Newf(fault.Usage, what, "%q names no registry", value).Hint("it is HOST/PATH, for example registry.example.com/deckhouse")
	case path == "":
		return oci.Repository{}, fault.Newf(fault.Usage, what, "%s is a registry; a path in it is needed", host).Hint("for example %s/deckhouse", host)
	case len("/"+path) > maxPath:
		return oci.Repository{}, fault.Newf(fault.Usage, what, "the path has %d characters, and only %d are allowed", len("/"+path), maxPath).Hint("choose a shorter path")
	}
	repo, err := oci.ParseRepository(trimmed)
	if err != nil {
		return repo, fault.New(fault.Usage, what, err)
	}
	return repo, nil
}
