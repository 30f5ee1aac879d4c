package origin

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// counter counts what passes to the next handler.
type counter struct {
	next http.Handler

	bodyIn, bodyOut, wireIn, wireOut, connections, refused atomic.Int64

	mu       sync.Mutex
	requests map[string]int64
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == countsPath {
		_ = json.NewEncoder(w).Encode(c.reset())
		return
	}
	c.mu.Lock()
	if c.requests == nil {
		c.requests = map[string]int64{}
	}
	c.requests[kind(r)]++
	c.mu.Unlock()
	r.Body = &countingBody{r.Body, &c.bodyIn}
	c.next.ServeHTTP(&countingWriter{w, c}, r)
}

func (c *counter) reset() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := Counts{
		Requests: c.requests, Refused: c.refused.Swap(0), Connections: c.connections.Swap(0),
		BodyIn: c.bodyIn.Swap(0), BodyOut: c.bodyOut.Swap(0), WireIn: c.wireIn.Swap(0), WireOut: c.wireOut.Swap(0),
	}
	c.requests = nil
	return counts
}

// kind names what a request asks for, and how.
func kind(r *http.Request) string {
	path := r.URL.Path
	switch {
	case strings.TrimSuffix(path, "/") == "/v2":
		return "ping"
	case strings.HasSuffix(path, "/tags/list"):
		return "tags"
	case strings.Contains(path, "/referrers/"):
		return "referrers"
	case strings.Contains(path, "/manifests/"):
		return "manifest " + r.Method
	case strings.Contains(path, "/blobs/uploads/"):
		if r.URL.Query().Get("mount") != "" {
			return "mount"
		}
		return "upload " + r.Method
	case strings.Contains(path, "/blobs/"):
		return "blob " + r.Method
	default:
		return "other"
	}
}

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

type countingWriter struct {
	http.ResponseWriter
	c *counter
}

func (w *countingWriter) WriteHeader(status int) {
	if status >= 400 {
		w.c.refused.Add(1)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.c.bodyOut.Add(int64(n))
	return n, err
}

// ReadFrom keeps sendfile possible.
func (w *countingWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, r)
	w.c.bodyOut.Add(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type countingListener struct {
	net.Listener
	c *counter
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.c.connections.Add(1)
	return countingConn{conn.(*net.TCPConn), l.c}, nil
}

type countingConn struct {
	*net.TCPConn
	c *counter
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.c.wireIn.Add(int64(n))
	return n, err
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.c.wireOut.Add(int64(n))
	return n, err
}

// ReadFrom keeps sendfile possible.
func (c countingConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	c.c.wireOut.Add(n)
	return n, err
}
