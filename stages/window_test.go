package stages

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// layoutOf cuts rows into row groups of n rows, of each bytes a row.
func layoutOf(rows, n int, each int64) (l pipeline.Layout) {
	for first := 0; first < rows; first += n {
		k := int64(min(n, rows-first))
		l = append(l, pipeline.RowGroup{First: int64(first), Rows: k, Bytes: k * each, File: len(l)})
	}
	return l
}

// sortedLabels are classes one after the other, with sizes from least to most.
func sortedLabels(classes, least, most int, seed uint64) (labels []int32) {
	dice := rand.New(rand.NewPCG(seed, 1))
	for j := range classes {
		for range least + dice.IntN(most-least+1) {
			labels = append(labels, int32(j))
		}
	}
	return labels
}

func shuffledLabels(labels []int32) []int32 {
	labels = slices.Clone(labels)
	rand.New(rand.NewPCG(5, 6)).Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	return labels
}

// windowCases are data sets larger than their budget.
func windowCases() map[string]PlanConfig {
	withUnknown := sortedLabels(40, 50, 90, 3)
	for i := 0; i < len(withUnknown); i += 7 {
		withUnknown[i] = pipeline.Unknown
	}
	withShort := append(sortedLabels(30, 2, 9, 4), sortedLabels(20, 60, 80, 5)...)
	for i := len(withShort) - 1; withShort[i-1] <= withShort[i]; i-- {
		withShort[i] += 100
	}
	withShort = append(withShort, 900, 901) // single
	drop := PlanConfig{Labels: withShort, Layout: layoutOf(len(withShort), 40, 10), P: 4, K: 6, Window: 10 * 700, Short: Drop}
	repeat := drop
	repeat.Short = Repeat
	sorted := func(classes, least, most, group, p, k, budget int) PlanConfig {
		labels := sortedLabels(classes, least, most, 7)
		return PlanConfig{Labels: labels, Layout: layoutOf(len(labels), group, 10), P: p, K: k, Window: 10 * int64(budget)}
	}
	mixed := sorted(60, 20, 200, 50, 8, 4, 1500)
	mixed.Labels = shuffledLabels(mixed.Labels)
	uneven := sorted(50, 100, 100, 25, 8, 3, 1600)
	for g := range uneven.Layout {
		uneven.Layout[g].Bytes = 10 + int64(g*g%37)*12
	}
	return map[string]PlanConfig{
		"ten classes, sorted":          sorted(10, 1000, 1000, 100, 8, 4, 2000),
		"many classes, sorted":         sorted(500, 20, 20, 100, 8, 4, 1000),
		"uneven classes, sorted":       sorted(100, 3, 150, 30, 6, 5, 1200),
		"groups smaller than a hand":   sorted(20, 60, 60, 5, 4, 4, 400),
		"shuffled":                     mixed,
		"unknown":                      {Labels: withUnknown, Layout: layoutOf(len(withUnknown), 33, 10), P: 5, K: 4, Window: 10 * 600},
		"short classes dropped":        drop,
		"short classes repeated":       repeat,
		"row groups of uneven sizes":   uneven,
		"one class is most of the set": {Labels: append(make([]int32, 3000), sortedLabels(30, 50, 50, 1)...), Layout: layoutOf(4500, 60, 10), P: 4, K: 4, Window: 10 * 1200},
	}
}

// checkEpoch checks all that holds of an epoch and returns the rows it shows.
func checkEpoch(t *testing.T, p *Plan, epoch int64) map[int64]bool {
	t.Helper()
	cfg := p.cfg
	report, ok := p.Windows(epoch)
	if !ok || report.Batches != p.Steps() {
		t.Fatalf("epoch %d of %d steps: %+v, %v", epoch, p.Steps(), report, ok)
	}
	sizes := map[int32]int{}
	for _, l := range cfg.Labels {
		sizes[l]++
	}
	shown, read := map[int64]bool{}, map[int]bool{}
	var window Window
	windows, largest := 0, int64(0)
	for i := range p.Steps() {
		b := epoch*p.Steps() + i
		if b >= window.To || i == 0 {
			window, _ = p.Window(b)
			windows++
			if window.From != b || window.To <= b {
				t.Fatalf("batch %d: window of batches %d to %d", b, window.From, window.To)
			}
			var bytes int64
			for _, g := range window.Groups {
				if bytes += cfg.Layout[g].Bytes; read[g] {
					t.Fatalf("batch %d: row group %d is read again", b, g)
				}
				read[g] = true
			}
			if largest = max(largest, bytes); bytes > cfg.Window/2 {
				t.Fatalf("batch %d: a window of %d bytes, the budget is %d", b, bytes, cfg.Window)
			}
		}
		ids := p.Batch(b, nil)
		if len(ids) != cfg.P*cfg.K {
			t.Fatalf("batch %d has %d ids", b, len(ids))
		}
		classes := map[int32]bool{}
		for s := 0; s < len(ids); s += cfg.K {
			label := cfg.Labels[ids[s]]
			if classes[label] || label == pipeline.Unknown {
				t.Fatalf("batch %d: class %d twice", b, label)
			}
			classes[label] = true
			hand := ids[s : s+cfg.K]
			for i, id := range hand {
				if cfg.Labels[id] != label || !slices.Contains(window.Groups, groupOf(cfg.Layout, id)) {
					t.Fatalf("batch %d: sample %d of class %d in a hand of class %d", b, id, cfg.Labels[id], label)
				}
				if shown[id] && (sizes[label] >= cfg.K || !slices.Contains(hand[:i], id)) {
					t.Fatalf("batch %d: sample %d is shown again", b, id)
				}
				shown[id] = true
			}
		}
	}
	if windows > report.Windows || largest > report.Bytes || report.Least > cfg.Window {
		t.Fatalf("%d windows of up to %d bytes, reported %+v", windows, largest, report)
	}
	r := p.Report()
	unplanned := r.Rows - r.Images
	if got := report.Images + report.Few + report.Rest + report.Over + unplanned; int64(len(shown)) != report.Images || got != r.Rows {
		t.Fatalf("epoch %d shows %d rows and accounts for %d of %d: %+v", epoch, len(shown), got, r.Rows, report)
	}
	return shown
}

func TestWindowPlan(t *testing.T) {
	for name, cfg := range windowCases() {
		t.Run(name, func(t *testing.T) {
			cfg.Seed = 11
			p := newTestPlan(t, cfg)
			seen := map[int64]bool{}
			epochs := int64(0)
			for ; epochs < 400 && int64(len(seen)) < p.Report().Images; epochs++ {
				for id := range checkEpoch(t, p, epochs) {
					seen[id] = true
				}
			}
			r, _ := p.Windows(0)
			t.Logf("%d windows, %d batches, %d of %d rows; every row in %d epochs; few %d, rest %d, over %d; least %d of %d",
				r.Windows, r.Batches, r.Images, p.Report().Images, epochs, r.Few, r.Rest, r.Over, r.Least, cfg.Window)
			if int64(len(seen)) < p.Report().Images {
				t.Errorf("%d of %d rows were never shown in %d epochs", p.Report().Images-int64(len(seen)), p.Report().Images, epochs)
			}
		})
	}
}

// TestWindowRandom: whatever the data and the budget, there are exact batches
// within it, or the least budget that would do is named, and does.
func TestWindowRandom(t *testing.T) {
	n := 60
	if os.Getenv("TERCET_LONG") != "" {
		n = 5000
	}
	dice := rand.New(rand.NewPCG(77, 1))
	windowed := 0
	for i := range n {
		cfg := PlanConfig{P: 1 + dice.IntN(6), K: 2 + dice.IntN(5), Seed: dice.Uint64(), Short: Short(dice.IntN(2))}
		labels := sortedLabels(cfg.P+dice.IntN(60), 1, 1+dice.IntN(120), dice.Uint64())
		for range dice.IntN(3) {
			labels[dice.IntN(len(labels))] = pipeline.Unknown
		}
		switch dice.IntN(3) {
		case 0:
			labels = shuffledLabels(labels)
		case 1: // sorted, twice over
			labels = append(labels, labels...)
		}
		cfg.Labels = labels
		for first := 0; first < len(labels); {
			rows := min(1+dice.IntN(60), len(labels)-first)
			cfg.Layout = append(cfg.Layout, pipeline.RowGroup{First: int64(first), Rows: int64(rows), Bytes: int64(rows * (1 + dice.IntN(20)))})
			first += rows
		}
		cfg.Window = 2 + cfg.Layout.Bytes()*int64(1+dice.IntN(60))/100
		p, err := NewPlan(cfg)
		if use, ok := errors.AsType[*UsageError](err); ok && use.Field == "PlanConfig.Window" {
			var have, least int64
			if _, err := fmt.Sscanf(use.Reason, "is %d bytes, want at least %d:", &have, &least); err != nil || least <= have {
				t.Fatalf("%d: %q", i, use.Reason)
			}
			cfg.Window = least
			p, err = NewPlan(cfg)
		}
		if use, ok := errors.AsType[*UsageError](err); ok && use.Field == "PlanConfig.P" {
			continue // too few classes, whatever the budget
		}
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if p.windows == nil {
			continue
		}
		windowed++
		for e := range int64(2) {
			checkEpoch(t, p, e)
		}
	}
	if windowed < n/3 {
		t.Errorf("%d of %d plans have windows", windowed, n)
	}
}

// TestWindowEpochsDiffer: each epoch deals the row groups anew.
func TestWindowEpochsDiffer(t *testing.T) {
	p := newTestPlan(t, windowCases()["many classes, sorted"])
	together := func(e int64) string {
		w, _ := p.Window(e * p.Steps())
		return fmt.Sprint(slices.Sorted(slices.Values(w.Groups)))
	}
	if together(0) == together(1) || together(1) == together(2) {
		t.Errorf("epochs begin with the same windows %s", together(1))
	}
	if w, _ := p.Window(0); slices.ContainsFunc(w.Groups, func(g int) bool { return !slices.Contains(w.Groups, g+1) }) == false {
		t.Errorf("a window of neighbours alone: %v", w.Groups)
	}
}

// TestWindowOneByOne: batches in any order are those of the stream.
func TestWindowOneByOne(t *testing.T) {
	cfg := windowCases()["uneven classes, sorted"]
	p := newTestPlan(t, cfg)
	dice := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		b := dice.Int64N(5 * p.Steps())
		if got, want := newTestPlanLike(t, p, cfg).Batch(b, nil), p.Batch(b, nil); !slices.Equal(got, want) {
			t.Fatalf("batch %d is %v, want %v", b, got, want)
		}
	}
	if far := p.Batch(lastNumber(p.cfg), nil); len(far) != cfg.P*cfg.K {
		t.Errorf("the last batch there could be has %d ids", len(far))
	}
}

// newTestPlanLike is p without what it remembers.
func newTestPlanLike(t *testing.T, p *Plan, cfg PlanConfig) *Plan {
	t.Helper()
	q := *p.windows
	q.deals, q.fills = nil, nil
	inner := &planned{cfg: p.cfg, windows: &q, planClasses: p.planClasses}
	return &Plan{planned: inner}
}

// TestWindowFollowing: a row's substitutes are the others of its class in its
// window, those first that are in no batch.
func TestWindowFollowing(t *testing.T) {
	cfg := windowCases()["uneven classes, sorted"]
	p := newTestPlan(t, cfg)
	for b := int64(0); b < p.Steps(); b += 11 {
		w, _ := p.Window(b)
		shown := map[int64]bool{}
		for n := w.From; n < w.To; n++ {
			for _, id := range p.Batch(n, nil) {
				shown[id] = true
			}
		}
		for i := range cfg.P {
			hand := p.Batch(b, nil)[i*cfg.K : (i+1)*cfg.K]
			want := map[int64]bool{} // whether it is in a batch
			for _, g := range w.Groups {
				for id := cfg.Layout[g].First; id < cfg.Layout[g].First+cfg.Layout[g].Rows; id++ {
					if cfg.Labels[id] == cfg.Labels[hand[0]] && !slices.Contains(hand, id) {
						want[id] = shown[id]
					}
				}
			}
			late := false
			for _, id := range p.following(b, i, nil) {
				in, ok := want[id]
				if !ok || late && !in {
					t.Fatalf("batch %d, hand %v: %d follows", b, hand, id)
				}
				late = late || in
				delete(want, id)
			}
			if len(want) > 0 {
				t.Fatalf("batch %d, hand %v: %v do not follow", b, hand, want)
			}
		}
	}
}

func TestWindowBudget(t *testing.T) {
	for name, cfg := range windowCases() {
		t.Run(name, func(t *testing.T) {
			cfg.Window = 1
			_, err := NewPlan(cfg)
			var use *UsageError
			if !errors.As(err, &use) || use.Field != "PlanConfig.Window" {
				t.Fatalf("a budget of 1 byte: %v", err)
			}
			var have, least int64
			if _, err := fmt.Sscanf(use.Reason, "is %d bytes, want at least %d:", &have, &least); err != nil {
				t.Fatalf("%q names no least budget: %v", use.Reason, err)
			}
			cfg.Window = least
			p, err := NewPlan(cfg)
			if err != nil {
				t.Fatalf("with the least budget: %v", err)
			}
			if p.windows != nil {
				checkEpoch(t, p, 0)
			}
		})
	}
}

// TestWindowFits: where all images fit, the plan is the one without a budget.
func TestWindowFits(t *testing.T) {
	cfg := windowCases()["shuffled"]
	cfg.Window = cfg.Layout.Bytes()
	plain := cfg
	plain.Window, plain.Layout = 0, nil
	p, q := newTestPlan(t, cfg), newTestPlan(t, plain)
	if _, ok := p.Windows(0); ok || p.State() != q.State() {
		t.Errorf("states %+v and %+v", p.State(), q.State())
	}
	for b := range int64(50) {
		if !slices.Equal(p.Batch(b, nil), q.Batch(b, nil)) {
			t.Fatalf("batch %d differs", b)
		}
	}
}

func TestWindowConfig(t *testing.T) {
	good := windowCases()["shuffled"]
	for _, tt := range []struct {
		name, field string
		change      func(*PlanConfig)
	}{
		{"negative", "PlanConfig.Window", func(c *PlanConfig) { c.Window = -1 }},
		{"no layout", "PlanConfig.Layout", func(c *PlanConfig) { c.Layout = nil }},
		{"a gap", "PlanConfig.Layout", func(c *PlanConfig) { c.Layout = slices.Delete(slices.Clone(c.Layout), 3, 4) }},
		{"rows missing", "PlanConfig.Layout", func(c *PlanConfig) { c.Layout = c.Layout[:5] }},
	} {
		cfg := good
		tt.change(&cfg)
		_, err := NewPlan(cfg)
		if use, ok := errors.AsType[*UsageError](err); !ok || use.Field != tt.field {
			t.Errorf("%s: %v, want an error of %s", tt.name, err, tt.field)
		}
	}
	// A state goes on with the same budget and layout alone.
	p := newTestPlan(t, good)
	for _, change := range []func(*PlanConfig){
		func(c *PlanConfig) { c.Window += 2 },
		func(c *PlanConfig) { c.Window = 0 },
		func(c *PlanConfig) {
			c.Layout = slices.Clone(c.Layout)
			c.Layout[2].Bytes++
		},
	} {
		cfg := good
		change(&cfg)
		_, err := newTestPlan(t, cfg).At(p.State())
		if state, ok := errors.AsType[*pipeline.StateError](err); !ok || state.Field != "config" {
			t.Errorf("resumed with other windows: %v", err)
		}
	}
}

func TestWindowResume(t *testing.T) {
	cfg := windowCases()["ten classes, sorted"]
	cfg.Seed = 2
	p := newTestPlan(t, cfg)
	epoch, _ := runPlan(t, p, 8, -1)
	next, _ := runPlan(t, p.Epoch(1), 0, -1)
	if len(epoch) != int(p.Steps()) || len(next) != len(epoch) {
		t.Fatalf("epochs of %d and %d batches, want %d", len(epoch), len(next), p.Steps())
	}
	for k := range len(epoch) + 1 {
		if k%7 != 0 && k < len(epoch)-1 && os.Getenv("TERCET_LONG") == "" {
			continue
		}
		state := p.stateAt(int64(k))
		q, err := newTestPlan(t, cfg).At(state)
		if err != nil {
			t.Fatal(err)
		}
		rest, last := runPlan(t, q, k%3, -1)
		want := epoch[k:]
		if k == len(epoch) {
			want = next
		}
		if !slices.Equal(rest, want) {
			t.Fatalf("resumed after %d batches: the stream differs", k)
		}
		if text := pipeline.Digest("", last); len(text) == 0 || last.Next%p.Steps() != 0 {
			t.Fatalf("the epoch ends at %+v", last)
		}
	}
}

// TestWindowGolden pins the batches of a windowed plan: they are a file format.
func TestWindowGolden(t *testing.T) {
	cfg := windowCases()["uneven classes, sorted"]
	cfg.Seed = 42
	p := newTestPlan(t, cfg)
	var text strings.Builder
	for _, b := range []int64{0, 1, p.Steps() - 1, p.Steps(), 10*p.Steps() + 3} {
		fmt.Fprintln(&text, b, p.Batch(b, nil))
	}
	const want = "706bb0386d569732"
	if got := pipeline.Digest("golden", text.String())[:16]; got != want {
		t.Errorf("batches are %s, digest %s, want %s", text.String(), got, want)
	}
}
