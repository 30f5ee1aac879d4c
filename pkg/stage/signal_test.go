package stage

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"ferry/pkg/contract"
)

// TestMain lets the test binary be a ferry program: signals and broken pipes
// need a process of their own.
func TestMain(m *testing.M) {
	body, ok := map[string]func(context.Context, *Session) error{
		"waits":    waits,
		"deaf":     deaf,
		"for pipe": forPipe,
		"writes":   writes,
	}[os.Getenv("FERRY_TEST_PROGRAM")]
	if !ok {
		os.Exit(m.Run())
	}
	Main(Command{Name: "select", Reads: []contract.Kind{contract.KindCatalog}, Writes: []contract.Kind{contract.KindSelection}, Run: body})
}

func waits(ctx context.Context, s *Session) error {
	s.Log.Info("ready")
	<-ctx.Done()
	return ctx.Err()
}

// deaf goes on after a signal, until its stdin is closed.
func deaf(_ context.Context, s *Session) error {
	s.Log.Info("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func forPipe(ctx context.Context, s *Session) error {
	s.Log.Info("ready")
	_, err := s.Input(ctx)
	return err
}

// writes waits until its stdin is closed.
func writes(ctx context.Context, s *Session) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return Produce(ctx, s, Product[contract.SelectionSpec]{Make: func(context.Context) (contract.SelectionSpec, error) {
		return contract.SelectionSpec{Vendor: "generic"}, nil
	}})
}

// program is a child process, whose stdin stays open.
type program struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr *bufio.Reader
}

func start(t *testing.T, name string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Cmd: exec.CommandContext(t.Context(), self)}
	p.Env = append(os.Environ(), "FERRY_TEST_PROGRAM="+name)
	p.stdin, err = p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout, err = p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stderr = bufio.NewReader(stderr)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// until reads stderr up to a line with text.
func (p *program) until(t *testing.T, text string) {
	t.Helper()
	for {
		line, err := p.stderr.ReadString('\n')
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			t.Fatalf("no %q before %v", text, err)
		}
	}
}

// end returns the rest of stderr and how the process ended.
func (p *program) end(t *testing.T) (string, syscall.WaitStatus) {
	t.Helper()
	rest, err := io.ReadAll(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) {
		t.Fatalf("it ended with %v", err)
	}
	return string(rest), exit.Sys().(syscall.WaitStatus)
}

func (p *program) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// S9 row 84.
func TestSignals(t *testing.T) {
	for _, name := range []string{"waits", "for pipe"} {
		for s, code := range map[os.Signal]int{os.Interrupt: 130, syscall.SIGTERM: 143} {
			t.Run(name+" "+s.String(), func(t *testing.T) {
				p := start(t, name)
				p.until(t, "ready")
				p.signal(t, s)
				stderr, status := p.end(t)
				if status.ExitStatus() != code {
					t.Errorf("exit status %d, want %d", status.ExitStatus(), code)
				}
				if !strings.Contains(stderr, "error: stopped by signal: "+s.String()) || !strings.Contains(stderr, "hint: run the same command again") {
					t.Errorf("stderr: %s", stderr)
				}
			})
		}
	}
}

// S2.1.4.
func TestSecondSignalKills(t *testing.T) {
	p := start(t, "deaf")
	p.until(t, "ready")
	p.signal(t, os.Interrupt)
	p.until(t, "a second signal ends at once")
	p.signal(t, os.Interrupt)
	if _, status := p.end(t); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with status %v", status)
	}
}

// A reader that is gone is an error with words, not a silent death.
func TestBrokenPipe(t *testing.T) {
	p := start(t, "writes")
	if err := p.stdout.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	stderr, status := p.end(t)
	if status.ExitStatus() != 74 || !strings.Contains(stderr, "standard output: write") {
		t.Errorf("exit status %d, signal %v, stderr: %s", status.ExitStatus(), status.Signal(), stderr)
	}
}
