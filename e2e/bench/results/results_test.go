package results

import (
	"strings"
	"testing"
	"time"

	"ferry/e2e/bench/origin"

	"github.com/google/go-cmp/cmp"
)

const megabytes = 10_000_000

func took(seconds ...float64) []Sample {
	var out []Sample
	for _, s := range seconds {
		out = append(out, Sample{Took: time.Duration(s * float64(time.Second)), CPU: time.Second, Bundle: megabytes})
	}
	return out
}

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		samples []Sample
		want    float64
	}{{nil, 0}, {took(3), 3}, {took(9, 1, 2), 2}, {took(4, 1, 2, 9), 3}} {
		if got := (&Row{Samples: tc.samples}).Took(); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.samples, got, tc.want)
		}
	}
}

func edition() Edition {
	return Edition{Name: "list", Images: 10, Blobs: 100, Manifests: 10, Bytes: megabytes, Tags: 10, Untagged: 2, Placed: 120, Rows: []Row{
		{Way: Pull, Name: Limit, Variant: "1 connection", Samples: took(20)},
		{Way: Pull, Name: Limit, Variant: "8 connections", Samples: took(10, 12, 8)},
		{Way: Pull, Name: DirectLimit, Variant: "8 connections", Samples: took(11)},
		{Way: Pull, Name: Ferry, Samples: took(11)},
		{Way: Pull, Name: "crane", Failed: "exit status 1:\nno | luck"},
		{Way: Push, Name: Limit, Variant: "8 connections", Samples: took(5)},
		{Way: Push, Name: Ferry, Samples: took(6)},
		{Way: Repush, Name: Ferry, Samples: took(1)},
	}}
}

// The best variant is the limit, and who failed is not left out.
func TestTables(t *testing.T) {
	run := Run{Editions: []Edition{edition()}}
	run.Editions[0].Row(Push, Ferry, "").Samples[0].Stages = []Stage{{Name: "unpack", Took: time.Second}, {Name: "publish", Peak: 3 << 20}}
	text := run.Tables()
	for _, want := range []string{
		"| limit, 8 connections | 10.00 | 1.00 |",
		"| limit (direct I/O), 8 connections | 11.00 | 1.10 |",
		"| ferry | 11.00 | 1.10 |",
		"| crane | failed: exit status 1: no / luck |",
		"| ferry | 6.00 | 1.20 |",
		"\nferry: unpack 1.00 s, 0.00 s of processors, 0 MiB; publish 0.00 s, 0.00 s of processors, 3 MiB.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "1 connection |") {
		t.Error("a worse variant is shown")
	}
}

func TestGoals(t *testing.T) {
	good := map[string]int64{"blob GET": 100, "manifest GET": 10, "manifest HEAD": 1}
	for _, tc := range []struct {
		name   string
		far    bool
		spoil  func(e *Edition)
		missed []string
	}{
		{"all met but the push, which is slow", false, func(*Edition) {}, []string{"time of a push, times the limit"}},
		{"a long line has another bound", true, func(e *Edition) { e.Row(Pull, Ferry, "").Samples = took(11.2) },
			[]string{"time of a pull, times the limit", "time of a push, times the limit"}},
		{"a blob twice", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Row(Pull, Ferry, "").Samples[0].Network.Requests["blob GET"] = 101
		}, []string{"requests for a blob in a pull, per distinct blob"}},
		{"twice on the disk", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Row(Pull, Ferry, "").Samples[0].Written = 2 * megabytes
			e.Row(Pull, Ferry, "").Samples[0].PeakDisk = megabytes/100*102 + 1
		}, []string{"bytes that a pull writes, per byte of the bundle", "disk that a pull needs at most, per byte of the bundle"}},
		{"a push that writes, and one that sends again", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = []Sample{{Took: 5 * time.Second, Written: 3e6, Documents: 1e6, Peak: 129 << 20}}
			e.Row(Repush, Ferry, "").Samples[0].Network.Requests = map[string]int64{"upload POST": 1}
		}, []string{"MB that a push writes besides its documents", "MiB of memory of the largest stage of a push", "uploads in a second push"}},
		{"twice on the disk, but all of it is small", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Row(Pull, Ferry, "").Samples[0].Written = 2 * megabytes
			e.Bytes = 64<<10*100 - 1
		}, nil},
		{"a push that asks whether it may, and whether the target is new", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Row(Push, Ferry, "").Samples[0].Network.Requests = map[string]int64{"manifest PUT": 12, "manifest GET": 13, "blob HEAD": 120, "upload POST": 121, "upload PUT": 120, "upload DELETE": 1}
		}, nil},
		{"a push that asks too often", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Row(Push, Ferry, "").Samples[0].Network.Requests = map[string]int64{"manifest PUT": 12, "manifest HEAD": 14, "blob HEAD": 120, "upload POST": 110, "upload PUT": 110, "mount": 21}
			e.Row(Repush, Ferry, "").Samples[0].Network.Requests = map[string]int64{"manifest HEAD": 11}
		}, []string{"requests for manifests in a push, but for one, per tag or manifest without one", "requests for blobs in a push, per distinct blob and repository", "requests in a second push, per tag"}},
		{"others are faster", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Rows = append(e.Rows, Row{Way: Pull, Name: "crane", Variant: "more", Samples: took(8)},
				Row{Way: Push, Name: FerryStream, Samples: took(5)}, Row{Way: Push, Name: "oras", Samples: took(4)}, Row{Way: Push, Name: "skopeo", Samples: took(9)})
		}, []string{"time of a pull, times that of crane", "ferry, --verify stream: time of a push, times that of oras", "time of a push, times that of oras"}},
		{"the default is slow", false, func(e *Edition) {
			e.Rows = append(e.Rows, Row{Way: Push, Name: FerryStream, Samples: took(5)})
		}, []string{"time of a push, times the limit"}},
		{"manifests are slow", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Rows = append(e.Rows, Row{Way: Pull, Name: WholeLimit, Samples: took(9)}, Row{Way: Push, Name: WholeLimit, Samples: took(4.5)})
		}, []string{"time of a pull, times the limit with manifests"}},
		{"sums are slow", false, func(e *Edition) {
			e.Row(Push, Ferry, "").Samples = took(5)
			e.Rows = append(e.Rows, Row{Way: Pull, Name: FerryGOST, Samples: took(13)})
		}, []string{"time of a pull with --gost-digest, times that without"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := edition()
			e.Row(Pull, Ferry, "").Samples[0].Network = origin.Counts{Requests: map[string]int64{}}
			for kind, n := range good {
				e.Row(Pull, Ferry, "").Samples[0].Network.Requests[kind] = n
			}
			tc.spoil(&e)
			run := Run{Editions: []Edition{e}}
			if tc.far {
				run.Line = &Line{}
			}
			var missed []string
			for _, g := range run.Goals() {
				if !g.Met() {
					missed = append(missed, strings.TrimPrefix(g.Text, Ferry+": "))
				}
			}
			if diff := cmp.Diff(tc.missed, missed); diff != "" {
				t.Errorf("goals that are missed (-want +got):\n%s", diff)
			}
		})
	}
}
