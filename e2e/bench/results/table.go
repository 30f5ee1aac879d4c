package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tables renders what was measured, a table for each edition and direction.
func (r *Run) Tables() string {
	var b strings.Builder
	if r.Scale != nil {
		b.WriteString(growthTable(r.Scale))
	}
	for i := range r.Editions {
		e := &r.Editions[i]
		for _, way := range []string{Pull, Push, Repush} {
			if e.has(way) {
				fmt.Fprintf(&b, "### %s: %s\n\n%s\n\n%s", way, e.title(), e.table(way), e.stages(way))
			}
		}
	}
	return b.String()
}

func (e *Edition) has(way string) bool {
	return slices.ContainsFunc(e.Rows, func(r Row) bool { return r.Way == way })
}

func (e *Edition) title() string {
	return fmt.Sprintf("edition %s, %d images in %d repositories, %d blobs and %d manifests, %.2f GB", e.Name, e.Images, e.Repositories, e.Blobs, e.Manifests, gb(e.Bytes))
}

const header = "| program | seconds | × limit | CPU s/GB | × limit | memory, MiB | bundle | disk | written | read | network | requests |\n" +
	"|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n"

func (e *Edition) table(way string) string {
	var b strings.Builder
	b.WriteString(header)
	limit := e.Best(way, Limit, DirectLimit)
	names := []string{Limit, DirectLimit, WholeLimit}
	for _, r := range e.Rows {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	for _, name := range names {
		if row := e.Best(way, name); row != nil {
			b.WriteString(e.line(row, limit))
		}
		for _, r := range e.Rows {
			if r.Way == way && r.Name == name && r.Failed != "" {
				fmt.Fprintf(&b, "| %s | failed: %s | | | | | | | | | | |\n", name, oneLine(r.Failed))
			}
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func (e *Edition) line(row, limit *Row) string {
	cells := []string{row.title(), fmt.Sprintf("%.2f", row.Took())}
	cpu := func(r *Row) float64 {
		return r.Median(func(s Sample) float64 { return s.CPU.Seconds() }) / gb(e.Bytes)
	}
	if limit == nil {
		cells = append(cells, "", fmt.Sprintf("%.2f", cpu(row)), "")
	} else {
		cells = append(cells, ratio(row.Took(), limit.Took()), fmt.Sprintf("%.2f", cpu(row)), ratio(cpu(row), cpu(limit)))
	}
	cells = append(cells, fmt.Sprintf("%.0f", row.Median(func(s Sample) float64 { return float64(s.Peak) / (1 << 20) })))
	bundle := ""
	if size := row.Median(func(s Sample) float64 { return float64(s.Bundle) }); size > 0 {
		bundle = fmt.Sprintf("%.3f", size/float64(e.Bytes))
	}
	cells = append(cells, bundle)
	for _, figure := range []func(Sample) int64{
		func(s Sample) int64 { return s.PeakDisk },
		func(s Sample) int64 { return s.Written },
		func(s Sample) int64 { return s.Read },
		func(s Sample) int64 { return s.Network.WireIn + s.Network.WireOut },
	} {
		cells = append(cells, fmt.Sprintf("%.3f", row.Median(func(s Sample) float64 { return float64(figure(s)) / float64(e.Bytes) })))
	}
	return "| " + strings.Join(append(cells, requests(row.Samples[len(row.Samples)-1])), " | ") + " |\n"
}

// stages tells what each process of those rows took that have several.
func (e *Edition) stages(way string) string {
	var b strings.Builder
	for i := range e.Rows {
		r := &e.Rows[i]
		if r.Way != way || len(r.Samples) == 0 || len(r.Samples[0].Stages) < 2 {
			continue
		}
		fmt.Fprintf(&b, "%s: ", r.title())
		for i, stage := range r.Samples[0].Stages {
			if i > 0 {
				b.WriteString("; ")
			}
			figure := func(f func(Stage) float64) float64 {
				return r.Median(func(s Sample) float64 { return f(s.Stages[i]) })
			}
			fmt.Fprintf(&b, "%s %.2f s, %.2f s of processors, %.0f MiB", stage.Name,
				figure(func(s Stage) float64 { return s.Took.Seconds() }),
				figure(func(s Stage) float64 { return s.CPU.Seconds() }),
				figure(func(s Stage) float64 { return float64(s.Peak) / (1 << 20) }))
		}
		b.WriteString(".\n\n")
	}
	return b.String()
}

func (r *Row) title() string {
	if r.Variant == "" {
		return r.Name
	}
	return r.Name + ", " + r.Variant
}

func requests(s Sample) string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(s.Network.Requests)) {
		list = append(list, fmt.Sprintf("%s %d", kind, s.Network.Requests[kind]))
	}
	return strings.Join(list, ", ")
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func gb(bytes int64) float64 { return float64(bytes) / 1e9 }

// oneLine makes a text fit a cell.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "/")
	if len(text) > 300 {
		text = "…" + text[len(text)-300:]
	}
	return text
}
