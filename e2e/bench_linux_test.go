package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"ferry/e2e/edition"
	"ferry/e2e/measure"
	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// What a pull and a push may cost. Speed has no limit here: machines differ, and
// the ratios to what this one can do are reported instead.
const (
	maxNetwork  = 1.01          // bytes received for each distinct byte of the Plan
	maxPeak     = 200 << 20     // bytes of memory, each stage
	pushSlack   = 1 << 20       // bytes that a push writes besides its documents
	minDistinct = 2_000_000_000 // bytes that the edition must have to prove anything
	neededSpace = 8_000_000_000 // bytes on disk: three copies of the content at a time, and room
)

// large is an edition of 2.1 GB in some 1200 blobs and 600 manifests.
func large() edition.Options {
	opts := edition.Default()
	opts.Minors, opts.Components, opts.Modules, opts.ExtraImages = 6, 80, 12, 3
	opts.LayerSize = 5_500 << 10
	return opts
}

// BenchmarkChain carries a large edition with the real programs, stage by stage,
// and compares each with the least that any program must do in its place.
func BenchmarkChain(b *testing.B) {
	free, err := measure.Free(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	if free < neededSpace {
		b.Skipf("%d bytes are free in %s, %d are needed; set TMPDIR", free, os.TempDir(), int64(neededSpace))
	}
	for b.Loop() {
		chain(b)
	}
	b.ReportMetric(0, "ns/op") // making the edition and the limits would count
}

func chain(b *testing.B) {
	c := newCarrier(b)
	defer c.remove("")
	source := registryOn(b, c.dir("source"))
	made, err := edition.Write(b.Context(), client(b), oci.Repository{Host: source.host, Path: "deckhouse/ee"}, large())
	if err != nil {
		b.Fatal(err)
	}
	c.pull(source)
	c.pack()
	target := c.push()
	assertTarget(b, target.Tags(), "mirror", made.Expected, made.Discovery)
	c.report()
}

// carrier runs the stages and collects what they cost.
type carrier struct {
	b        *testing.B
	root     string
	runner   measure.Runner
	contents contract.Contents
	distinct int64 // bytes of the distinct blobs and manifests
	table    bytes.Buffer
	summary  []string
}

func newCarrier(b *testing.B) *carrier {
	b.Helper()
	c := &carrier{b: b, root: b.TempDir()}
	var err error
	if c.runner, err = measure.NewRunner(b.TempDir()); err != nil {
		b.Fatal(err)
	}
	fmt.Fprint(&c.table, "stage\tseconds\tpeak MiB\tcompared with\n")
	return c
}

// dir returns a directory of the benchmark, made when it is missing.
func (c *carrier) dir(name string) string {
	c.b.Helper()
	path := filepath.Join(c.root, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		c.b.Fatal(err)
	}
	return path
}

func (c *carrier) document(name string) string { return filepath.Join(c.dir("documents"), name) }

func (c *carrier) remove(name string) {
	c.b.Helper()
	if err := os.RemoveAll(filepath.Join(c.root, name)); err != nil {
		c.b.Fatal(err)
	}
}

func (c *carrier) settle(dirs ...string) {
	c.b.Helper()
	if err := measure.Settle(dirs...); err != nil {
		c.b.Fatal(err)
	}
}

func (c *carrier) sum(dirs ...string) measure.Tree {
	c.b.Helper()
	sum, err := measure.Sum(dirs...)
	if err != nil {
		c.b.Fatal(err)
	}
	return sum
}

// stage runs one stage, whose home, temporary and working directory are below
// "scratch", and checks its peak.
func (c *carrier) stage(name string, args ...string) measure.Usage {
	c.b.Helper()
	cmd := program(c.b, "ferry-"+name, args...)
	cmd.Dir = c.dir("scratch/work")
	cmd.Env = append(cmd.Env, "HOME="+c.dir("scratch/home"), "TMPDIR="+c.dir("scratch/tmp"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	used, err := c.runner.Run(cmd)
	if err != nil {
		c.b.Fatalf("ferry-%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	c.b.ReportMetric(mib(used.Peak), name+"-peak-MiB")
	if used.Peak > maxPeak {
		c.b.Errorf("%s used %.0f MiB of memory, more than %.0f", name, mib(used.Peak), mib(maxPeak))
	}
	return used
}

// limit is the least that any program must do in a stage's place.
type limit struct {
	name string
	took time.Duration
}

// row adds a stage to the table, as so many times its limits.
func (c *carrier) row(stage string, used measure.Usage, limits ...limit) {
	fmt.Fprintf(&c.table, "%s\t%.2f\t%.0f\t", stage, used.Took.Seconds(), mib(used.Peak))
	for i, l := range limits {
		ratio := used.Took.Seconds() / l.took.Seconds()
		c.b.ReportMetric(ratio, stage+"/"+strings.ReplaceAll(l.name, " ", "-"))
		if i > 0 {
			fmt.Fprint(&c.table, ", ")
		}
		fmt.Fprintf(&c.table, "%.2f x %s (%.2f s)", ratio, l.name, l.took.Seconds())
	}
	if len(limits) == 0 {
		fmt.Fprint(&c.table, "-")
	}
	fmt.Fprintln(&c.table)
}

func (c *carrier) note(format string, args ...any) {
	c.summary = append(c.summary, fmt.Sprintf(format, args...))
}

// report logs everything at once, in fewer than the ten lines that go test
// shows of a benchmark.
func (c *carrier) report() {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, err := c.table.WriteTo(w)
	if err := errors.Join(err, w.Flush()); err != nil {
		c.b.Fatal(err)
	}
	c.b.Logf("%s\n%s", strings.Join(c.summary, "; "), strings.TrimRight(text.String(), "\n"))
}

// pull runs discover, select and fetch, and checks what came over the network.
func (c *carrier) pull(source *served) {
	c.b.Helper()
	catalog, selection, inventory := c.document("catalog.json"), c.document("selection.json"), c.document("inventory.json")
	source.sent.Store(0)
	discover := c.stage("discover", append(discoverArgs(source.host), "-o", catalog)...)
	selecting := c.stage("select", "-i", catalog, "-o", selection)
	c.settle()
	fetch := c.stage("fetch", "-i", selection, "--store", c.dir("store"), "--insecure", "-o", inventory)
	received := source.sent.Load()
	c.read(inventory)

	network := float64(received) / float64(c.distinct)
	c.b.ReportMetric(network, "network/distinct")
	if network > maxNetwork {
		c.b.Errorf("%d bytes were received for %d distinct ones: %.5f times, more than %v", received, c.distinct, network, maxNetwork)
	}
	c.note("%d distinct bytes in %d blobs and %d manifests", c.distinct, len(c.contents.Blobs), len(c.contents.Manifests))
	c.note("network %.5f of them", network)

	c.row("discover", discover)
	c.row("select", selecting)
	c.row("fetch", fetch, limit{"GET+sha256", c.getAll("")}, limit{"GET+sha256+write", c.getAll("received")})
	c.remove("source")
	c.remove("received")
}

// read takes what the Inventory holds as what a pull must carry.
func (c *carrier) read(inventory string) {
	c.b.Helper()
	text, err := os.ReadFile(inventory)
	if err != nil {
		c.b.Fatal(err)
	}
	c.contents = decode[contract.InventorySpec](c.b, string(text)).Spec.Contents
	for _, p := range c.contents.Parts() {
		c.distinct += p.Size
	}
	if c.distinct < minDistinct {
		c.b.Errorf("the edition has %d distinct bytes, fewer than the %d that this is about", c.distinct, int64(minDistinct))
	}
}

// pack runs pack and compares the disk of a whole pull with the content.
func (c *carrier) pack() {
	c.b.Helper()
	store, bundle := c.dir("store"), c.dir("bundle")
	c.settle(store)
	used := c.stage("pack", "-i", c.document("inventory.json"), bundle, "-o", c.document("bundle.json"))
	disk := float64(c.sum(store, bundle).Disk) / float64(c.distinct)
	c.b.ReportMetric(disk, "pull-disk/distinct")
	c.note("disk of a pull (store and bundle) %.3f", disk)
	c.row("pack", used, limit{"cp", c.copyAll(store, "copy")})
	c.remove("copy")
	c.remove("store")
}

// push runs unpack and publish and checks what they wrote to disk: nothing but
// their documents. What the kernel counted includes files that are gone again;
// what is there afterwards counts also where "scratch" lies in memory.
func (c *carrier) push() *served {
	c.b.Helper()
	bundle := c.dir("bundle")
	inventory, receipt := c.document("unpacked.json"), c.document("receipt.json")
	target := registryOn(c.b, c.dir("target"))
	before := c.sum(c.dir("scratch"), c.dir("documents"), bundle).Bytes

	c.settle(bundle)
	unpack := c.stage("unpack", bundle, "-o", inventory)
	c.settle(bundle)
	publish := c.stage("publish", "-i", inventory, target.host+"/mirror", "--insecure", "-o", receipt)

	grown := c.sum(c.dir("scratch"), c.dir("documents"), bundle).Bytes - before
	written := unpack.Written + publish.Written
	documents := c.sum(inventory, receipt).Bytes
	c.b.ReportMetric(float64(max(grown, written)), "push-written-B")
	c.note("a push wrote %d bytes for documents of %d", max(grown, written), documents)
	if max(grown, written) > documents+pushSlack {
		c.b.Errorf("unpack and publish wrote %d bytes, and left %d more on disk, for documents of %d", written, grown, documents)
	}
	c.remove("target")
	c.row("unpack", unpack, limit{"sha256", c.hashAll(bundle)})
	c.row("publish", publish, limit{"PUT", c.putAll(bundle)})
	return target
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
