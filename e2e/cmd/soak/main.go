// Command soak is "make soak": pulls and pushes for a while, disturbed in all ways,
// and proves that nothing is lost.
//
//	SECONDS=600 SEED=1 LOOPS=0 LOG=FILE soak DIRECTORY-OF-BINARIES
//
// SEED is taken from the clock where it is not given, and printed. A loss names the
// seed of its loop: SEED=n LOOPS=1 repeats that loop. The exit status is 1 when
// something was lost. FILE gets a line for a run that came to its end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"ferry/e2e/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	if len(args) != 1 {
		return errors.New("want the directory of the binaries")
	}
	opts := soak.Options{Binaries: args[0], Out: out}
	var seconds uint64
	var loops uint64
	for _, setting := range []struct {
		name     string
		value    *uint64
		standard uint64
	}{{"SECONDS", &seconds, 600}, {"LOOPS", &loops, 0}, {"SEED", &opts.Seed, uint64(time.Now().Unix())}} {
		*setting.value = setting.standard
		if text := os.Getenv(setting.name); text != "" {
			if *setting.value, err = strconv.ParseUint(text, 10, 63); err != nil {
				return fmt.Errorf("%s is %q, want a number", setting.name, text)
			}
		}
	}
	if opts.Seed == 0 {
		return errors.New("SEED is 0, which disturbs nothing")
	}
	opts.Duration, opts.Loops = time.Duration(seconds)*time.Second, int(loops)
	if opts.Dir, err = os.MkdirTemp("", "ferry-soak-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(opts.Dir)) }()
	fmt.Fprintf(out, "seed %d, %d seconds\n", opts.Seed, seconds)
	began := time.Now()
	result, err := soak.Run(ctx, opts)
	if result != nil {
		line := fmt.Sprintf("%.0f s: %v, seed %d\n", time.Since(began).Seconds(), result, opts.Seed)
		_, _ = io.WriteString(out, line)
		if err == nil {
			err = note(os.Getenv("LOG"), line)
		}
	}
	switch {
	case errors.Is(err, context.Canceled) && len(result.Losses) == 0:
		return nil // somebody has seen enough
	case err != nil:
		return err
	case len(result.Losses) > 0:
		return fmt.Errorf("%d losses", len(result.Losses))
	}
	return nil
}

// note appends a line to the log, if there is one.
func note(path, line string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
