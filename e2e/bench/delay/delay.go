// Package delay is a TCP proxy that stands for a long line: what passes arrives
// later, and no more of it than the line carries, whoever shares it.
package delay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Line is a line between clients and a server.
type Line struct {
	// RoundTrip is the time there and back. It limits nothing that is on its
	// way: as much as the line carries in that time is in flight.
	RoundTrip time.Duration
	// BytesPerSecond is what all connections together get, in each direction.
	BytesPerSecond int64
}

// chunk is small beside what a line carries in a round trip, so that
// connections share it evenly.
const chunk = 16 << 10

// credit is how far the line may have fallen behind before what it did not carry
// is lost: sleeping is not exact to the microsecond, and a real line is.
const credit = 5 * time.Millisecond

// Serve takes connections and passes them to the server at to until ctx ends.
func (l Line) Serve(ctx context.Context, listener net.Listener, to string) error {
	up, down := &direction{line: l}, &direction{line: l}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		client, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer client.Close()
			server, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
			if err != nil {
				return // the client sees a cut connection
			}
			defer server.Close()
			// The handshake of a real connection costs a round trip, which
			// that with a proxy beside the client does not.
			time.Sleep(l.RoundTrip)
			var both sync.WaitGroup
			both.Go(func() { up.pass(client, server) })
			both.Go(func() { down.pass(server, client) })
			both.Wait()
		}()
	}
}

// direction is one of the two ways of a line.
type direction struct {
	line Line
	mu   sync.Mutex
	idle time.Time // when the line is free again
}

// depart returns when n bytes more are on the line as a whole.
func (d *direction) depart(n int) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if earliest := time.Now().Add(-credit); d.idle.Before(earliest) {
		d.idle = earliest
	}
	d.idle = d.idle.Add(time.Duration(int64(n) * int64(time.Second) / d.line.BytesPerSecond))
	return d.idle
}

type packet struct {
	data    []byte
	arrives time.Time
}

// pass carries what comes from one end to the other. The reader waits until its
// bytes have departed, so one connection cannot take the line from the others;
// what is in flight waits in the channel.
func (d *direction) pass(from, to net.Conn) {
	latency := d.line.RoundTrip / 2
	inFlight := make(chan packet, 2*int64(latency.Seconds()*float64(d.line.BytesPerSecond))/chunk+256)
	go func() {
		defer close(inFlight)
		for {
			buf := make([]byte, chunk)
			n, err := from.Read(buf)
			if n > 0 {
				departs := d.depart(n)
				time.Sleep(time.Until(departs))
				inFlight <- packet{buf[:n], departs.Add(latency)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range inFlight {
		time.Sleep(time.Until(p.arrives))
		if _, err := to.Write(p.data); err != nil {
			_ = from.Close() // ends the reader
			for range inFlight {
			}
			return
		}
	}
	time.Sleep(latency)
	if tcp, ok := to.(*net.TCPConn); ok {
		if err := tcp.CloseWrite(); err != nil && !errors.Is(err, io.EOF) {
			_ = to.Close()
		}
	}
}
