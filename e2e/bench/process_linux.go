package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"ferry/e2e/bench/origin"
	"ferry/e2e/bench/results"
	"ferry/e2e/measure"
)

// server is a registry in a process of its own, with a line before it where the
// run has one.
type server struct {
	host  string // whom the programs ask
	own   string // the registry itself
	stops []func()
}

func (s *server) stop() {
	for _, stop := range s.stops {
		stop()
	}
}

// serve starts a registry on dir.
func (b *bench) serve(ctx context.Context, dir string) (*server, error) {
	own, stop, err := b.start(ctx, "serve", "--dir", dir, "--log", dir+".log")
	if err != nil {
		return nil, err
	}
	s := &server{host: own, own: own, stops: []func(){stop}}
	if b.Line == nil {
		return s, nil
	}
	s.host, stop, err = b.start(ctx, "delay", "--to", own, "--round-trip", b.Line.RoundTrip.String(), "--rate", fmt.Sprint(b.Line.BytesPerSecond))
	if err != nil {
		s.stop()
		return nil, err
	}
	s.stops = append(s.stops, stop)
	return s, nil
}

// start starts this program as a server, which says where it listens, and ends
// when its standard input does: also when this process is killed.
func (b *bench) start(ctx context.Context, args ...string) (host string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, b.Self, args...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = stdin.Close()
		_ = cmd.Wait() // what it has done is done
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return strings.TrimSpace(line), stop, nil
}

// command is a program to run.
type command struct {
	name string // for people
	path string
	args []string
}

// step is commands that run at the same time, each reading what the one before
// it writes.
type step []command

// place is where a program finds everything.
type place struct {
	source, target string // HOST:PORT
	dir            string // all below is its own
	list           string
}

func (p place) bundle() string  { return p.dir + "/bundle" }
func (p place) scratch() string { return p.dir + "/scratch" }
func (p place) in(name string) string {
	return p.dir + "/scratch/" + name
}

// measured runs steps one after the other. Every program has the same
// environment, with nothing of the machine's but its programs.
func (b *bench) measured(ctx context.Context, p place, registry *server, steps []step) (results.Sample, error) {
	var sample results.Sample
	ctx, cancel := context.WithTimeoutCause(ctx, b.Patience, fmt.Errorf("it took more than %v", b.Patience))
	defer cancel()
	if _, err := origin.Reset(ctx, registry.own); err != nil {
		return sample, err
	}
	if err := b.fillMemory(); err != nil {
		return sample, err
	}
	stop := measure.Watch(p.bundle(), p.scratch())
	for _, s := range steps {
		stages, err := b.pipe(ctx, p, s)
		if err != nil {
			_, _ = stop()
			return sample, err
		}
		took := time.Duration(0)
		for _, stage := range stages {
			took = max(took, stage.Took)
			sample.CPU += stage.CPU
			sample.Peak = max(sample.Peak, stage.Peak)
			sample.Written += stage.Written
			sample.Read += stage.read
			sample.Stages = append(sample.Stages, stage.Stage)
		}
		sample.Took += took
	}
	// Who leaves content in memory is not done yet.
	synced, err := b.sync()
	if err != nil {
		return sample, err
	}
	sample.Took += synced
	if sample.PeakDisk, err = stop(); err != nil {
		return sample, err
	}
	sample.Network, err = origin.Reset(ctx, registry.own)
	return sample, err
}

// fillMemory is memory.fill, but for quick runs.
func (b *bench) fillMemory() error {
	if b.Quick {
		return nil
	}
	return b.memory.fill()
}

// sync takes what the file system has in memory to its disk. A quick run, which
// measures nothing, does without: who shares the disk could make it last.
func (b *bench) sync() (time.Duration, error) {
	if b.Quick {
		return 0, nil
	}
	began := time.Now()
	err := measure.SyncFS(b.Dir)
	return time.Since(began), err
}

// settle is measure.Settle, but for quick runs.
func (b *bench) settle(dirs ...string) error {
	if b.Quick {
		return nil
	}
	return measure.Settle(dirs...)
}

type measuredStage struct {
	results.Stage
	read int64
}

// pipe runs the commands of one step.
func (b *bench) pipe(ctx context.Context, p place, s step) ([]measuredStage, error) {
	stages := make([]measuredStage, len(s))
	errs := make(chan error, len(s))
	var stdin *os.File
	for i, c := range s {
		cmd := b.command(ctx, p, c)
		var stderr tail
		cmd.Stderr = &stderr
		if stdin != nil {
			cmd.Stdin = stdin
		}
		closing := []*os.File{stdin}
		if i < len(s)-1 {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, err
			}
			cmd.Stdout = w
			closing = append(closing, w)
			stdin = r
		}
		go func() {
			used, err := b.runner.Run(cmd)
			for _, f := range closing {
				if f != nil {
					_ = f.Close() // the other end sees the end of the pipe
				}
			}
			stages[i] = measuredStage{results.Stage{Name: c.name, Took: used.Took, CPU: used.CPU, Peak: used.Peak, Written: used.Written}, used.Read}
			if err != nil {
				err = fmt.Errorf("%s: %w: %s", c.name, errors.Join(err, context.Cause(ctx)), stderr.String())
			}
			errs <- err
		}()
	}
	var all []error
	for range s {
		all = append(all, <-errs)
	}
	return stages, errors.Join(all...)
}

func (b *bench) command(ctx context.Context, p place, c command) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Dir = p.scratch()
	cmd.Env = []string{
		"PATH=" + b.Bin + ":" + os.Getenv("PATH"), "HOME=" + p.scratch(), "TMPDIR=" + p.scratch(),
		"SOURCE=" + p.source, "TARGET=" + p.target, "LIST=" + p.list, "BUNDLE=" + p.bundle(), "SCRATCH=" + p.scratch(),
	}
	// A script has children, which must not outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// tail keeps the end of what is written to it.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const most = 2000
	t.buf.Write(p)
	if extra := t.buf.Len() - most; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(t.buf.String()) }
