package delay

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// echo answers each byte with one, and then what it reads with as much.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func through(t *testing.T, line Line) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- line.Serve(ctx, listener, echo(t)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func between(t *testing.T, what string, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("%s took %v, want %v to %v", what, took, least, most)
	}
}

func TestRoundTrip(t *testing.T) {
	conn, err := net.Dial("tcp", through(t, Line{RoundTrip: 60 * time.Millisecond, BytesPerSecond: 10 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i, least := range []time.Duration{120 * time.Millisecond, 60 * time.Millisecond} {
		began := time.Now()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		between(t, []string{"connecting and a byte", "a byte"}[i], time.Since(began), least*2/3, least+5*time.Second)
	}
}

// One connection fills the line in spite of its length, and two do not get more.
func TestBandwidth(t *testing.T) {
	const size, rate = 2 << 20, 8 << 20
	for _, connections := range []int{1, 2} {
		host := through(t, Line{RoundTrip: 100 * time.Millisecond, BytesPerSecond: rate})
		began := time.Now()
		var running sync.WaitGroup
		for range connections {
			running.Go(func() {
				conn, err := net.Dial("tcp", host)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				go func() { _, _ = conn.Write(make([]byte, size)) }()
				if _, err := io.ReadFull(conn, make([]byte, size)); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		ideal := 200*time.Millisecond + time.Duration(connections)*size*time.Second/rate
		between(t, "sending", time.Since(began), ideal*4/5, 4*ideal)
	}
}
