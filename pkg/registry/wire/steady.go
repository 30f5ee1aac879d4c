package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"
)

// dialer makes connections, as net.Dialer does.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// steady makes the connections of dial tell how they get on.
func steady(dial dialer, idle time.Duration) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &steadyConn{Conn: conn, look: idle / looks, made: time.Now()}, nil
	}
}

// steadyConn notes when bytes move, also in the middle of a write. What is written
// at once takes minutes on a line of a few hundred bytes a second, and must not
// pass for silence (N16).
type steadyConn struct {
	net.Conn
	look  time.Duration
	made  time.Time
	moved atomic.Int64 // how long after made bytes moved last
	given atomic.Bool  // a deadline that others set holds
}

// SetDeadline implements net.Conn.
func (c *steadyConn) SetDeadline(t time.Time) error {
	c.given.Store(!t.IsZero())
	return c.Conn.SetDeadline(t)
}

// SetWriteDeadline implements net.Conn. TLS sets one for its last word.
func (c *steadyConn) SetWriteDeadline(t time.Time) error {
	c.given.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

// Read implements net.Conn.
func (c *steadyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.moved.Store(int64(time.Since(c.made)))
	}
	return n, err
}

// looks is how often within the idle time a write is looked at: so much later than
// said may silence be noticed.
const looks = 6

// Write ends with an error when nothing was taken within so many looks; else it
// goes on where it was.
func (c *steadyConn) Write(p []byte) (n int, err error) {
	if c.given.Load() {
		return c.Conn.Write(p)
	}
	for silent := 0; silent < looks; {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.look)); err != nil {
			return n, err
		}
		taken, err := c.Conn.Write(p[n:])
		n += taken
		if taken > 0 {
			c.moved.Store(int64(time.Since(c.made)))
			silent = 0
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || c.given.Load() {
			return n, err
		}
		if taken == 0 {
			silent++
		}
	}
	return n, errStalled
}

// quiet is the time since bytes moved.
func (c *steadyConn) quiet() time.Duration {
	return time.Since(c.made) - time.Duration(c.moved.Load())
}

// watch ends a request in which no byte moves for the time idle.
type watch struct {
	idle time.Duration
	end  func()
	dog  *time.Timer
	conn atomic.Pointer[steadyConn] // that carries the request, nil where none is known
}

// start begins to watch. Whoever sees a byte move resets the timer.
func (w *watch) start() *time.Timer {
	w.dog = time.AfterFunc(1<<62, func() {
		if conn := w.conn.Load(); conn != nil && conn.quiet() < w.idle {
			w.dog.Reset(w.idle - conn.quiet())
			return
		}
		w.end()
	})
	w.dog.Reset(w.idle)
	return w.dog
}

// connection returns a context whose request tells its connection. One of HTTP/2
// is shared with other requests, and says nothing of this one.
func (w *watch) connection(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn
		if secure, ok := conn.(*tls.Conn); ok {
			if secure.ConnectionState().NegotiatedProtocol == "h2" {
				return
			}
			conn = secure.NetConn()
		}
		if carrier, ok := conn.(*steadyConn); ok {
			w.conn.Store(carrier)
		}
	}})
}
