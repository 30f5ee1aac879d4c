// Package soak pulls and pushes in a loop, through proxies that spoil some of what
// passes, and kills stages at any moment. Whatever happens, the same command run
// again must lead to the same archives and the same target as an undisturbed run.
package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
	"ferry/pkg/registry/wire"
)

// Options say what a soak is made of.
type Options struct {
	// Binaries is the directory of the stages, Dir one for the work, which is
	// the caller's to remove.
	Binaries, Dir string
	// Seed decides all faults and kills: loop n has the seed Seed+n, so that one
	// loop can be repeated alone. It is not 0.
	Seed uint64
	// Duration is when no new loop begins; Loops ends it earlier, where it is
	// not 0.
	Duration time.Duration
	Loops    int
	// Out gets a line for each loop and each loss.
	Out io.Writer
}

// Result is what a soak came to.
type Result struct {
	Loops  int
	Runs   int // of stages
	Kills  int
	Faults Faults
	Losses []string // each with the seed of its loop
}

// String is the summary for people.
func (r *Result) String() string {
	var kinds []string
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", name, r.Faults[name]))
	}
	return fmt.Sprintf("%d loops, %d runs of stages, %d faults (%s), %d kills, %d losses",
		r.Loops, r.Runs, r.Faults.Sum(), strings.Join(kinds, ", "), r.Kills, len(r.Losses))
}

const (
	root = "deckhouse/ee"
	goal = "mirror/dkp"
	// maxTries is how often a stage is run until it must have succeeded: faults
	// get rarer with every try.
	maxTries = 60
)

// soak is a run of Run.
type soak struct {
	opts           Options
	result         Result
	source, target *proxy
	from, to       string // their addresses
	origin         *registrytest.Registry
	want           state
}

// state is what a loop ends with.
type state struct {
	files   map[string]oci.Digest // of the bundle
	tags    map[string]oci.Digest // at the target
	content map[oci.Digest][]string
	receipt string
}

// Run soaks until the time is over.
func Run(ctx context.Context, opts Options) (*Result, error) {
	s := &soak{opts: opts, source: &proxy{}, target: &proxy{}, origin: registrytest.New()}
	for _, side := range []struct {
		p    *proxy
		host *string
	}{{s.source, &s.from}, {s.target, &s.to}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		server := &http.Server{Handler: side.p, ErrorLog: log.New(io.Discard, "", 0)}
		go server.Serve(listener)
		defer server.Close()
		*side.host = listener.Addr().String()
	}
	s.source.begin(s.origin, 0)
	if err := s.fill(ctx); err != nil {
		return nil, err
	}
	var err error
	if s.want, err = s.loop(ctx, 0); err != nil {
		return nil, fmt.Errorf("undisturbed: %w", err)
	}
	s.result.Runs = 0
	began := time.Now()
	for n := 0; ctx.Err() == nil && time.Since(began) < opts.Duration && (opts.Loops == 0 || n < opts.Loops); n++ {
		s.once(ctx, opts.Seed+uint64(n))
	}
	s.result.Faults = Faults{}
	for _, p := range []*proxy{s.source, s.target} {
		for name, n := range p.counted {
			s.result.Faults[name] += n
		}
	}
	return &s.result, context.Cause(ctx)
}

// fill makes the edition that is pulled.
func (s *soak) fill(ctx context.Context) error {
	c, err := wire.New(wire.Options{PlainHTTP: true, Anonymous: true})
	if err != nil {
		return err
	}
	defer c.Close()
	opts := edition.Tiny()
	opts.LayerSize = 16 << 10
	_, err = edition.Write(ctx, c, oci.Repository{Host: s.from, Path: root}, opts)
	return err
}

// once is one loop, and what it lost.
func (s *soak) once(ctx context.Context, seed uint64) {
	kills, runs := s.result.Kills, s.result.Runs
	got, err := s.loop(ctx, seed)
	if ctx.Err() != nil {
		return
	}
	s.result.Loops++
	losses := differences(s.want, got)
	if err != nil {
		losses = []string{err.Error()}
	}
	for _, loss := range losses {
		loss = fmt.Sprintf("SEED=%d LOOPS=1: %s", seed, loss)
		s.result.Losses = append(s.result.Losses, loss)
		fmt.Fprintln(s.opts.Out, "LOSS", loss)
	}
	fmt.Fprintf(s.opts.Out, "seed %d: %d runs of stages, %d of them killed, %d losses\n", seed, s.result.Runs-runs, s.result.Kills-kills, len(losses))
}

// loop is a pull and a push, into directories and a target of its own. Seed 0
// disturbs nothing.
func (s *soak) loop(ctx context.Context, seed uint64) (got state, err error) {
	dir := filepath.Join(s.opts.Dir, "loop") // always the same: an Inventory names it
	if err := os.Mkdir(dir, 0o755); err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	target := registrytest.New()
	s.source.begin(s.origin, seed)
	s.target.begin(target, seed)
	random := rand.New(rand.NewPCG(seed, seed))
	in := func(name string) string { return filepath.Join(dir, name) }
	connection := []string{"--insecure", "--retries=2", "--idle-timeout=500ms"}
	if seed%4 >= 2 { // nothing is repeated but whole stages
		connection[1] = "--retries=0"
	}
	fetch := []string{"fetch", "-i", in("selection.json"), "--store", in("store"), "-o", in("inventory.json")}
	if seed%2 == 0 { // the two ways to write archives
		fetch = append(fetch, "--bundle", in("bundle"))
	}
	for _, stage := range [][]string{
		append([]string{"discover", "deckhouse", "--source", s.from + "/" + root, "-o", in("catalog.json")}, connection...),
		{"select", "-i", in("catalog.json"), "-o", in("selection.json")},
		append(fetch, connection...),
		{"pack", in("bundle"), "-i", in("inventory.json"), "-o", in("packed.json")},
		{"unpack", in("bundle"), "-o", in("unpacked.json")},
		append([]string{"publish", s.to + "/" + goal, "-i", in("unpacked.json"), "-o", in("receipt.json")}, connection...),
	} {
		if err := s.stage(ctx, random, seed != 0, stage); err != nil {
			return got, err
		}
	}
	return stateOf(dir, target)
}

// stage runs a stage until it succeeds.
func (s *soak) stage(ctx context.Context, random *rand.Rand, disturb bool, args []string) error {
	for range maxTries {
		code, stderr, err := s.run(ctx, random, disturb, args)
		switch {
		case err != nil:
			return err
		case code == 0:
			return nil
		case !disturb, !again[code]:
			return fmt.Errorf("ferry-%s ends with %d: %s", args[0], code, lastLines(stderr))
		}
	}
	return fmt.Errorf("ferry-%s does not succeed in %d runs", args[0], maxTries)
}

// again are the statuses of a disturbed stage: what heals, what a registry spoilt,
// and signals; -1 is a kill.
var again = map[int]bool{75: true, 76: true, 143: true, -1: true}

// run runs a stage once. Some runs are killed: after so many requests, or, of a
// stage that makes none, after a while.
func (s *soak) run(ctx context.Context, random *rand.Rand, disturb bool, args []string) (code int, stderr string, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.opts.Binaries, "ferry-"+args[0]), args[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.opts.Dir}
	var said bytes.Buffer
	cmd.Stderr = &said
	s.source.requests.Store(0)
	s.target.requests.Store(0)
	killed, signal := disturb && random.IntN(3) == 0, syscall.SIGKILL
	if random.IntN(2) == 0 {
		signal = syscall.SIGTERM
	}
	requests, after := int64(random.IntN(80)), time.Duration(random.IntN(30))*time.Millisecond
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	s.result.Runs++
	ended := make(chan struct{})
	struck := make(chan bool, 1)
	go func() {
		struck <- killed && s.strike(cmd.Process, signal, ended, requests, after)
	}()
	err = cmd.Wait()
	close(ended)
	if <-struck {
		s.result.Kills++
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, "", err
	}
	return cmd.ProcessState.ExitCode(), said.String(), ctx.Err()
}

// strike signals a process when its moment has come, and reports whether it lived
// so long.
func (s *soak) strike(p *os.Process, signal syscall.Signal, ended <-chan struct{}, requests int64, after time.Duration) bool {
	began := time.Now()
	for {
		select {
		case <-ended:
			return false
		case <-time.After(time.Millisecond):
		}
		made := s.source.requests.Load() + s.target.requests.Load()
		if made > requests || made == 0 && time.Since(began) > after {
			return p.Signal(signal) == nil
		}
	}
}

// stateOf reads what a loop has left.
func stateOf(dir string, target *registrytest.Registry) (state, error) {
	got := state{files: map[string]oci.Digest{}, tags: target.Tags(), content: map[oci.Digest][]string{}}
	entries, err := os.ReadDir(filepath.Join(dir, "bundle"))
	if err != nil {
		return got, err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, "bundle", e.Name()))
		if err != nil {
			return got, err
		}
		got.files[e.Name()] = oci.DigestOf(data)
	}
	text, err := os.ReadFile(filepath.Join(dir, "unpacked.json"))
	if err != nil {
		return got, err
	}
	inventory, err := contract.Decode[contract.InventorySpec](text)
	if err != nil {
		return got, err
	}
	receipt, err := os.ReadFile(filepath.Join(dir, "receipt.json"))
	got.receipt = string(receipt)
	holds(&got, target, &inventory.Spec.Contents)
	return got, err
}

// holds notes what the target has of contents: a digest, and the repositories that
// have it with the right bytes.
func holds(got *state, target *registrytest.Registry, contents *contract.Contents) {
	graph := contents.Graph()
	for _, image := range contents.Images {
		path := strings.TrimSuffix(goal+"/"+image.Path, "/")
		manifests, digests := graph.Closure(image.Digest)
		for _, m := range manifests {
			digests = append(digests, m.Digest)
		}
		for _, digest := range digests {
			if target.Has(path, digest) && oci.DigestOf(target.Content(digest)) == digest && !slices.Contains(got.content[digest], path) {
				got.content[digest] = append(got.content[digest], path)
			}
		}
	}
	for _, paths := range got.content {
		slices.Sort(paths)
	}
}

// differences lists what a loop ended with otherwise than an undisturbed run.
func differences(want, got state) (list []string) {
	compare := func(what string, want, got map[string]string) {
		for name, value := range want {
			if got[name] != value {
				list = append(list, fmt.Sprintf("%s %s is %q, want %q", what, name, got[name], value))
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				list = append(list, fmt.Sprintf("%s %s is there, which nobody wants", what, name))
			}
		}
	}
	compare("the bundle's", texts(want.files), texts(got.files))
	compare("the tag", texts(want.tags), texts(got.tags))
	compare("the content", places(want.content), places(got.content))
	if want.receipt != got.receipt {
		list = append(list, "the receipt differs: "+firstDifference(want.receipt, got.receipt))
	}
	slices.Sort(list)
	return list
}

// firstDifference is the first line that differs, as it is and as it should be.
func firstDifference(want, got string) string {
	is, should := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(is), len(should)) {
		if is[i] != should[i] {
			return fmt.Sprintf("line %d is %q, want %q", i+1, is[i], should[i])
		}
	}
	return fmt.Sprintf("it has %d lines, want %d", len(is), len(should))
}

func texts(m map[string]oci.Digest) map[string]string {
	out := map[string]string{}
	for name, digest := range m {
		out[name] = string(digest)
	}
	return out
}

func places(m map[oci.Digest][]string) map[string]string {
	out := map[string]string{}
	for digest, paths := range m {
		out[string(digest)] = strings.Join(paths, " ")
	}
	return out
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
