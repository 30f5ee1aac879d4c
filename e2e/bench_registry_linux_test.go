package e2e

import (
	"io"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"ferry/pkg/registry/registrytest"
)

// served is a registry that keeps its blobs on disk, and counts every byte that
// it sends, headers included.
type served struct {
	*registrytest.Registry
	host string
	sent atomic.Int64
}

func registryOn(b *testing.B, dir string) *served {
	b.Helper()
	s := &served{Registry: registrytest.New(registrytest.WithDir(dir))}
	server := httptest.NewUnstartedServer(s.Registry)
	s.host = server.Listener.Addr().String()
	server.Listener = countingListener{server.Listener, &s.sent}
	server.Start()
	b.Cleanup(server.Close)
	return s
}

type countingListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{conn.(*net.TCPConn), l.sent}, nil
}

type countingConn struct {
	*net.TCPConn
	sent *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// ReadFrom keeps sendfile possible.
func (c countingConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	c.sent.Add(n)
	return n, err
}
