package bench

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ferry/e2e/bench/results"
	"ferry/e2e/bench/tools"
)

// ferry are the ways that ferry knows to carry the edition. What a program does
// not offer is left out; the others show what it costs not to have it.
func (e *carried) ferry(ctx context.Context) ([]contender, error) {
	stream, err := e.offers(ctx, "unpack", "--verify")
	if err != nil {
		return nil, err
	}
	direct, err := e.offers(ctx, "fetch", "--gost-digest")
	if err != nil {
		return nil, err
	}
	pushes := []push{e.pushing(results.Ferry)}
	if stream {
		pushes = append(pushes, e.pushing(results.FerryStream, "--verify", "stream"))
	}
	if !direct {
		return []contender{{name: results.FerryStore, pull: e.throughStore, pushes: pushes}}, nil
	}
	all := []contender{
		{name: results.Ferry, pull: e.intoArchives(), pushes: pushes},
		{name: results.FerryStore, pull: e.throughStore},
	}
	// On one machine sums have a chance with several archives alone; on a long line
	// there is time for them.
	if e.content.Name == deckhouse || e.Line != nil {
		all = append(all, contender{name: results.FerryGOST, pull: e.intoArchives("--gost-digest")})
	}
	return all, nil
}

// offers reports whether a stage has a flag.
func (b *bench) offers(ctx context.Context, stage, flag string) (bool, error) {
	text, err := exec.CommandContext(ctx, filepath.Join(b.Bin, "ferry-"+stage), "--help").Output()
	return strings.Contains(string(text), flag), err
}

func (b *bench) stage(name string, args ...string) command {
	return command{name, filepath.Join(b.Bin, "ferry-"+name), args}
}

// chosen are discover and select, which both ways to fetch begin with.
func (e *carried) chosen(p place) []step {
	catalog, selection := p.in("catalog.json"), p.in("selection.json")
	discover := e.stage("discover", "generic", p.in("list"), "-o", catalog)
	if e.content.Name == deckhouse {
		discover = e.stage("discover", "deckhouse", "--source", p.source+"/"+deckhouseRoot, "--insecure", "--store", p.in("store"), "-o", catalog)
	} else {
		e.writeList(p)
	}
	return []step{{discover}, {e.stage("select", "-i", catalog, "-o", selection)}}
}

// writeList writes the list as ferry reads it. That it cannot be written discover
// will say.
func (e *carried) writeList(p place) {
	var list strings.Builder
	for _, im := range e.content.Images {
		list.WriteString(p.source + "/" + im.Repository + ":" + im.Tag + "\n")
	}
	_ = os.WriteFile(p.in("list"), []byte(list.String()), 0o666)
}

func (e *carried) throughStore(p place) []step {
	inventory := p.in("inventory.json")
	return append(e.chosen(p),
		step{e.stage("fetch", "-i", p.in("selection.json"), "--insecure", "--store", p.in("store"), "-o", inventory)},
		step{e.stage("pack", "-i", inventory, p.bundle(), "-o", p.in("bundle.json"))})
}

// intoArchives fetches into the archives themselves.
func (e *carried) intoArchives(flags ...string) func(p place) []step {
	return func(p place) []step {
		inventory := p.in("inventory.json")
		fetch := []string{"-i", p.in("selection.json"), "--insecure", "--store", p.in("store"), "--bundle", p.bundle(), "-o", inventory}
		pack := []string{"-i", inventory, p.bundle(), "-o", p.in("bundle.json")}
		return append(e.chosen(p),
			step{e.stage("fetch", append(fetch, flags...)...)},
			step{e.stage("pack", append(pack, flags...)...)})
	}
}

// pushing is unpack and publish in a pipe, as users have them.
func (e *carried) pushing(name string, flags ...string) push {
	return push{
		name: name, landed: tools.ByTag, again: true, documents: []string{"receipt.json"},
		steps: func(p place) []step {
			return []step{{
				e.stage("unpack", append([]string{p.bundle()}, flags...)...),
				e.stage("publish", p.target+"/mirror", "--insecure", "-o", p.in("receipt.json")),
			}}
		},
	}
}
