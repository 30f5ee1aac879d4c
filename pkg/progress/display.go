package progress

import (
	"io"
	"sync"
	"time"
)

// Mode says how a [Display] shows progress.
type Mode string

// The modes.
const (
	Bar   Mode = "bar"   // a bar that is redrawn; for terminals
	Plain Mode = "plain" // a line every 10 seconds; for log files
	JSON  Mode = "json"  // a JSON object a second; for programs
	Off   Mode = "none"  // nothing
)

// Display is a Tracker that shows what it is told. It stays silent until it is
// told something. It is safe for concurrent use.
type Display struct {
	meter  meter
	render func(state) []byte
	view   view // nil shows nothing
	begin  sync.Once

	mu      sync.Mutex // guards what follows
	out     io.Writer
	running bool
	done    bool
}

// view is one way of showing progress, between its start and its stop.
type view interface {
	start(*Display)
	// stop returns when nothing of the view writes any more.
	stop()
	// write puts whole lines onto the stream while the view runs.
	write(lines []byte) (int, error)
}

// New returns a Display that writes to out. program, such as "ferry-fetch",
// begins its lines, for several stages of a pipe share one stderr.
func New(mode Mode, out io.Writer, program string) *Display {
	d := &Display{out: out}
	d.render = func(s state) []byte {
		if s.done && s.bytes == 0 && s.images == 0 {
			return nil // a sum of nothing tells nobody anything
		}
		return []byte(program + ": " + s.line() + "\n")
	}
	switch mode {
	case Bar:
		d.view = &barView{out: out, program: program}
	case Plain:
		d.view = &lineView{out: out, interval: 10 * time.Second}
	case JSON:
		d.render = func(s state) []byte { return s.event(program) }
		d.view = &lineView{out: out, interval: time.Second}
	}
	return d
}

// SetTotal implements Tracker.
func (d *Display) SetTotal(bytes, images int64) {
	d.started()
	d.meter.totalBytes.Store(bytes)
	d.meter.totalImages.Store(images)
}

// AddBytes implements Tracker.
func (d *Display) AddBytes(n int64) {
	d.started()
	d.meter.add(n)
}

// AddImages implements Tracker.
func (d *Display) AddImages(n int64) {
	d.started()
	d.meter.images.Add(n)
}

// Phase implements Tracker.
func (d *Display) Phase(name string) {
	d.started()
	d.meter.phase.Store(&name)
}

func (d *Display) started() {
	d.begin.Do(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.meter.start(time.Now())
		if d.view != nil && !d.done {
			d.running = true
			d.view.start(d)
		}
	})
}

// Write puts p, whole lines that end in a newline, onto the stream without
// disturbing what is shown there.
func (d *Display) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		return d.view.write(p)
	}
	return d.out.Write(p)
}

// Done shows the last state once, so that short runs show something too, and
// ends the display. Write still works. It is safe to call twice.
func (d *Display) Done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = true
	if !d.running {
		return
	}
	d.running = false
	d.view.stop()
	// Nobody can be told of a stderr that is gone.
	_, _ = d.out.Write(d.render(d.meter.read(time.Now(), true)))
}

func (d *Display) state() state { return d.meter.read(time.Now(), false) }

// lineView writes a line in each interval.
type lineView struct {
	out      io.Writer
	interval time.Duration
	mu       sync.Mutex // one line at a time
	end      chan struct{}
	ended    sync.WaitGroup
}

func (v *lineView) start(d *Display) {
	v.end = make(chan struct{})
	v.ended.Go(func() {
		ticker := time.NewTicker(v.interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_, _ = v.write(d.render(d.state())) // as in Done
			case <-v.end:
				return
			}
		}
	})
}

func (v *lineView) stop() {
	close(v.end)
	v.ended.Wait()
}

func (v *lineView) write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.out.Write(p)
}
