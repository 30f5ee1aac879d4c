// Package wire speaks to registries over HTTP. It is the one importer of
// regclient, which reads docker's configuration.
//
// Nothing stands between a blob's body and its reader: no second hash, no copy.
//
// Everything that decides about trust and persistence is in one
// http.RoundTripper ([transport]): where a credential may go, how much is read,
// what is asked again and when, how many requests are under way.
package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/regclient/regclient/config"

	"ferry/pkg/fault"
	"ferry/pkg/registry"
)

// Credential is what a registry is logged in to with.
type Credential struct{ User, Password string }

// Options configure a Client. The zero value works: HTTPS, docker's
// configuration for credentials, proxies and roots from the environment as in
// every Go program (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR).
type Options struct {
	// PlainHTTP speaks HTTP to all hosts, PlainHTTPHosts to those listed.
	PlainHTTP      bool
	PlainHTTPHosts []string
	// SkipTLSVerify accepts any certificate.
	SkipTLSVerify bool
	// Roots are certificates of authorities, in PEM, that are trusted beside
	// the system's. "" adds none.
	Roots string

	// Credentials by registry host ("registry.example.com:5000"). A host
	// that is not in it is looked up in docker's configuration, unless
	// Anonymous is set.
	Credentials map[string]Credential
	// Anonymous leaves docker's configuration alone, as d8 does on push.
	Anonymous bool
	// TokenServers are hosts ("auth.example.com[:port]") that may be asked
	// for tokens with a credential though they are neither the registry
	// itself nor, over HTTPS, in its domain (N1).
	TokenServers []string

	// Concurrency is the number of operations at a time per host, an open
	// blob included. 0, the default, lets the client find out how many bring
	// the most through, from a few up to MaxConcurrency.
	Concurrency int
	// Reads tells that the registries are only read from: the client's own choice
	// begins with many operations next door, too.
	Reads bool
	// Retries is how often a request is repeated that failed transiently;
	// bytes that arrive start the count anew. Default 5, negative none.
	Retries int
	// Backoff is the first pause before a repetition; it doubles up to 30 s.
	// Default 500 ms.
	Backoff time.Duration
	// IdleTimeout ends a request in which no byte moves for so long, however
	// big the blob. Default 60 s.
	IdleTimeout time.Duration
	// Timeout ends an operation, its repetitions and the reading of its body
	// included, with fault.Transient; 0 or less means no limit (S2.3).
	Timeout time.Duration

	UserAgent string
	// Log gets one debug record a request, without headers and queries
	// (N8). Default none.
	Log *slog.Logger
}

// begin is how many operations without large blobs an own choice begins with.
func (o Options) begin() int {
	if o.Reads {
		return farConcurrency
	}
	return firstConcurrency
}

func (o Options) withDefaults() Options {
	o.Concurrency = max(0, o.Concurrency)
	o.Retries = max(0, cmp.Or(o.Retries, 5))
	o.Backoff = cmp.Or(max(0, o.Backoff), 500*time.Millisecond)
	o.IdleTimeout = cmp.Or(max(0, o.IdleTimeout), time.Minute)
	o.UserAgent = cmp.Or(o.UserAgent, "ferry")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Client is a registry.Target over HTTP.
type Client struct {
	opts   Options
	base   *http.Transport
	docker map[string]config.Host // docker's configuration by host name

	mu    sync.Mutex
	hosts map[string]*host
}

var _ registry.Target = (*Client)(nil)

// host is all that is known of one registry.
type host struct {
	transport *transport
	client    *http.Client // over transport
	limits    limits
	heads     heads
	silent    sync.Map // paths of repositories without the referrers API
	bodies    bodies
}

// New returns a Client. It fails with fault.Usage when docker's configuration, the
// roots or the environment's proxies cannot be read.
func New(opts Options) (*Client, error) {
	c := &Client{opts: opts.withDefaults(), hosts: map[string]*host{}, docker: map[string]config.Host{}}
	if err := checkProxies(); err != nil {
		return nil, err
	}
	roots, err := rootsWith(opts.Roots)
	if err != nil {
		return nil, fault.New(fault.Usage, "certificate authorities", err)
	}
	if !opts.Anonymous {
		entries, err := config.DockerLoad()
		if err != nil {
			return nil, fault.New(fault.Usage, "docker configuration", err).
				Hint("repair config.json in $DOCKER_CONFIG or ~/.docker")
		}
		for _, entry := range entries {
			c.docker[entry.Name] = entry
		}
	}
	c.base = http.DefaultTransport.(*http.Transport).Clone()
	c.base.DisableCompression = true // digests name the bytes as they are stored
	// A connection that goes idle for a moment must not have to be made anew.
	c.base.MaxIdleConnsPerHost = cmp.Or(c.opts.Concurrency, MaxConcurrency)
	c.base.MaxIdleConns = 4 * c.base.MaxIdleConnsPerHost
	// A small answer comes in one read, a large one past the buffer.
	c.base.ReadBufferSize, c.base.WriteBufferSize = bufferSize, bufferSize
	c.base.DialContext = steady(c.base.DialContext, c.opts.IdleTimeout)
	c.base.MaxResponseHeaderBytes = headerLimit
	c.base.OnProxyConnectResponse = proxyAnswer
	c.base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, InsecureSkipVerify: c.opts.SkipTLSVerify}
	return c, nil
}

// headerLimit is how much an answer's header may have (N9): signed addresses are
// long, but not that long.
const headerLimit = 256 << 10

// bufferSize is that of a connection, for each direction.
const bufferSize = 64 << 10

// Close drops idle connections.
func (c *Client) Close() { c.base.CloseIdleConnections() }

// host returns what is known of the registry called name.
func (c *Client) host(name string) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hosts[name]; h != nil {
		return h
	}
	conf := config.HostNewName(name)
	self := origin{scheme: "https", host: conf.Hostname}
	if c.opts.PlainHTTP || slices.Contains(c.opts.PlainHTTPHosts, name) {
		self.scheme = "http"
	}
	auth := newAuthorizer(self, c.credential(conf.Name, name), c.opts.TokenServers)
	limits := newLimits(c.opts.Concurrency, c.opts.begin())
	t := &transport{opts: c.opts, base: c.base, self: self, auth: auth, limits: limits}
	auth.via = t
	client := &http.Client{Transport: t}
	h := &host{transport: t, client: client, limits: limits}
	c.hosts[name] = h
	return h
}

// credential finds the login of a host: what the caller gave, else docker's
// configuration, asking a credential helper once.
func (c *Client) credential(normal, name string) credential {
	if given, ok := c.opts.Credentials[name]; ok {
		return credential{user: given.User, password: given.Password}
	}
	entry := c.docker[normal]
	found := entry.GetCred()
	if entry.CredHelper != "" && found.User == "" && found.Token == "" {
		// A public image needs no login: a missing helper must not stop it.
		c.opts.Log.Warn("the credential helper gave no login", "host", name, "helper", entry.CredHelper)
	}
	return credential{user: found.User, password: found.Password, identity: found.Token}
}

// do carries out call as one operation on a repository: when its turn at the
// host comes, with every request marked as op's.
func (c *Client) do(ctx context.Context, op *operation, call func(context.Context, *host) error) error {
	h := c.host(op.repo.Host)
	if err := h.limits.of(op.size).acquire(ctx); err != nil {
		return op.fault(ctx, err)
	}
	err := call(op.begin(ctx, c.opts), h)
	if err != nil {
		h.transport.closeSession(ctx, op)
		err = op.fault(ctx, err)
	}
	if err != nil || !op.keepOpen {
		h.end(op)
	}
	return err
}

// end ends an operation and its turn.
func (h *host) end(op *operation) {
	op.cancel(nil)
	h.limits.of(op.size).release()
}

func protocol(subject, format string, args ...any) *fault.Error {
	return fault.Newf(fault.Protocol, subject, format, args...)
}
