// Package bench measures what it takes to carry images with ferry, with the
// tools that others use, and with a program that does nothing but the least, in
// one run, so that ratios mean something on any machine. It works on Linux
// alone.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ferry/e2e/bench/content"
	"ferry/e2e/bench/limit"
	"ferry/e2e/bench/results"
	"ferry/e2e/bench/tools"
	"ferry/e2e/measure"
)

// Options say what to measure.
type Options struct {
	// Self is the program with the subcommands serve, limit and delay.
	Self string
	// Bin is the directory of ferry's programs.
	Bin string
	// Dir is where everything is kept while it is needed.
	Dir string
	// Rounds is how many times each program has its turn.
	Rounds int
	// Editions to carry, by name.
	Editions []string
	// Bytes is the size of the edition list, Blobs that of small.
	Bytes int64
	Blobs int
	// Tools to compare with, by name; "all" are those that are installed.
	Tools []string
	// Connections are the numbers that the limit is looked for at.
	Connections []int
	// Line, when not nil, lies between the programs and the registries.
	Line *results.Line
	// Patience is how long one program may take for one side.
	Patience time.Duration
	// Quick makes tiny editions, which show that all of this works and nothing
	// else.
	Quick bool
	// Log is told what goes on.
	Log io.Writer
}

type bench struct {
	Options
	runner measure.Runner
	run    *results.Run
	tools  []tools.Tool
	memory *memory
}

// Run measures everything that opts names.
func Run(ctx context.Context, opts Options) (_ *results.Run, err error) {
	machine, err := ThisMachine(opts.Dir)
	if err != nil {
		return nil, err
	}
	b := &bench{Options: opts, run: &results.Run{
		Mode: "chain", Quick: opts.Quick, Rounds: opts.Rounds, Line: opts.Line, Machine: machine,
	}}
	if opts.Line != nil {
		b.run.Mode = "latency"
	}
	if b.runner, err = measure.NewRunner(opts.Dir); err != nil {
		return nil, err
	}
	if b.memory, err = newMemory(opts.Dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.memory.close()) }()
	if err := b.findTools(ctx); err != nil {
		return nil, err
	}
	for _, name := range opts.Editions {
		if err := b.edition(ctx, name); err != nil {
			return nil, fmt.Errorf("edition %s: %w", name, err)
		}
	}
	return b.run, nil
}

// findTools looks for the tools; a name that nobody knows is an error.
func (b *bench) findTools(ctx context.Context) error {
	known := tools.All()
	for _, name := range b.Options.Tools {
		if name != "all" && name != "none" && !slices.ContainsFunc(known, func(t tools.Tool) bool { return t.Name == name }) {
			return fmt.Errorf("there is no adapter for %q", name)
		}
	}
	for _, t := range known {
		if !slices.Contains(b.Options.Tools, t.Name) && !slices.Contains(b.Options.Tools, "all") {
			continue
		}
		version := t.Version(ctx)
		b.run.Programs = append(b.run.Programs, results.Program{Name: t.Name, Version: version, Way: t.Way})
		if version != "" {
			b.tools = append(b.tools, t)
		}
	}
	return nil
}

// edition makes an edition and lets everybody carry it.
func (b *bench) edition(ctx context.Context, name string) (err error) {
	root := filepath.Join(b.Dir, name)
	defer func() { err = errors.Join(err, os.RemoveAll(root)) }()
	made, source, err := b.make(ctx, name, root)
	if err != nil {
		return err
	}
	defer source.stop()
	b.run.Editions = append(b.run.Editions, results.Edition{
		Name: made.Name, Images: len(made.Images), Repositories: made.Repositories,
		Blobs: len(made.Blobs), Manifests: len(made.Manifests), Bytes: made.Bytes,
		Tags: made.Tags, Untagged: made.Untagged, Placed: made.Placed,
	})
	e := &carried{bench: b, content: made, source: source, root: root, results: &b.run.Editions[len(b.run.Editions)-1]}
	if err := e.warmUp(ctx); err != nil {
		return err
	}
	contenders, err := e.contenders(ctx)
	if err != nil {
		return err
	}
	for round := range b.Rounds {
		for _, c := range contenders {
			if err := e.turn(ctx, c); err != nil {
				return err
			}
		}
		fmt.Fprintf(b.Log, "%s: round %d of %d is over\n", name, round+1, b.Rounds)
		slices.Reverse(contenders) // whoever comes first is another one
	}
	return nil
}

// carried is an edition while it is carried.
type carried struct {
	*bench
	content *content.Edition
	source  *server
	root    string
	results *results.Edition
}

// blobs, manifests and list are the files with the edition's blobs, manifests and images.
func (e *carried) blobs() string     { return filepath.Join(e.root, "blobs.txt") }
func (e *carried) manifests() string { return filepath.Join(e.root, "manifests.txt") }
func (e *carried) list() string      { return filepath.Join(e.root, "images.txt") }

// warmUp carries everything once, unmeasured: whoever came first would pay for
// memory that the machine has not touched before, and for what the registry has
// not looked up yet.
func (e *carried) warmUp(ctx context.Context) error {
	if err := errors.Join(limit.WriteList(e.blobs(), e.content.Blobs), limit.WriteManifests(e.manifests(), e.content.Manifests)); err != nil {
		return err
	}
	f, err := os.Create(e.list())
	if err != nil {
		return err
	}
	for _, im := range e.content.Images {
		if _, err := fmt.Fprintln(f, im.Repository, im.Tag, im.Digest); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir := filepath.Join(e.root, "warm")
	get := limit.Get{Host: e.source.host, List: e.blobs(), Dir: dir, Connections: 4}
	return errors.Join(get.Run(ctx), os.RemoveAll(dir))
}

// worthwhile reports whether a variant has a chance to be the best of those that
// have its name: the first round tries all of them, the others the best two.
func (e *carried) worthwhile(way, name, variant string) bool {
	mine := e.results.Row(way, name, variant)
	if mine.Failed != "" {
		return false
	}
	better := 0
	for i := range e.results.Rows {
		r := &e.results.Rows[i]
		if r.Way == way && r.Name == name && r.Variant != variant && len(r.Samples) > 0 && r.Took() < mine.Took() {
			better++
		}
	}
	return len(mine.Samples) == 0 || better < 2
}
