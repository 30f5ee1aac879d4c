package results

import (
	"cmp"
	"fmt"
	"strings"
)

// Goal is a bound that ferry is held to, and what was measured.
type Goal struct {
	Edition string
	Text    string
	Got     float64
	Most    float64
	// Counted figures are the same on every machine: one that is missed is a
	// defect. Times are not.
	Counted bool
}

// Met reports whether the bound is kept.
func (g Goal) Met() bool { return g.Got <= g.Most }

// Goals are all that the run can tell of. Those of size and speed make no sense
// for quick runs, which are too short.
func (r *Run) Goals() []Goal {
	var goals []Goal
	if r.Scale != nil {
		goals = growthGoals(r.Scale)
	}
	for i := range r.Editions {
		goals = append(goals, goalsOf(&r.Editions[i], r.Line != nil)...)
	}
	return goals
}

func goalsOf(e *Edition, far bool) []Goal {
	j := &judge{edition: e}
	wall := 1.15
	if far {
		wall = 1.10
	}
	pull := cmp.Or(e.Best(Pull, Ferry), e.Best(Pull, FerryStore))
	stream, plain := e.Best(Push, FerryStream), e.Best(Push, Ferry)
	j.pull(pull, wall, far)
	j.pushTime(stream, wall)
	j.pushTime(plain, wall)
	j.push(cmp.Or(stream, plain))
	for _, row := range []*Row{pull, stream, plain} {
		j.others(row)
	}
	j.pushAgain(e.Best(Repush, Ferry, FerryStream))
	j.sums(pull, e.Best(Pull, FerryGOST))
	return j.goals
}

type judge struct {
	edition *Edition
	goals   []Goal
}

func (j *judge) time(text string, got, most float64) {
	j.goals = append(j.goals, Goal{j.edition.Name, text, got, most, false})
}

func (j *judge) count(text string, got, most float64) {
	j.goals = append(j.goals, Goal{j.edition.Name, text, got, most, true})
}

// bytes counts bytes: where blobs are so small that headers, blocks of the disk and
// documents weigh as much as they do, it says nothing.
func (j *judge) bytes(text string, got, most float64) {
	const small = 64 << 10
	if j.edition.Bytes >= small*int64(j.edition.Blobs) {
		j.count(text, got, most)
	}
}

func (j *judge) pull(row *Row, wall float64, far bool) {
	if row == nil {
		return
	}
	e := j.edition
	name := row.Name
	if limit := e.Best(Pull, Limit, DirectLimit); limit != nil {
		j.time(name+": time of a pull, times the limit", row.Took()/limit.Took(), wall)
		if !far {
			j.time(name+": CPU time of a pull, times the limit", row.Median(cpuTime)/limit.Median(cpuTime), 1.3)
		}
	}
	if limit := e.Best(Pull, Limit); limit != nil && !far {
		j.time(name+": time of a pull, times the limit through the page cache", row.Took()/limit.Took(), wall)
		j.time(name+": CPU time of a pull, times the limit through the page cache", row.Median(cpuTime)/limit.Median(cpuTime), 1.3)
	}
	j.whole(row, wall)
	s := row.Samples[0]
	j.bytes(name+": bytes that a pull writes, per byte of the bundle", float64(s.Written)/float64(s.Bundle), 1.02)
	j.bytes(name+": disk that a pull needs at most, per byte of the bundle", float64(s.PeakDisk)/float64(s.Bundle), 1.02)
	j.bytes(name+": bytes on the network in a pull, per distinct byte", float64(s.Network.WireOut)/float64(e.Bytes), 1.005)
	j.count(name+": requests for a blob in a pull, per distinct blob", float64(requestsOf(s, "blob "))/float64(e.Blobs), 1)
	j.count(name+": requests for a manifest in a pull, per distinct manifest", float64(requestsOf(s, "manifest "))/float64(e.Manifests), 1.1)
	j.count(name+": pings in a pull", float64(requestsOf(s, "ping")), 1)
	j.memory(row)
}

func cpuTime(s Sample) float64 { return s.CPU.Seconds() }

func (j *judge) push(row *Row) {
	if row == nil {
		return
	}
	e := j.edition
	s := row.Samples[0]
	j.count(row.Name+": MB that a push writes besides its documents", float64(s.Written-s.Documents)/1e6, 1)
	// An upload that is begun and cancelled asks whether we may write, and the first
	// of all tags whether the target is new: neither grows with what is pushed.
	manifests := requestsOf(s, "manifest ") - 1
	blobs := requestsOf(s, "blob ") + requestsOf(s, "mount") + requestsOf(s, "upload ") - 2*requestsOf(s, "upload DELETE")
	j.count(row.Name+": requests for manifests in a push, but for one, per tag or manifest without one", float64(manifests)/float64(e.Tags+e.Untagged), 2)
	j.count(row.Name+": requests for blobs in a push, per distinct blob and repository", float64(blobs)/float64(e.Placed), 3)
	j.memory(row)
}

func (j *judge) pushTime(row *Row, wall float64) {
	if limit := j.edition.Best(Push, Limit, DirectLimit); row != nil && limit != nil {
		j.time(row.Name+": time of a push, times the limit", row.Took()/limit.Took(), wall)
		j.whole(row, wall)
	}
}

// whole compares with what it takes to carry manifests too.
func (j *judge) whole(row *Row, wall float64) {
	if limit := j.edition.Best(row.Way, WholeLimit); limit != nil {
		j.time(fmt.Sprintf("%s: time of a %s, times the limit with manifests", row.Name, row.Way), row.Took()/limit.Took(), wall)
	}
}

// others compares with the fastest program that is not ours.
func (j *judge) others(row *Row) {
	if row == nil {
		return
	}
	var names []string
	for _, r := range j.edition.Rows {
		if !strings.HasPrefix(r.Name, Limit) && !strings.HasPrefix(r.Name, Ferry) {
			names = append(names, r.Name)
		}
	}
	if fastest := j.edition.Best(row.Way, names...); fastest != nil {
		j.time(fmt.Sprintf("%s: time of a %s, times that of %s", row.Name, row.Way, fastest.Name), row.Took()/fastest.Took(), 1)
	}
}

func (j *judge) pushAgain(row *Row) {
	if row == nil {
		return
	}
	s := row.Samples[0]
	all := int64(0)
	for _, n := range s.Network.Requests {
		all += n
	}
	j.count(row.Name+": requests in a second push, per tag", float64(all)/float64(j.edition.Tags), 1.05)
	j.count(row.Name+": uploads in a second push", float64(requestsOf(s, "upload ")+requestsOf(s, "mount")), 0)
}

func (j *judge) sums(without, with *Row) {
	if without != nil && with != nil {
		j.time("time of a pull with --gost-digest, times that without", with.Took()/without.Took(), 1.15)
	}
}

func (j *judge) memory(row *Row) {
	most := row.Median(func(s Sample) float64 { return float64(s.Peak) / (1 << 20) })
	j.count(row.Name+": MiB of memory of the largest stage of a "+row.Way, most, 128)
}

// requestsOf sums the kinds that begin with prefix.
func requestsOf(s Sample, prefix string) (n int64) {
	for kind, count := range s.Network.Requests {
		if strings.HasPrefix(kind, prefix) {
			n += count
		}
	}
	return n
}

// GoalTable renders goals.
func GoalTable(goals []Goal) string {
	var b strings.Builder
	b.WriteString("| edition | goal | at most | measured | met |\n|---|---|--:|--:|---|\n")
	for _, g := range goals {
		met := "yes"
		if !g.Met() {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| %s | %s | %.4g | %.4g | %s |\n", g.Edition, g.Text, g.Most, g.Got, met)
	}
	return strings.TrimRight(b.String(), "\n")
}

// FerryFailures tells of the rows of ferry, and of the limit, that failed: the
// run then says nothing.
func (r *Run) FerryFailures() []string {
	var out []string
	for _, e := range r.Editions {
		for _, row := range e.Rows {
			ours := strings.HasPrefix(row.Name, Ferry) || strings.HasPrefix(row.Name, Limit)
			if ours && row.Failed != "" {
				out = append(out, fmt.Sprintf("%s: %s: %s: %s", e.Name, row.Way, row.title(), row.Failed))
			}
		}
	}
	return out
}
