package stages

import (
	"github.com/tercet-ml/tercet/pipeline"
)

// windows are those of a plan; nil where there is no budget or all images fit.
func (cfg *PlanConfig) windows(classes *planClasses, r PlanReport) (*windows, error) {
	if cfg.Window < 0 {
		return nil, usage("PlanConfig.Window", "is %d, want 0 (no limit) or a number of bytes", cfg.Window)
	}
	if cfg.Window == 0 {
		return nil, nil
	}
	var rows int64
	for g, l := range cfg.Layout {
		if l.First != rows || l.Rows < 1 || l.Bytes < 0 {
			return nil, usage("PlanConfig.Layout", "has row group %d of %d rows from sample %d on, of %d bytes: want sample %d on", g, l.Rows, l.First, l.Bytes, rows)
		}
		rows += l.Rows
	}
	if rows != r.Rows {
		return nil, usage("PlanConfig.Layout", "has %d rows, want one for each of %d labels", rows, r.Rows)
	}
	if cfg.Layout.Bytes() <= cfg.Window {
		return nil, nil
	}
	return newWindows(*cfg, classes, r.Planned)
}

// Windows says how an epoch, from 0, is cut into windows, and what it leaves
// out; false where the plan needs no windows. (The epochs meant are those of
// [WindowReport.Batches] batches, where Steps is another number.)
func (p *Plan) Windows(epoch int64) (WindowReport, bool) {
	if p.windows == nil || epoch < 0 {
		return WindowReport{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.windows.counted(epoch), true
}

// A Window is the row groups that some batches in a row are made of.
type Window struct {
	From, To int64 // batches From to To−1
	Groups   []int // numbers in the [pipeline.Layout]; shared and not to be changed
}

// Window is the window of batch b; false where the plan needs no windows.
func (p *Plan) Window(b int64) (Window, bool) {
	if p.windows == nil || b < 0 || b > lastNumber(p.cfg) {
		return Window{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.windows
	d := w.dealt(b / w.length)
	v := d.window(b % w.length)
	first := b - b%w.length
	return Window{From: first + d.starts[v], To: first + d.starts[v+1], Groups: d.groups[v]}, true
}

// groupOf is the row group of a sample.
func groupOf(l pipeline.Layout, id int64) int {
	low, high := 0, len(l)-1
	for low < high {
		mid := high - (high-low)/2
		if l[mid].First <= id {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}
