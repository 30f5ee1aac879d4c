// Package results holds what benchmarks measured, as a file of JSON, and reads
// out of it tables, goals and docs/performance.md.
package results

import (
	"encoding/json"
	"os"
	"slices"
	"time"

	"ferry/e2e/bench/origin"
	"ferry/e2e/scale"
)

// Run is everything that one run of the program measured.
type Run struct {
	Mode    string  `json:"mode"` // "chain", "latency" or "scale"
	Quick   bool    `json:"quick,omitempty"`
	Rounds  int     `json:"rounds"`
	Machine Machine `json:"machine"`
	// Line is what lies between client and registry in the mode latency.
	Line     *Line     `json:"line,omitempty"`
	Programs []Program `json:"programs"`
	Editions []Edition `json:"editions"`
	// Scale is what the mode scale found.
	Scale *scale.Result `json:"scale,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	CPUs       int    `json:"cpus"`
	Processor  string `json:"processor"`
	Memory     int64  `json:"memory"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"fileSystem"`
}

// Line is a line by its length and width.
type Line struct {
	RoundTrip      time.Duration `json:"roundTrip"`
	BytesPerSecond int64         `json:"bytesPerSecond"`
}

// Program is one that was asked for, found or not.
type Program struct {
	Name string `json:"name"`
	// Version is what it says of itself; "" where it is absent.
	Version string `json:"version,omitempty"`
	// Way is how it carries a list of images.
	Way string `json:"way,omitempty"`
}

// Edition is what was carried, and by whom.
type Edition struct {
	Name         string `json:"name"`
	Images       int    `json:"images"`
	Repositories int    `json:"repositories"`
	Blobs        int    `json:"blobs"`
	Manifests    int    `json:"manifests"`
	Bytes        int64  `json:"bytes"`
	// As in content.Edition.
	Tags     int   `json:"tags"`
	Untagged int   `json:"untagged"`
	Placed   int   `json:"placed"`
	Rows     []Row `json:"rows"`
}

// The ways that content goes.
const (
	Pull   = "pull"
	Push   = "push"
	Repush = "push again"
)

// Names of rows that others are compared with.
const (
	Limit       = "limit"
	DirectLimit = "limit (direct I/O)"
	WholeLimit  = "limit with manifests"
	Ferry       = "ferry"
	FerryGOST   = "ferry --gost-digest"
	FerryStore  = "ferry, through a store"
	FerryStream = "ferry, --verify stream"
)

// Row is one program carrying one edition in one direction, in all rounds.
type Row struct {
	Way string `json:"way"`
	// Name is the program's. Rows with equal names are variants, of which the
	// best counts.
	Name    string   `json:"name"`
	Variant string   `json:"variant,omitempty"`
	Samples []Sample `json:"samples"`
	// Failed tells why there are no more samples.
	Failed string `json:"failed,omitempty"`
}

// Sample is what one run cost.
type Sample struct {
	Took time.Duration `json:"took"`
	CPU  time.Duration `json:"cpu"`
	// Peak is the largest memory of one process.
	Peak int64 `json:"peak"`
	// PeakDisk is the most that lay on the disk at a time.
	PeakDisk int64 `json:"peakDisk"`
	Written  int64 `json:"written"`
	Read     int64 `json:"read"`
	// Bundle is the size of what is carried over the gap.
	Bundle int64 `json:"bundle,omitempty"`
	// Documents is the size of the documents that a push leaves.
	Documents int64         `json:"documents,omitempty"`
	Network   origin.Counts `json:"network"`
	Stages    []Stage       `json:"stages,omitempty"`
}

// Stage is one process of several.
type Stage struct {
	Name    string        `json:"name"`
	Took    time.Duration `json:"took"`
	CPU     time.Duration `json:"cpu"`
	Peak    int64         `json:"peak"`
	Written int64         `json:"written"`
}

// Load reads a run from a file.
func Load(path string) (*Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	run := &Run{}
	return run, json.Unmarshal(text, run)
}

// Save writes a run to a file.
func (r *Run) Save(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Row returns the row of a way, name and variant, made when it is missing.
func (e *Edition) Row(way, name, variant string) *Row {
	i := slices.IndexFunc(e.Rows, func(r Row) bool { return r.Way == way && r.Name == name && r.Variant == variant })
	if i < 0 {
		i = len(e.Rows)
		e.Rows = append(e.Rows, Row{Way: way, Name: name, Variant: variant})
	}
	return &e.Rows[i]
}

// Best returns, of the rows of a way and name, the one with the least median
// time; nil where none has a sample.
func (e *Edition) Best(way string, names ...string) *Row {
	var best *Row
	for i := range e.Rows {
		r := &e.Rows[i]
		if r.Way != way || !slices.Contains(names, r.Name) || len(r.Samples) == 0 {
			continue
		}
		if best == nil || r.Took() < best.Took() {
			best = r
		}
	}
	return best
}

// Took is the median of the times, in seconds.
func (r *Row) Took() float64 { return r.Median(func(s Sample) float64 { return s.Took.Seconds() }) }

// Median is the median of a figure over the samples: of an even number, the mean
// of the two in the middle.
func (r *Row) Median(figure func(Sample) float64) float64 {
	if len(r.Samples) == 0 {
		return 0
	}
	var all []float64
	for _, s := range r.Samples {
		all = append(all, figure(s))
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
