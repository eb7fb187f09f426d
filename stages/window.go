package stages

import (
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// windows are a plan whose images do not fit in memory: an epoch is cut into
// windows of whole row groups, and each batch is made of the rows of one window,
// exactly P classes with K different images each. Of the current and the next
// window, which is what has to be in memory, neither is larger than half the
// budget.
//
// An epoch holds each row at most once. What does not fit into batches is left
// out of it: rows of a class of which the window has fewer than K, rows beyond
// a multiple of K, and hands of K for which there are not P−1 others. The next
// epoch deals the row groups anew and turns the order in which the rows of each
// class are taken.
//
// All epochs have as many batches as every deal that was tried when the plan
// was made could give. An epoch that is dealt fewer is dealt again.
type windows struct {
	p, k    int64
	seed    uint64
	labels  []int32
	layout  pipeline.Layout
	classes *planClasses
	limit   int64 // bytes of a window
	report  WindowReport

	starts []uint32 // of the shares of each row group, and their end
	shares []share
	main   []uint32 // the most frequent class of each row group
	tied   []bool   // row group g and its successor share a class that would be too small in one of them
	ranks  []uint32 // by place in members: a drawn order of each class
	steps  []uint32 // by class: by how much that order is turned from one epoch to the next

	count    int   // windows of an epoch
	pairs    bool  // tied row groups go together
	length   int64 // batches of an epoch
	fallback []dealKey

	// Memory that decides nothing.
	deals  []*deal
	fills  []*fill
	counts []uint32 // by class: scratch of lots
	slot   []uint32 // by class: scratch of fill
	lotted []lot
	keys   []uint64 // scratch of turned
}

// A share is the rows of one class in one row group.
type share struct {
	class uint32
	at, n uint32 // their places in planClasses.members
}

// A WindowReport says how an epoch of a windowed [Plan] is cut, and counts the
// rows it leaves out.
type WindowReport struct {
	Budget  int64 `json:"budget"`       // bytes, as it was configured
	Windows int   `json:"windows"`      // in an epoch
	Groups  int   `json:"row_groups"`   // row groups with planned rows: each is read once in an epoch
	Bytes   int64 `json:"bytes"`        // of memory, at most, that the largest window takes
	Least   int64 `json:"least_budget"` // the budget that would just do for these windows
	Batches int64 `json:"batches"`      // in an epoch
	Images  int64 `json:"images"`       // rows that the epoch shows
	Few     int64 `json:"few"`          // rows left out: the window has fewer than K of their class
	Rest    int64 `json:"rest"`         // rows left out: beyond a multiple of K of their class
	Over    int64 `json:"over"`         // rows left out: there are not P−1 other classes to go with them
}

// Deals that are tried when a plan is made, of which so many should do; and
// how often a later epoch is dealt before it is given one of those.
const (
	tryDeals  = 8
	wantDeals = 4
	dealAgain = 64
)

// newWindows plans windows of at most half the budget.
func newWindows(cfg PlanConfig, classes *planClasses, planned int) (*windows, error) {
	w := &windows{
		p: int64(cfg.P), k: int64(cfg.K), seed: cfg.Seed, labels: cfg.Labels, layout: cfg.Layout, classes: classes, limit: cfg.Window / 2,
		counts: make([]uint32, planned), slot: make([]uint32, planned),
		report: WindowReport{Budget: cfg.Window},
	}
	w.scan()
	for _, w.pairs = range []bool{true, false} {
		if w.search() {
			w.pace()
			return w, nil
		}
	}
	least := w.least()
	return nil, usage("PlanConfig.Window", "is %d bytes, want at least %d: a window of P = %d classes with K = %d images each, and the next one (all images take %d bytes)",
		cfg.Window, least, cfg.P, cfg.K, cfg.Layout.Bytes())
}

// scan finds which row groups hold which classes.
func (w *windows) scan() {
	ends := make([]int64, len(w.layout)) // of the sample ids of each row group
	for g, l := range w.layout {
		ends[g] = l.First + l.Rows
	}
	perGroup := make([][]share, len(w.layout))
	w.main, w.tied = make([]uint32, len(w.layout)), make([]bool, len(w.layout))
	w.ranks = make([]uint32, len(w.classes.members))
	var order []uint32
	for j, number := range w.classes.numbers {
		start, end := w.classes.starts[j], w.classes.starts[j+1]
		before := -1 // the row group of the last share
		for at := start; at < end; {
			g, _ := slices.BinarySearch(ends, int64(w.classes.members[at])+1)
			n := uint32(1)
			for at+n < end && int64(w.classes.members[at+n]) < ends[g] {
				n++
			}
			perGroup[g] = append(perGroup[g], share{uint32(j), at, n})
			if before == g-1 && before >= 0 {
				last := perGroup[before]
				least := min(n, last[len(last)-1].n)
				w.tied[before] = w.tied[before] || int64(least) < w.k
			}
			before = g
			at += n
		}
		order = slices.Grow(order[:0], int(end-start))[:end-start]
		shuffle(order, newPlanKey("window rank", w.seed, uint64(number)))
		for rank, m := range order {
			w.ranks[start+m] = uint32(rank)
		}
	}
	w.starts = make([]uint32, 1, len(w.layout)+1)
	for g, shares := range perGroup {
		w.shares = append(w.shares, shares...)
		w.starts = append(w.starts, uint32(len(w.shares)))
		if len(shares) == 0 {
			continue
		}
		w.report.Groups++
		main := slices.MaxFunc(shares, func(a, b share) int { return int(int64(a.n) - int64(b.n)) })
		w.main[g] = main.class
	}
}

// try deals count windows of at most limit bytes and returns the draws that
// do: those whose windows all hold P classes with K images. bytes is the least
// that the largest window of one of them takes.
func (w *windows) try(count int, limit int64) (good []dealKey, batches, bytes int64) {
	batches, bytes = math.MaxInt64, math.MaxInt64
	for try := int64(0); try < tryDeals && len(good) < wantDeals; try++ {
		d := w.deal(count, dealKey{-1, try})
		if d.short || d.bytes > limit {
			continue
		}
		good = append(good, d.dealKey)
		batches, bytes = min(batches, d.batches()), min(bytes, d.bytes)
	}
	return good, batches, bytes
}

// most is into how many windows the row groups can be cut when bytes are no
// matter, and what the largest takes then.
func (w *windows) most() (count int, bytes int64) {
	low, high := 0, w.report.Groups
	for low < high {
		mid := high - (high-low)/2
		if good, _, b := w.try(mid, math.MaxInt64); len(good) > 0 {
			low, bytes = mid, b
		} else {
			high = mid - 1
		}
	}
	return low, bytes
}

// search finds windows that fit the limit.
func (w *windows) search() bool {
	var all int64
	for g, l := range w.layout {
		if w.starts[g] < w.starts[g+1] {
			all += l.Bytes
		}
	}
	fewest := int(max((all+w.limit-1)/max(w.limit, 1), 1))
	if fewest > w.report.Groups {
		return false
	}
	if count := w.best(fewest); count > 0 {
		fewest = count
	}
	most := w.report.Groups // how many it can be takes its time to find out: the first few counts mostly do
	for count := fewest; count <= most; count++ {
		if count == fewest+4 {
			most, _ = w.most()
		}
		good, batches, bytes := w.try(count, w.limit)
		if len(good) == 0 {
			continue
		}
		w.count, w.fallback, w.length = count, good, batches
		w.report.Windows, w.report.Batches, w.report.Least = count, batches, 2*bytes
		return true
	}
	return false
}

// best is a number of windows, at least fewest and mostly less than twice as
// many, that leave out few rows; 0 where none of those that are tried will do.
// Larger windows mix more, but where one class has two row groups of a window
// and another has one, much of the former is left out. Numbers that give each
// window as many row groups of some class are tried, and a few between. Of those
// that leave out about as much the smallest is taken.
func (w *windows) best(fewest int) int {
	const between = 8
	var counts []int
	for i := range between {
		counts = append(counts, fewest+fewest*i/between)
	}
	groups := make([]int, len(w.classes.numbers)) // in which a class is the most frequent one
	for g, class := range w.main {
		if w.starts[g] < w.starts[g+1] {
			groups[class]++
		}
	}
	slices.Sort(groups)
	for _, n := range []int{groups[len(groups)-1], groups[len(groups)/2], groups[len(groups)/10]} {
		if each := n / fewest; each > 0 {
			counts = append(counts, (n+each-1)/each)
		}
	}
	slices.Sort(counts)
	counts = slices.Compact(counts)
	batches := make([]int64, len(counts))
	for i, count := range counts {
		if d := w.deal(count, dealKey{-1, 0}); !d.short && d.bytes <= w.limit {
			batches[i] = d.batches()
		}
	}
	enough := slices.Max(batches) * 199 / 200
	for i, count := range counts {
		if batches[i] > 0 && batches[i] >= enough {
			return count
		}
	}
	return 0
}

// pace sets by how much the order of each class is turned from one epoch to the
// next: by about half of the rows that an epoch shows, so that those left out
// in one epoch are soon in front; and by a number without a common divisor with
// the size n of the class, so that in n epochs each row is once the very first.
func (w *windows) pace() {
	w.steps = make([]uint32, len(w.classes.numbers))
	d := w.deal(w.count, w.fallback[0])
	d.cut(w.length)
	for v := range d.groups {
		lots, _ := w.placed(d, v)
		for _, l := range lots {
			w.steps[l.class] += uint32(l.places * w.k / 2)
		}
	}
	for j, s := range w.steps {
		n := int64(len(w.classes.membersOf(uint32(j))))
		step := max(int64(s)%n, 1)
		for gcd(step, n) != 1 {
			step++
		}
		w.steps[j] = uint32(step)
	}
}

// least is the least budget there is a plan for.
func (w *windows) least() int64 {
	all := w.layout.Bytes() // then there are no windows
	if count, bytes := w.most(); count > 0 {
		return min(all, 2*bytes)
	}
	return all
}

// dealt is the deal of an epoch.
func (w *windows) dealt(epoch int64) *deal {
	for i, d := range w.deals {
		if d.epoch == epoch {
			copy(w.deals[1:i+1], w.deals[:i]) // the one used last in front
			w.deals[0] = d
			return d
		}
	}
	var d *deal
	for try := range int64(dealAgain) {
		d = w.deal(w.count, dealKey{epoch, try})
		if !d.short && d.bytes <= w.limit && d.batches() >= w.length {
			break
		}
		d = nil
	}
	if d == nil {
		d = w.deal(w.count, w.fallback[epoch%int64(len(w.fallback))])
		d.epoch = epoch
	}
	d.cut(w.length)
	w.deals = append([]*deal{d}, w.deals[:min(len(w.deals), 1)]...)
	return d
}

// filled is the batches of a window, which are remembered for three windows:
// the one that is served, and those that are looked at ahead of it.
func (w *windows) filled(d *deal, v int) *fill {
	for i, f := range w.fills {
		if f.epoch == d.epoch && f.window == v {
			copy(w.fills[1:i+1], w.fills[:i])
			w.fills[0] = f
			return f
		}
	}
	f := w.fill(d, v)
	w.fills = append([]*fill{f}, w.fills[:min(len(w.fills), 2)]...)
	return f
}

// find is the deal and the window of batch b, and where in its ids b begins.
func (w *windows) find(b int64) (*deal, *fill, int64) {
	d := w.dealt(b / w.length)
	b %= w.length
	v := d.window(b)
	return d, w.filled(d, v), (b - d.starts[v]) * w.p * w.k
}

// batch appends the ids of batch b.
func (w *windows) batch(b int64, ids []int64) []int64 {
	_, f, at := w.find(b)
	for _, id := range f.ids[at : at+w.p*w.k] {
		ids = append(ids, int64(id))
	}
	return ids
}

// counted adds up what an epoch shows and leaves out.
func (w *windows) counted(epoch int64) WindowReport {
	r := w.report
	d := w.dealt(epoch)
	r.Bytes = d.bytes
	for v := range d.groups {
		lots, _ := w.placed(d, v)
		for _, l := range lots {
			used := min(l.places*w.k, l.rows) // of a class that is short in the whole data set, all
			made := min(l.hands*w.k, l.rows)
			r.Images += used
			r.Over += made - used
			if l.hands == 0 {
				r.Few += l.rows
			} else {
				r.Rest += l.rows - made
			}
		}
	}
	return r
}
