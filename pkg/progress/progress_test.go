package progress

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0:               "0 B",
		1023:            "1023 B",
		1024:            "1.0 KiB",
		1536:            "1.5 KiB",
		1<<20 - 1:       "1.0 MiB",
		3 << 30:         "3.0 GiB",
		1<<63 - 1:       "8.0 EiB",
		-5 * (1 << 20):  "-5.0 MiB",
		13 * (1 << 40):  "13.0 TiB",
		999 * (1 << 50): "999.0 PiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

// A run as people see it in a log file: a line each 10 seconds, and the last.
func TestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(Plain, &out, "ferry-fetch")
		d.Phase("downloading")
		d.SetTotal(100<<20, 4)
		time.Sleep(300 * time.Millisecond) // never at the instant of a tick
		for i := range 25 {
			time.Sleep(time.Second)
			d.AddBytes(2 << 20)
			if i%10 == 0 {
				d.AddImages(1)
			}
		}
		d.Done()
		d.Done()
		want := `ferry-fetch: downloading: 18 %, 18.0 MiB of 100.0 MiB, 1 of 4 images, 1.8 MiB/s, 46s left
ferry-fetch: downloading: 38 %, 38.0 MiB of 100.0 MiB, 2 of 4 images, 1.9 MiB/s, 33s left
ferry-fetch: downloading: 50 %, 50.0 MiB of 100.0 MiB, 3 of 4 images, 2.0 MiB/s, in 25s
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(JSON, &out, "ferry-pack")
		d.Phase("packing")
		time.Sleep(1500 * time.Millisecond)
		d.SetTotal(1000, 2)
		d.AddBytes(500)
		time.Sleep(time.Second)
		d.AddBytes(500)
		d.AddImages(2)
		d.Done()
		want := `{"event":"progress","program":"ferry-pack","phase":"packing","bytes":0,"totalBytes":0,"images":0,"totalImages":0,"bytesPerSecond":0,"elapsedSeconds":1,"done":false}
{"event":"progress","program":"ferry-pack","phase":"packing","bytes":500,"totalBytes":1000,"images":0,"totalImages":2,"bytesPerSecond":47,"elapsedSeconds":2,"secondsLeft":11,"percent":50,"done":false}
{"event":"progress","program":"ferry-pack","phase":"packing","bytes":1000,"totalBytes":1000,"images":2,"totalImages":2,"bytesPerSecond":400,"elapsedSeconds":2.5,"secondsLeft":0,"percent":100,"done":true}
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}

// Lines of others stay whole beside the bar, before and after it too, and the
// bar leaves its last state as text.
func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(Bar, &out, "ferry-fetch")
		write(t, d, "before\n")
		d.Phase("downloading")
		d.SetTotal(4<<20, 2)
		d.AddBytes(1 << 20)
		time.Sleep(time.Second)
		write(t, d, "between\n")
		time.Sleep(time.Second)
		d.AddBytes(3 << 20)
		d.AddImages(2)
		d.Done()
		write(t, d, "after\n")
		drawn := out.String()
		for _, want := range []string{
			"before\n", "between\n",
			"downloading: 25 %, 1.0 MiB of 4.0 MiB, 0 of 2 images",
			"ferry-fetch: downloading: 100 %, 4.0 MiB of 4.0 MiB, 2 of 2 images, 2.0 MiB/s, in 2s\nafter\n",
		} {
			if !strings.Contains(drawn, want) {
				t.Errorf("%q is not in:\n%q", want, drawn)
			}
		}
		if strings.Count(drawn, "100 %") != 1 {
			t.Errorf("100 %% is shown before the end:\n%q", drawn)
		}
	})
}

// A terminal that goes away takes the bar with it, not the run.
func TestBarOnBrokenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Bar, brokenWriter{}, "ferry-fetch")
		d.AddBytes(1)
		time.Sleep(time.Second)
		if _, err := d.Write([]byte("x\n")); err == nil {
			t.Error("the failure of the stream is hidden")
		}
		d.AddBytes(1)
		d.Done()
	})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if n, err := io.WriteString(w, s); n != len(s) || err != nil {
		t.Errorf("writing %q: %d, %v", s, n, err)
	}
}

func TestSilence(t *testing.T) {
	for _, mode := range []Mode{Bar, Plain, JSON, Off} {
		var out bytes.Buffer
		d := New(mode, &out, "ferry-select")
		d.Done()
		d.Phase("too late")
		d.Done()
		if out.Len() > 0 {
			t.Errorf("%s: a run that reported nothing in time shows %q", mode, &out)
		}
	}
	var out bytes.Buffer
	d := New(Off, &out, "ferry-select")
	d.AddBytes(1)
	write(t, d, "log\n")
	d.Done()
	if out.String() != "log\n" {
		t.Errorf("mode none shows %q", &out)
	}
}

// Meant for the race detector: everything at once.
func TestConcurrent(t *testing.T) {
	for _, mode := range []Mode{Bar, Plain, JSON, Off} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			d := New(mode, &out, "ferry-fetch")
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for range 200 {
						d.SetTotal(1600, 1600)
						d.AddBytes(1)
						d.AddImages(1)
						d.Phase("working")
						time.Sleep(100 * time.Millisecond)
					}
					_, _ = d.Write([]byte("log\n"))
				})
			}
			workers.Wait()
			d.Done()
			if got := strings.Count(out.String(), "log\n"); got != 8 {
				t.Errorf("%s: %d of 8 log lines are there", mode, got)
			}
			if got := d.meter.read(time.Now(), true); got.bytes != 1600 || got.images != 1600 || got.percent != 100 {
				t.Errorf("%s: %+v", mode, got)
			}
		})
	}
}

func TestReader(t *testing.T) {
	var d Display
	d.out = io.Discard
	text, err := io.ReadAll(Reader(iotest.OneByteReader(strings.NewReader("hello")), &d))
	if string(text) != "hello" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	if got := d.meter.bytes.Load(); got != 5 {
		t.Errorf("%d bytes reported", got)
	}
	if _, err := io.ReadAll(Reader(iotest.ErrReader(io.ErrUnexpectedEOF), None())); err != io.ErrUnexpectedEOF {
		t.Errorf("the reader's error became %v", err)
	}
}

// Whatever is reported, in whatever order: the percentage does not fall, stays
// below 100 until the end, and every event is one line of JSON.
func FuzzPercent(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 100, 1, 50, 0, 200, 1, 50, 1, 50, 1, 50}) // the total grows at half time
	f.Add([]byte{2, 3, 3, 3, 0, 255, 1, 255, 1, 1})           // images first, bytes later
	f.Add([]byte{1, 200, 0, 10, 0, 0, 4, 4, 0, 20})           // more than announced
	f.Add(bytes.Repeat([]byte{46, 255}, 600))                 // more than 63 bits can tell
	f.Fuzz(func(t *testing.T, script []byte) {
		var m meter
		now := time.Unix(0, 0)
		m.start(now)
		highest := unknown
		for i := 0; i+1 < len(script); i += 2 {
			n := int64(script[i+1])
			switch script[i] % 5 {
			case 0:
				m.totalBytes.Store(n << (script[i] % 50))
			case 1:
				m.add(n << (script[i] % 50))
			case 2:
				m.totalImages.Store(n)
			case 3:
				m.images.Add(n)
			case 4:
				now = now.Add(time.Duration(n) * time.Millisecond)
			}
			highest = checkState(t, m.read(now, false), highest, 99)
		}
		checkState(t, m.read(now, true), highest, 100)
	})
}

func checkState(t *testing.T, s state, atLeast, atMost int) int {
	t.Helper()
	if s.percent < atLeast || s.percent > atMost {
		t.Fatalf("percent is %d after %d, at most %d may be shown: %+v", s.percent, atLeast, atMost, s)
	}
	if s.bytes < 0 || s.rate < 0 || s.secondsLeft < unknown {
		t.Fatalf("negative figures: %+v", s)
	}
	text := s.event("p")
	if bytes.IndexByte(text, '\n') != len(text)-1 || !json.Valid(text) {
		t.Fatalf("event %q", text)
	}
	return s.percent
}

// What begins anew is reported once: a percentage never runs backwards.
func TestMark(t *testing.T) {
	var told []int64
	mark := &Mark{Tracker: bytesOf(func(n int64) { told = append(told, n) })}
	for _, at := range []int64{0, 10, 4, 10, 12, 0, 15} {
		mark.At(at)
	}
	if diff := cmp.Diff([]int64{10, 2, 3}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// bytesOf is a tracker that is told of bytes alone.
type bytesOf func(int64)

func (f bytesOf) AddBytes(n int64)      { f(n) }
func (f bytesOf) AddImages(int64)       {}
func (f bytesOf) SetTotal(int64, int64) {}
func (f bytesOf) Phase(string)          {}
