// Command bench measures ferry, the tools that others carry images with, and a
// program that does the least, in one run on one machine:
//
//	bench chain     everything against local registries
//	bench latency   the same over a long line
//	bench scale     how the stages grow with the number of images
//	bench report    docs/performance.md out of what runs have written
//
// The other subcommands are the processes that it starts.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"ferry/e2e/bench"
	"ferry/e2e/bench/delay"
	"ferry/e2e/bench/limit"
	"ferry/e2e/bench/origin"
	"ferry/e2e/bench/results"
	"ferry/e2e/scale"

	"github.com/alecthomas/kong"
)

type commands struct {
	Chain   chain   `cmd:"" help:"Carry editions from one local registry to another."`
	Latency latency `cmd:"" help:"Carry an edition over a long line."`
	Scale   growth  `cmd:"" help:"Let the number of images grow."`
	Report  report  `cmd:"" help:"Write docs/performance.md out of the results of runs."`

	Serve serve `cmd:"" hidden:""`
	Delay line  `cmd:"" hidden:""`
	Limit struct {
		Get limit.Get `cmd:""`
		Put limit.Put `cmd:""`
	} `cmd:"" hidden:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed := kong.Parse(&commands{}, kong.Name("bench"), kong.BindTo(ctx, (*context.Context)(nil)))
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// common is what all modes are given.
type common struct {
	Dir      string        `help:"Keep everything below this directory (default a temporary one)."`
	Bin      string        `default:"bin" help:"Where ferry's programs are."`
	Rounds   int           `default:"3" help:"So many turns for each program; the median counts."`
	JSON     string        `help:"Write what was measured to this file."`
	Patience time.Duration `default:"15m" help:"Give a program up after so long."`
	Quick    bool          `help:"Carry next to nothing, to see that all of it works."`
}

// measure runs a mode and shows what it found.
func (c *common) measure(ctx context.Context, opts bench.Options) (err error) {
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o777); err != nil {
			return err
		}
	}
	if opts.Dir, err = os.MkdirTemp(c.Dir, "ferry-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(opts.Dir)) }()
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return err
	}
	if opts.Self, err = os.Executable(); err != nil {
		return err
	}
	if opts.Bin, err = filepath.Abs(c.Bin); err != nil {
		return err
	}
	opts.Rounds, opts.Patience, opts.Quick, opts.Log = c.Rounds, c.Patience, c.Quick, os.Stderr
	run, err := bench.Run(ctx, opts)
	if err != nil {
		return err
	}
	goals := run.Goals()
	fmt.Printf("%s\n%s\n", run.Tables(), results.GoalTable(goals))
	if c.JSON != "" {
		if err := run.Save(c.JSON); err != nil {
			return err
		}
	}
	return missed(run, goals)
}

// missed fails a run in which ferry failed, or missed what depends on no machine.
func missed(run *results.Run, goals []results.Goal) error {
	var errs []error
	for _, failure := range run.FerryFailures() {
		errs = append(errs, errors.New(failure))
	}
	for _, g := range goals {
		if g.Counted && !g.Met() && !run.Quick {
			errs = append(errs, fmt.Errorf("%s: %s: %.4g, more than %.4g", g.Edition, g.Text, g.Got, g.Most))
		}
	}
	return errors.Join(errs...)
}

type chain struct {
	common
	Editions    []string `default:"list,small,deckhouse" enum:"list,small,deckhouse" help:"What to carry."`
	Megabytes   int64    `default:"2000" help:"The size of the edition list."`
	Blobs       int      `default:"50000" help:"The layers of the edition small."`
	Tools       []string `default:"all" help:"Tools to compare with; all that are installed, or none."`
	Connections []int    `default:"1,2,4,8,16,32" help:"The numbers that the limit is looked for at."`
}

// Run is for kong.
func (c *chain) Run(ctx context.Context) error {
	return c.measure(ctx, bench.Options{Editions: c.Editions, Bytes: c.Megabytes * 1e6, Blobs: c.Blobs, Tools: c.Tools, Connections: c.Connections})
}

type latency struct {
	common
	Megabytes   int64         `default:"500" help:"The size of the edition list."`
	Tools       []string      `default:"none" help:"Tools to compare with; all that are installed, or none."`
	Connections []int         `default:"1,2,4,8,16,32,64" help:"The numbers that the limit is looked for at."`
	RoundTrip   time.Duration `default:"50ms" help:"The length of the line."`
	Rate        int64         `default:"20000000" help:"Its bytes per second, in each direction."`
}

// Run is for kong.
func (c *latency) Run(ctx context.Context) error {
	return c.measure(ctx, bench.Options{
		Editions: []string{"list"}, Bytes: c.Megabytes * 1e6, Tools: c.Tools, Connections: c.Connections,
		Line: &results.Line{RoundTrip: c.RoundTrip, BytesPerSecond: c.Rate},
	})
}

type growth struct {
	Dir  string `help:"Keep everything below this directory (default a temporary one)."`
	Bin  string `default:"bin" help:"Where ferry's programs are."`
	To   int    `default:"100000" help:"The largest number of images."`
	JSON string `help:"Write what was measured to this file."`
}

// Run is for kong.
func (g *growth) Run(ctx context.Context) error {
	bin, err := filepath.Abs(g.Bin)
	if err != nil {
		return err
	}
	sizes := slices.DeleteFunc(scale.Sizes(), func(n int) bool { return n > g.To })
	found, err := scale.Run(ctx, scale.Options{Binaries: bin, Dir: g.Dir, Sizes: sizes, Log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}})
	if err != nil {
		return err
	}
	machine, err := bench.ThisMachine(cmp.Or(g.Dir, os.TempDir()))
	if err != nil {
		return err
	}
	run := &results.Run{Mode: "scale", Rounds: 1, Machine: machine, Scale: &found}
	fmt.Printf("%s\n%s\n", run.Tables(), results.GoalTable(run.Goals()))
	if g.JSON == "" {
		return nil
	}
	return run.Save(g.JSON)
}

type report struct {
	Results []string `arg:"" type:"existingfile" help:"Files that --json has written."`
	Output  string   `short:"o" default:"docs/performance.md" help:"The page."`
}

// Run is for kong.
func (r *report) Run() error {
	var runs []*results.Run
	for _, path := range r.Results {
		run, err := results.Load(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		runs = append(runs, run)
	}
	page, err := results.Page(runs)
	if err != nil {
		return err
	}
	return os.WriteFile(r.Output, []byte(page), 0o644)
}

type serve struct {
	Dir string `required:""`
	Log string `required:""`
}

// Run is for kong.
func (s *serve) Run(ctx context.Context) error {
	log, err := os.Create(s.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	return listen(ctx, func(ctx context.Context, listener net.Listener) error {
		return origin.Serve(ctx, s.Dir, listener, log)
	})
}

type line struct {
	To        string        `required:""`
	RoundTrip time.Duration `required:""`
	Rate      int64         `required:""`
}

// Run is for kong.
func (l *line) Run(ctx context.Context) error {
	return listen(ctx, func(ctx context.Context, listener net.Listener) error {
		return delay.Line{RoundTrip: l.RoundTrip, BytesPerSecond: l.Rate}.Serve(ctx, listener, l.To)
	})
}

// listen serves on a free port, which it prints, until standard input ends:
// that happens also when the process that wanted this one was killed.
func listen(ctx context.Context, serve func(context.Context, net.Listener) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		defer stop()
		_, _ = os.Stdin.Read(make([]byte, 1))
	}()
	fmt.Println(listener.Addr())
	return serve(ctx, listener)
}
