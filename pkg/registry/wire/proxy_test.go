package wire_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/pkg/registry/registrytest"
)

// tunnel is a CONNECT proxy. It opens TLS where it has a certificate, as those of
// companies do.
type tunnel struct {
	host   string
	status int              // of the answer to CONNECT, 0 for success
	login  string           // "user:password" that it wants, "" for none
	cert   *tls.Certificate // for registry.invalid
	target http.Handler

	mu    sync.Mutex
	asked []string
}

func (p *tunnel) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, req.Method+" "+req.Host)
	p.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.login))
	switch {
	case p.login != "" && req.Header.Get("Proxy-Authorization") != want:
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	case p.status != 0:
		w.WriteHeader(p.status)
		return
	case req.Method != http.MethodConnect:
		p.target.ServeHTTP(w, req)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*p.cert}})
	reader := bufio.NewReader(secure)
	for {
		inner, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		answer := httptest.NewRecorder()
		p.target.ServeHTTP(answer, inner)
		result := answer.Result()
		result.ContentLength = int64(answer.Body.Len())
		if inner.Method == http.MethodHead {
			result.Body = http.NoBody
		}
		if result.Write(secure) != nil {
			return
		}
	}
}

// startTunnel returns a proxy in front of an image, and the CA that it signs with.
func startTunnel(t *testing.T) (p *tunnel, ca string) {
	t.Helper()
	reg := registrytest.New()
	reg.PutImage("a", "v1", []byte("layer"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own CA"}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"registry.invalid", "other.registry.invalid"}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	p = &tunnel{cert: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, target: reg}
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	p.host = strings.TrimPrefix(server.URL, "http://")
	return p, ca
}

// TestTunnel (N23): what goes wrong at a proxy names it, and says what to do; its
// password stays out of it (N8).
func TestTunnel(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, tt := range map[string]struct {
		status  int
		login   string
		address string // of the proxy, %s being where it listens
		ca      bool
		plain   bool
		want    string // what the answer begins with
		says    []string
	}{
		"through":                 {0, "", "http://%s", true, false, resolved, nil},
		"through, with a login":   {0, "u:" + secret, "http://u:" + secret + "@%s", true, false, resolved, nil},
		"TLS is opened":           {0, "", "http://%s", false, false, "protocol | ", []string{"SSL_CERT_FILE", "the proxy"}},
		"407":                     {0, "u:" + secret, "http://%s", true, false, "denied | ", []string{"the proxy wants a login", "HTTPS_PROXY"}},
		"407, wrong login":        {0, "u:other", "http://u:" + secret + "@%s", true, false, "denied | ", []string{"the proxy wants a login"}},
		"407, plain HTTP":         {0, "u:other", "http://u:" + secret + "@%s", true, true, "denied | ", []string{"the proxy wants a login"}},
		"CONNECT is refused, 403": {403, "", "http://%s", true, false, "denied | ", []string{"NO_PROXY", "403 Forbidden", "registry.invalid:443"}},
		"CONNECT is refused, 405": {405, "", "http://%s", true, false, "denied | ", []string{"405"}},
		"CONNECT fails, 502":      {502, "", "http://%s", true, false, "transient | ", []string{"whoever runs the proxy", "502"}},
		"CONNECT is limited, 429": {429, "", "http://%s", true, false, "transient | ", []string{"429"}},
		"no proxy there":          {0, "", "http://u:" + secret + "@" + closed.Addr().String(), true, false, "transient | ", []string{"through the proxy " + closed.Addr().String()}},
		"no address":              {0, "", "http://u:" + secret + "@\x01%s", true, false, "usage | ", []string{"HTTPS_PROXY"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, ca := startTunnel(t)
			p.status, p.login = tt.status, tt.login
			address := tt.address
			if strings.Contains(address, "%s") {
				address = fmt.Sprintf(address, p.host)
			}
			env := []string{"HTTPS_PROXY=" + address, "HTTP_PROXY=" + address}
			if tt.ca {
				env = append(env, "SSL_CERT_FILE="+ca)
			}
			if tt.plain {
				env = append(env, "WIRE_TEST_PLAIN=1")
			}
			got := resolveWith(t, "registry.invalid/a:v1", env...)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			says := tt.says
			if tt.want != resolved && !strings.Contains(name, "no ") {
				says = append(says, p.host)
			}
			for _, want := range says {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in: %s", want, got)
				}
			}
			if strings.Contains(got, secret) {
				t.Errorf("the password is in: %s", got)
			}
		})
	}
}

// TestNoProxyForms (N23): whom the proxy is not asked for.
func TestNoProxyForms(t *testing.T) {
	t.Parallel()
	for form, passed := range map[string]bool{
		"registry.invalid": true, ".invalid": true, "invalid": true, "registry.invalid:443": true, "*": true,
		"a.example, registry.invalid": true, "REGISTRY.invalid": true,
		"": false, "registry.invalid:5000": false, "other.registry.invalid": false, "istry.invalid": false, "*.example": false, "10.0.0.0/8": false,
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			p, ca := startTunnel(t)
			got := resolveWith(t, "registry.invalid/a:v1", "HTTPS_PROXY=http://"+p.host, "SSL_CERT_FILE="+ca, "NO_PROXY="+form)
			p.mu.Lock()
			defer p.mu.Unlock()
			if asked := len(p.asked) > 0; asked == passed {
				t.Errorf("the proxy was asked %q: %s", p.asked, got)
			}
			if passed && (!strings.HasPrefix(got, "transient | ") || strings.Contains(got, "proxy")) {
				t.Errorf("got %s", got)
			}
		})
	}
}
