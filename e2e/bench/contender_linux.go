package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"ferry/e2e/bench/content"
	"ferry/e2e/bench/limit"
	"ferry/e2e/bench/results"
	"ferry/e2e/bench/tools"
	"ferry/e2e/measure"
	"ferry/pkg/oci"

	"golang.org/x/sync/errgroup"
)

// contender carries an edition: a pull, then pushes of what it left in its
// bundle directory.
type contender struct {
	name, variant string
	// pull fills the bundle, measured; prepare does, when there is nothing to
	// measure.
	pull    func(p place) []step
	prepare func(ctx context.Context, p place) error
	pushes  []push
}

// push is one way to publish what is in the bundle.
type push struct {
	name, variant string
	steps         func(p place) []step
	// documents are what it leaves of its own, below the scratch directory.
	documents []string
	// landed says where an image then is; nil checks nothing.
	landed func(im content.Image) string
	// again measures a second push to the same target too.
	again bool
}

// turn lets one contender carry the edition once. That it fails is a result.
func (e *carried) turn(ctx context.Context, c contender) error {
	p := place{source: e.source.host, dir: filepath.Join(e.root, "work"), list: e.list()}
	defer os.RemoveAll(p.dir)
	if c.pull != nil && !e.worthwhile(results.Pull, c.name, c.variant) {
		return nil
	}
	if err := e.fresh(p); err != nil {
		return err
	}
	if c.prepare != nil {
		if err := c.prepare(ctx, p); err != nil {
			return err
		}
	}
	if c.pull != nil {
		sample, err := e.measured(ctx, p, e.source, c.pull(p))
		if err == nil {
			sample.Bundle, err = e.bundleSize(p.bundle())
		}
		if e.note(results.Pull, c.name, c.variant, sample, err); err != nil {
			return ctx.Err()
		}
	}
	for _, way := range c.pushes {
		if !e.worthwhile(results.Push, way.name, way.variant) {
			continue
		}
		if err := e.push(ctx, p, way); err != nil {
			return err
		}
	}
	return nil
}

// fresh makes empty directories; nothing of what came before is still to be
// written.
func (e *carried) fresh(p place) error {
	if err := os.RemoveAll(p.dir); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(p.bundle(), 0o777), os.MkdirAll(p.scratch(), 0o777), e.settle())
}

// push publishes the bundle to an empty registry. Nothing but the bundle comes
// from the other side, and it is read from the disk, as one that was carried is.
func (e *carried) push(ctx context.Context, p place, way push) error {
	if err := errors.Join(os.RemoveAll(p.scratch()), os.MkdirAll(p.scratch(), 0o777)); err != nil {
		return err
	}
	dir := filepath.Join(e.root, "target")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	target, err := e.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer target.stop()
	p.target = target.host
	ways := []string{results.Push}
	if way.again {
		ways = append(ways, results.Repush)
	}
	for _, name := range ways {
		if err := e.settle(p.bundle()); err != nil {
			return err
		}
		sample, err := e.measured(ctx, p, target, way.steps(p))
		if err == nil {
			sample.Bundle, err = e.bundleSize(p.bundle())
		}
		for _, document := range way.documents {
			if info, err := os.Stat(p.in(document)); err == nil {
				sample.Documents += info.Size()
			}
		}
		if err == nil && way.landed != nil {
			err = e.landed(ctx, target, way.landed)
		}
		if e.note(name, way.name, way.variant, sample, err); err != nil {
			return ctx.Err()
		}
	}
	return nil
}

// landed proves that every image of the edition is at the target.
func (e *carried) landed(ctx context.Context, target *server, where func(content.Image) string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, im := range e.content.Images {
		group.Go(func() error {
			ref, err := oci.ParseReference(target.own + "/" + where(im))
			if err != nil {
				return err
			}
			name := ref.Tag
			if name == "" {
				name = string(ref.Digest)
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+ref.Host+"/v2/"+ref.Path+"/manifests/"+name, nil)
			if err != nil {
				return err
			}
			req.Header["Accept"] = []string{oci.MediaTypeIndex, oci.MediaTypeManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if got := resp.Header.Get("Docker-Content-Digest"); got != string(im.Digest) {
				return fmt.Errorf("%s at the target is %q, want %s (%s)", where(im), got, im.Digest, resp.Status)
			}
			return nil
		})
	}
	return group.Wait()
}

// note keeps a result and tells of it.
func (e *carried) note(way, name, variant string, sample results.Sample, err error) {
	row := e.results.Row(way, name, variant)
	title := fmt.Sprintf("%s, %s: %s %s", e.content.Name, way, name, variant)
	if err != nil {
		row.Failed = err.Error()
		fmt.Fprintf(e.Log, "%s FAILED: %v\n", title, err)
		return
	}
	row.Samples = append(row.Samples, sample)
	fmt.Fprintf(e.Log, "%s: %.2f s, %.2f s on processors, %d MiB\n", title, sample.Took.Seconds(), sample.CPU.Seconds(), sample.Peak>>20)
}

// bundleSize is the size of a bundle that can be whole: blobs do not compress.
func (e *carried) bundleSize(dir string) (int64, error) {
	sum, err := measure.Sum(dir)
	if err != nil {
		return 0, err
	}
	least := int64(0)
	for _, blob := range e.content.Blobs {
		least += blob.Size
	}
	if sum.Bytes < least/100*99 {
		return 0, fmt.Errorf("it left %d bytes for the gap, the blobs have %d", sum.Bytes, least)
	}
	return sum.Bytes, nil
}

// contenders are all who carry the edition, in the order of the first round.
func (e *carried) contenders(ctx context.Context) ([]contender, error) {
	ours, err := e.ferry(ctx)
	if err != nil {
		return nil, err
	}
	all := append(e.gets(), ours...)
	all = append(all, e.puts()...)
	for _, t := range e.tools {
		if t.Edition == e.content.Name || t.Edition == "" && e.content.Name != deckhouse {
			all = append(all, scripted(t))
		}
	}
	return all, nil
}

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// gets are the bare downloads. The line is slower than any way to write, so there one
// way will do.
func (e *carried) gets() []contender {
	ways := []struct {
		name  string
		flags []string
	}{
		{results.Limit, nil},
		{results.DirectLimit, []string{"--direct"}},
		{results.WholeLimit, []string{"--direct", "--manifests", e.manifests()}},
	}
	if e.Line != nil {
		ways = ways[:1]
	}
	var out []contender
	for _, way := range ways {
		for _, n := range e.Connections {
			args := append([]string{"limit", "get", "--list", e.blobs(), "--connections", fmt.Sprint(n)}, way.flags...)
			out = append(out, contender{name: way.name, variant: connections(n), pull: func(p place) []step {
				return []step{{{"get", e.Self, append(args, "--host", p.source, "--dir", p.bundle())}}}
			}})
		}
	}
	return out
}

// puts are the bare uploads, without manifests and with them.
func (e *carried) puts() []contender {
	ways := []struct{ name, manifests string }{{results.Limit, ""}, {results.WholeLimit, e.manifests()}}
	if e.Line != nil {
		ways = ways[:1]
	}
	var out []contender
	for _, way := range ways {
		c := contender{name: way.name, prepare: func(ctx context.Context, p place) error {
			get := limit.Get{Host: e.source.own, List: e.blobs(), Manifests: way.manifests, Dir: p.bundle(), Connections: 4}
			return get.Run(ctx)
		}}
		for _, n := range e.Connections {
			c.pushes = append(c.pushes, push{name: way.name, variant: connections(n), steps: func(p place) []step {
				return []step{{{"put", e.Self, []string{"limit", "put", "--host", p.target, "--dir", p.bundle(), "--connections", fmt.Sprint(n), "--manifests", way.manifests}}}}
			}})
		}
		out = append(out, c)
	}
	return out
}

// scripted lets a tool carry the edition.
func scripted(t tools.Tool) contender {
	script := func(text string) func(p place) []step {
		return func(place) []step {
			return []step{{{t.Name, "/bin/bash", []string{"-eu", "-o", "pipefail", "-c", text}}}}
		}
	}
	return contender{name: t.Name, pull: script(t.Pull), pushes: []push{{name: t.Name, steps: script(t.Push), landed: t.Landed}}}
}
