package scale

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"ferry/e2e/measure"
	"ferry/pkg/registry/registrytest"
)

// Options say what to run.
type Options struct {
	// Binaries is the directory of ferry-discover, ferry-select and
	// ferry-fetch.
	Binaries string
	// Dir is a directory to work in; what a run leaves in it is removed.
	Dir string
	// Sizes are numbers of images, growing, hundreds each and more than one
	// hundred; nil is 1,000 to 100,000.
	Sizes []int
	// Repeat is how often a program is run that is over within a second, so
	// that others' work on the machine does not count; 0 is 5.
	Repeat int
	// Log receives a line for each run of a program; nil is silence.
	Log func(format string, args ...any)
}

// Sizes are the numbers of images of a full run.
func Sizes() []int { return []int{1_000, 3_000, 10_000, 30_000, 100_000} }

// Run measures all stages over all sizes.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Sizes == nil {
		o.Sizes = Sizes()
	}
	o.Repeat = cmp.Or(max(0, o.Repeat), 5)
	if !slices.IsSorted(o.Sizes) || len(o.Sizes) < 2 || o.Sizes[0] <= perGroup ||
		slices.ContainsFunc(o.Sizes, func(n int) bool { return n%perGroup != 0 }) {
		return Result{}, fmt.Errorf("the sizes %v are not growing hundreds above %d", o.Sizes, perGroup)
	}
	dir, err := os.MkdirTemp(o.Dir, "scale-")
	if err != nil {
		return Result{}, err
	}
	// All stores go at the end: a file system that gives the places of removed
	// files away again takes its time for each, which is no cost of ours.
	defer os.RemoveAll(dir)
	runner, err := measure.NewRunner(dir)
	if err != nil {
		return Result{}, err
	}
	var result Result
	for _, s := range shapes() {
		source, err := measureSource(ctx, bench{Options: o, runner: runner, dir: dir}, s)
		if err != nil {
			return Result{}, fmt.Errorf("%s: %w", s.name, err)
		}
		result.Sources = append(result.Sources, source)
	}
	return result, nil
}

func measureSource(ctx context.Context, b bench, s shape) (Source, error) {
	source := Source{Name: s.name}
	for i, n := range append([]int{perGroup}, b.Sizes...) {
		stages, err := b.chain(ctx, s, n)
		if err != nil {
			return Source{}, fmt.Errorf("%d images: %w", n, err)
		}
		if i == 0 {
			source.Stages = stages
			continue
		}
		for j := range stages {
			source.Stages[j].Points = append(source.Stages[j].Points, stages[j].Base)
		}
	}
	for i := range source.Stages {
		stage := &source.Stages[i]
		stage.Time = stage.fit(func(p Point) float64 { return p.CPU })
		stage.Memory = stage.fit(func(p Point) float64 { return float64(p.Peak) })
	}
	return source, nil
}

func (s *Stage) fit(cost func(Point) float64) Fit {
	samples := make([]sample, len(s.Points))
	for i, p := range s.Points {
		samples[i] = sample{p.Images, cost(p)}
	}
	return fit(sample{s.Base.Images, cost(s.Base)}, samples)
}

// bench runs programs.
type bench struct {
	Options
	runner measure.Runner
	dir    string
}

// chain runs all stages over a source of n images, each on the document of the one
// before it.
func (b bench) chain(ctx context.Context, s shape, n int) ([]Stage, error) {
	reg := registrytest.New(registrytest.Q21NoReferrers())
	host, stop, err := reg.Listen("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer stop()
	stdin, err := s.fill(reg, host, n)
	if err != nil {
		return nil, err
	}
	var stages []Stage
	for _, stage := range []struct {
		name, program string
		args          []string
		stdin         []byte
	}{
		{"discover", "ferry-discover", s.discover(host), stdin},
		{"select", "ferry-select", append([]string{"-i", b.document("discover")}, s.selection...), nil},
		{"plan", "ferry-fetch", []string{"-i", b.document("select"), "--plan", "--insecure"}, nil},
	} {
		p, err := b.best(func() (Point, error) {
			reg.Reset()
			args := append(slices.Clip(stage.args), "-o", b.document(stage.name))
			if stage.name == "plan" {
				store, err := os.MkdirTemp(b.dir, "store-")
				if err != nil {
					return Point{}, err
				}
				args = append(args, "--store", store)
			}
			return b.once(ctx, stage.program, args, stage.stdin)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", stage.program, err)
		}
		info, err := os.Stat(b.document(stage.name))
		if err != nil {
			return nil, err
		}
		p.Images, p.Document = n, info.Size()
		b.Log("%-8s %-8s %7d images  %7.2f s wall  %7.2f s CPU  %6.1f MiB peak  %6.1f MB document",
			s.name, stage.name, n, p.Wall, p.CPU, float64(p.Peak)/(1<<20), float64(p.Document)/1e6)
		stages = append(stages, Stage{Name: stage.name, Base: p})
	}
	return stages, nil
}

func (b bench) document(stage string) string { return filepath.Join(b.dir, stage+".json") }

// best repeats a run that is over soon, and takes the least of each figure: what
// is more was somebody else's.
func (b bench) best(run func() (Point, error)) (Point, error) {
	// Seconds of CPU. With one, the largest list was selected once, and compared with
	// the best of several smaller ones.
	const enough = 5.0
	var least Point
	for i, spent := 0, 0.0; i < b.Repeat && spent < enough; i++ {
		p, err := run()
		if err != nil {
			return Point{}, err
		}
		spent += p.CPU
		if i == 0 {
			least = p
		}
		least.Wall, least.CPU, least.Peak = min(least.Wall, p.Wall), min(least.CPU, p.CPU), min(least.Peak, p.Peak)
	}
	return least, nil
}

// once runs a program with an environment that holds nothing of the machine's.
func (b bench) once(ctx context.Context, program string, args []string, stdin []byte) (Point, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.Binaries, program), args...)
	// The program is a child of the small one: whoever ends the run ends both.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = []string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH")}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	used, err := b.runner.Run(cmd)
	if err != nil {
		return Point{}, fmt.Errorf("%w\n%.2000s", cmp.Or(ctx.Err(), err), stderr.Bytes())
	}
	// What the small program in between used is counted too, and taken off with
	// the base.
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return Point{Wall: used.Took.Seconds(), CPU: cpu.Seconds(), Peak: used.Peak}, nil
}
