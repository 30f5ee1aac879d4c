package progress

import (
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// barView redraws one line. The library only draws: all figures come from the
// meter, once a redraw, so that the bar cannot run backwards either.
type barView struct {
	out     io.Writer
	program string
	pool    *mpb.Progress
	bar     *mpb.Bar
}

func (v *barView) start(d *Display) {
	v.pool = mpb.New(mpb.WithOutput(v.out), mpb.WithAutoRefresh())
	style := mpb.BarStyle().Build()
	filler := mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		s.Total, s.Current = 100, int64(max(d.state().percent, 0))
		return style.Fill(w, s)
	})
	figures := decor.Any(func(decor.Statistics) string { return " " + d.state().line() })
	v.bar = v.pool.MustAdd(0, filler, mpb.BarWidth(24), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(v.program+" ")), mpb.AppendDecorators(figures))
}

// stop takes the bar away; the last state stays as a line of text.
func (v *barView) stop() {
	v.bar.SetTotal(1, true)
	v.pool.Wait()
}

// write prints above the bar. A pool whose stream broke has ended by itself.
func (v *barView) write(p []byte) (int, error) {
	if n, err := v.pool.Write(p); err == nil {
		return n, nil
	}
	return v.out.Write(p)
}
