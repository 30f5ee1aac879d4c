package measure

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Usage is what one process used from its start to its end.
type Usage struct {
	Took time.Duration
	// CPU is the time on processors, in the program and in the kernel for it.
	CPU time.Duration
	// Peak is the largest resident set, in bytes.
	Peak int64
	// Read is how many bytes came from a disk; what the kernel had in memory is
	// not among them.
	Read int64
	// Written is how many bytes the process gave to file systems that lie on
	// a disk, those of files that it removed again included; whole pages. Direct
	// I/O counts like any other.
	Written int64
}

// Of reads the usage of a process that has ended.
func Of(state *os.ProcessState, took time.Duration) Usage {
	used := state.SysUsage().(*syscall.Rusage)
	return Usage{
		Took: took, CPU: state.UserTime() + state.SystemTime(), Peak: used.Maxrss << 10,
		Read: used.Inblock * 512, Written: used.Oublock * 512,
	}
}

// Runner runs programs, each below a small process of its own.
//
// A child inherits the peak of the process that starts it: it shares that
// process's memory until exec, and Linux keeps the mark. A test that has a
// registry inside would find its own memory in every figure.
type Runner struct{ once string }

// NewRunner builds the small program in dir, which the Runner keeps using.
func NewRunner(dir string) (Runner, error) {
	once := filepath.Join(dir, "once")
	build := exec.Command("go", "build", "-o", once, "ferry/e2e/measure/once")
	if out, err := build.CombinedOutput(); err != nil {
		return Runner{}, fmt.Errorf("building once: %w\n%s", err, out)
	}
	return Runner{once}, nil
}

// Run runs cmd and returns what it used, also when it fails.
func (r Runner) Run(cmd *exec.Cmd) (Usage, error) {
	file, err := os.CreateTemp(filepath.Dir(r.once), "usage-")
	if err != nil {
		return Usage{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	args := append([]string{r.once, file.Name(), cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Args = r.once, args
	runErr := cmd.Run()
	var used Usage
	if err := json.NewDecoder(file).Decode(&used); err != nil {
		return used, fmt.Errorf("usage of %s: %w (%w)", args[2], err, runErr)
	}
	return used, runErr
}
