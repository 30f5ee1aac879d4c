package wire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// Frames of HTTP/2 (RFC 9113, 6), as far as a server that wants calm needs them.
const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	frameGoAway   = 7
	enhanceCalm   = 11
)

func frame(kind byte, stream uint32, payload ...byte) []byte {
	head := []byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[5:], stream)
	return append(head, payload...)
}

// wantsCalm answers the first request of an HTTP/2 connection with what end says.
func wantsCalm(conn net.Conn, end func(stream uint32) []byte) error {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 24)); err != nil { // the preface
		return err
	}
	if _, err := conn.Write(frame(frameSettings, 0)); err != nil {
		return err
	}
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
			return err
		}
		if head[3] == frameHeaders {
			if _, err := conn.Write(end(binary.BigEndian.Uint32(head[5:]))); err != nil {
				return err
			}
			_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // a close at once would take the word back
			_, err := io.Copy(io.Discard, conn)
			return err
		}
	}
}

// calmListener gives the first so many connections to wantsCalm.
type calmListener struct {
	net.Listener
	config *tls.Config
	left   atomic.Int64
	met    atomic.Int64
	end    func(stream uint32) []byte
}

func (l *calmListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.left.Add(-1) < 0 {
			return conn, err
		}
		l.met.Add(1)
		go wantsCalm(tls.Server(conn, l.config), l.end)
	}
}

// TestEnhanceYourCalm (N15): HTTP/2 says by a connection or a stream that ends that
// requests are too many. That heals, and fewer are under way at a time then.
func TestEnhanceYourCalm(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(stream uint32) []byte{
		"the connection ends": func(stream uint32) []byte {
			return frame(frameGoAway, 0, append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, stream-1), enhanceCalm), "\x1b[31m too many"...)...)
		},
		"the stream ends": func(stream uint32) []byte {
			return frame(frameReset, stream, binary.BigEndian.AppendUint32(nil, enhanceCalm)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New()
			reg.PutImage("a", "v1", []byte("layer"))
			server := httptest.NewUnstartedServer(reg)
			server.EnableHTTP2 = true
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			plain := httptest.NewTLSServer(nil)
			defer plain.Close()
			listener := &calmListener{Listener: server.Listener, end: end,
				config: &tls.Config{Certificates: plain.TLS.Certificates, NextProtos: []string{"h2"}}}
			server.Listener = listener
			server.StartTLS()
			defer server.Close()
			repo := oci.Repository{Host: strings.TrimPrefix(server.URL, "https://"), Path: "a"}

			listener.left.Store(1 << 30)
			c := calmClient(t, 0)
			_, _, err := c.Manifest(t.Context(), repo.WithTag("v1"))
			if fault.KindOf(err) != fault.RateLimited || fault.CauseOf(err) != fault.TooManyRequests || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("got %v (%v)", err, fault.KindOf(err))
			}

			listener.left.Store(1)
			c = calmClient(t, 20)
			var callers errgroup.Group
			for range 5 {
				if _, _, err := c.Manifest(t.Context(), repo.WithTag("v1")); err != nil {
					t.Errorf("it does not heal: %v", err)
				}
				callers.Go(func() error {
					_, _, err := c.Manifest(t.Context(), repo.WithTag("v1"))
					return err
				})
			}
			if err := callers.Wait(); err != nil {
				t.Errorf("it does not heal: %v", err)
			}
			limiter := c.host(repo.Host).limits.brief
			limiter.mu.Lock()
			defer limiter.mu.Unlock()
			if !limiter.wary {
				t.Error("as many requests as before are under way at a time")
			}
		})
	}
}

func calmClient(t *testing.T, retries int) *Client {
	t.Helper()
	if retries == 0 {
		retries = -1
	}
	c, err := New(Options{Anonymous: true, SkipTLSVerify: true, Retries: retries, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A header without an end fills no memory (N9).
func TestHeaderIsBounded(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"one of 10 MB": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("a", 10<<20))
		},
		"a thousand": func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				w.Header().Add("Link", strings.Repeat("a", 1000))
			}
		},
	} {
		server := httptest.NewServer(handler)
		defer server.Close()
		c, err := New(Options{Anonymous: true, PlainHTTP: true, Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Resolve(t.Context(), oci.Repository{Host: strings.TrimPrefix(server.URL, "http://"), Path: "a"}.WithTag("v1"))
		if err == nil || !errors.Is(err, fault.Transient) || len(err.Error()) > 1000 {
			t.Errorf("%s: %.500v", name, err)
		}
	}
}
