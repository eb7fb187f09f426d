package stages

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// labelsOf are rows of class step·c for each size c, the classes taking turns.
func labelsOf(step int32, sizes ...int) []int32 {
	var labels []int32
	left := slices.Clone(sizes)
	for more := true; more; {
		more = false
		for c := range left {
			if left[c] > 0 {
				labels = append(labels, step*int32(c))
				left[c]--
				more = true
			}
		}
	}
	return labels
}

func newTestPlan(t testing.TB, cfg PlanConfig) *Plan {
	t.Helper()
	p, err := NewPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A planCheck holds a plan's batches, from the first on, against its promises,
// which it works out from the labels alone.
type planCheck struct {
	cfg    PlanConfig
	sizes  map[int32]int // of planned classes
	visits map[int32]int
	shown  map[int64]int
	cycle  map[int32]bool // classes in the current cycle
}

func newPlanCheck(cfg PlanConfig) *planCheck {
	c := &planCheck{cfg, map[int32]int{}, map[int32]int{}, map[int64]int{}, map[int32]bool{}}
	for _, l := range cfg.Labels {
		if l >= 0 {
			c.sizes[l]++
		}
	}
	for l, n := range c.sizes {
		if n == 1 || n < cfg.K && cfg.Short == Drop {
			delete(c.sizes, l)
		}
	}
	return c
}

// see checks the next batch.
func (c *planCheck) see(ids []int64) error {
	if len(ids) != c.cfg.P*c.cfg.K {
		return fmt.Errorf("%d ids, want %d", len(ids), c.cfg.P*c.cfg.K)
	}
	inBatch := map[int32]bool{}
	for group := range slices.Chunk(ids, c.cfg.K) {
		class := c.cfg.Labels[group[0]]
		n := c.sizes[class]
		if n == 0 || inBatch[class] || c.cycle[class] {
			return fmt.Errorf("class %d of %d images comes again in the batch (%v), again in the cycle (%v) or not from the plan", class, n, inBatch[class], c.cycle[class])
		}
		inBatch[class] = true
		if c.cycle[class] = true; len(c.cycle) == len(c.sizes) {
			clear(c.cycle)
		}
		c.visits[class]++
		for round := range slices.Chunk(group, n) {
			different := map[int64]bool{}
			for _, id := range round {
				if c.cfg.Labels[id] != class || different[id] {
					return fmt.Errorf("class %d of %d images: %v", class, n, group)
				}
				different[id] = true
			}
		}
		for _, id := range group {
			// The whole passes over the class so far have shown every image as often.
			c.shown[id]++
			if most := (c.visits[class]*c.cfg.K + n - 1) / n; c.shown[id] > most {
				return fmt.Errorf("image %d of class %d: shown %d times in visit %d", id, class, c.shown[id], c.visits[class])
			}
		}
	}
	return nil
}

// covered says whether every image of every planned class was shown n times.
func (c *planCheck) covered(n int) error {
	for id, l := range c.cfg.Labels {
		if c.sizes[l] > 0 && c.shown[int64(id)] < n {
			return fmt.Errorf("image %d of class %d (%d images) was shown %d times, want %d", id, l, c.sizes[l], c.shown[int64(id)], n)
		}
	}
	return nil
}

// randomPlan is a configuration of up to 40 classes that has a plan.
func randomPlan(d *dice) PlanConfig {
	for {
		cfg := PlanConfig{K: 2 + int(d.below(9)), Short: Short(d.below(2)), Seed: d.next()}
		var sizes []int
		for range 1 + d.below(40) {
			switch d.below(4) {
			case 0:
				sizes = append(sizes, 1+int(d.below(3)))
			case 1:
				sizes = append(sizes, cfg.K)
			default:
				sizes = append(sizes, int(d.below(40)))
			}
		}
		cfg.Labels = append(labelsOf(3, sizes...), pipeline.Unknown)
		classes := len(newPlanCheck(cfg).sizes)
		if classes == 0 {
			continue
		}
		cfg.P = 1 + int(d.below(uint64(classes)))
		if d.below(4) == 0 {
			cfg.P = classes
		}
		return cfg
	}
}

func TestPlanKeepsItsPromises(t *testing.T) {
	plans := 150
	if planLong {
		plans = 5000
	}
	d := newDice(newPlanKey("plans"))
	for range plans {
		cfg := randomPlan(&d)
		p, check := newTestPlan(t, cfg), newPlanCheck(cfg)
		what := fmt.Sprintf("C = %d, P = %d, K = %d, %v", len(check.sizes), cfg.P, cfg.K, cfg.Short)
		for e := range 3 {
			for i := range p.Steps() {
				b := int64(e)*p.Steps() + i
				if err := check.see(p.Batch(b, nil)); err != nil {
					t.Fatalf("%s, batch %d: %v", what, b, err)
				}
			}
			if err := check.covered(e + 1); err != nil {
				t.Fatalf("%s, after epoch %d: %v", what, e, err)
			}
		}
		// One batch fewer is not enough for an epoch, but for the last one's surplus.
		r := p.Report()
		if short := (p.Steps() - 1) * int64(cfg.P); short >= int64(r.Planned)*((r.Largest+int64(cfg.K)-1)/int64(cfg.K)) {
			t.Fatalf("%s: %d steps are more than needed", what, p.Steps())
		}
	}
}

func TestPlanOfManyBatches(t *testing.T) {
	batches := int64(20_000)
	if planLong {
		batches = 1_000_000
	}
	cfg := PlanConfig{Labels: labelsOf(1, 30, 2, 7, 9, 9, 100, 8, 4, 31, 1, 64), P: 8, K: 4, Seed: 3} // C = 10 < 2P
	p, check := newTestPlan(t, cfg), newPlanCheck(cfg)
	var ids []int64
	for b := range batches {
		ids = p.Batch(b, ids[:0])
		if err := check.see(ids); err != nil {
			t.Fatalf("batch %d: %v", b, err)
		}
	}
}

// Batch b is the same in any order, from another plan, from many goroutines and
// from one that remembers nearly nothing.
func TestPlanIsPure(t *testing.T) {
	cfg := PlanConfig{Labels: labelsOf(2, 3, 50, 9, 5, 2, 6, 12, 40, 17, 33, 8, 8), P: 7, K: 5, Seed: 9}
	p, forgetful := newTestPlan(t, cfg), newTestPlan(t, cfg)
	forgetful.dealer.limit = 1
	want := make([][]int64, 300)
	for b := range want {
		want[b] = p.Batch(int64(b), nil)
		if got := forgetful.Batch(int64(b), nil); !slices.Equal(got, want[b]) {
			t.Fatalf("batch %d is %v without memory, %v with it", b, got, want[b])
		}
	}
	order := make([]uint32, len(want))
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		shuffle(order, newPlanKey("order", seed))
		for _, b := range order[:100] {
			wg.Go(func() {
				if got := p.Batch(int64(b), []int64{-7}); got[0] != -7 || !slices.Equal(got[1:], want[b]) {
					t.Errorf("batch %d is %v, want -7 and %v", b, got, want[b])
				}
			})
		}
	}
	wg.Wait()
	// Far away, with another plan in between.
	far := lastNumber(cfg) - 1
	if a, b := p.Batch(far, nil), newTestPlan(t, cfg).Batch(far, nil); !slices.Equal(a, b) {
		t.Errorf("batch %d is %v and %v", far, a, b)
	}
	check := newPlanCheck(cfg)
	if err := check.see(p.Batch(far, nil)); err != nil {
		t.Errorf("batch %d: %v", far, err)
	}
}

func TestPlanDependsOnSeed(t *testing.T) {
	cfg := PlanConfig{Labels: evenLabels(50, 50), P: 10, K: 5}
	seen := map[string]uint64{}
	for cfg.Seed = range 100 {
		p := newTestPlan(t, cfg)
		for e := range int64(3) {
			ids := fmt.Sprint(p.Batch(e*p.Steps(), nil))
			if other, ok := seen[ids]; ok {
				t.Errorf("seeds %d and %d begin an epoch alike", cfg.Seed, other)
			}
			seen[ids] = cfg.Seed
		}
	}
}

// The digest and the batch are those of a second implementation, which builds
// every pass from the first on. They belong to version 1 of the format: see
// [keyPrefix].
func TestPlanGolden(t *testing.T) {
	labels := slices.Insert(labelsOf(3, 1, 2, 3, 4, 5, 7, 11, 13, 20, 40), 5, pipeline.Unknown)
	p := newTestPlan(t, PlanConfig{Labels: labels, P: 7, K: 4, Seed: 42})
	h := sha256.New()
	var ids []int64
	for b := range int64(200) {
		ids = p.Batch(b, ids[:0])
		binary.Write(h, binary.LittleEndian, ids)
	}
	if want := []int64{21, 28, 13, 3, 29, 35, 22, 4, 23, 46, 6, 36, 51, 16, 7, 63, 11, 1, 1, 11, 57, 81, 44, 33, 2, 12, 20, 2}; !slices.Equal(ids, want) {
		t.Errorf("batch 199 is %v, want %v", ids, want)
	}
	if got, want := hex.EncodeToString(h.Sum(nil)), "429491786556313f65a9d8a24fbef43a2ee114016e085bf6899d77e87e3fa1af"; got != want {
		t.Errorf("200 batches have digest %s, want %s", got, want)
	}
}

func TestPlanReport(t *testing.T) {
	labels := append(labelsOf(1, 1, 3, 4, 5, 1, 2, 9), pipeline.Unknown, pipeline.Unknown)
	for _, tt := range []struct {
		short   Short
		planned []int32
		images  int64
		steps   int64
	}{{Repeat, []int32{1, 2, 3, 5, 6}, 23, 8}, {Drop, []int32{2, 3, 6}, 18, 5}} {
		p := newTestPlan(t, PlanConfig{Labels: labels, P: 2, K: 4, Short: tt.short})
		want := PlanReport{Rows: 27, Unknown: 2, Classes: 7, Single: 2, Short: 2, Planned: len(tt.planned), Images: tt.images, Largest: 9}
		if p.Report() != want || !slices.Equal(p.Classes(), tt.planned) || p.Steps() != tt.steps {
			t.Errorf("%v: %+v, classes %v, %d steps; want %+v, %v, %d", tt.short, p.Report(), p.Classes(), p.Steps(), want, tt.planned, tt.steps)
		}
	}
}

func TestNewPlanRefuses(t *testing.T) {
	ok := PlanConfig{Labels: labelsOf(1, 5, 5, 5, 2, 1), P: 2, K: 4}
	for _, tt := range []struct {
		change func(*PlanConfig)
		want   string
	}{
		{func(c *PlanConfig) { c.P = 0 }, "PlanConfig.P is 0"},
		{func(c *PlanConfig) { c.K = 1 }, "PlanConfig.K is 1, want 2"},
		{func(c *PlanConfig) { c.P, c.K = math.MaxInt, math.MaxInt }, "at most 16777216 images"},
		{func(c *PlanConfig) { c.Short = 7 }, "PlanConfig.Short is 7"},
		{func(c *PlanConfig) { c.Steps = -1 }, "PlanConfig.Steps is -1"},
		{func(c *PlanConfig) { c.Steps = math.MaxInt64 }, "PlanConfig.Steps is 9223372036854775807"},
		{func(c *PlanConfig) { c.Labels = []int32{0, 0, -2} }, "PlanConfig.Labels[2] is -2"},
		{func(c *PlanConfig) { c.P = 5 }, "stages: PlanConfig.P is 5, but only 4 classes have 2 images or more: lower P"},
		{func(c *PlanConfig) { c.P, c.Short = 4, Drop }, "only 3 classes have 4 images or more (Short is Drop, and 1 class has from 2 to 3)"},
		{func(c *PlanConfig) { c.P, c.Labels = 1, labelsOf(1, 1, 1) }, "no class has 2 images or more"},
		{func(c *PlanConfig) { c.Labels = labelsOf(1, 1, 8) }, "only 1 class has 2 images or more"},
		{func(c *PlanConfig) { c.Labels = nil }, "no class has"},
	} {
		cfg := ok
		tt.change(&cfg)
		if _, err := NewPlan(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q in it", err, tt.want)
		}
	}
	newTestPlan(t, ok)
}

func TestParseShort(t *testing.T) {
	for _, s := range []Short{Repeat, Drop} {
		if got, err := ParseShort(s.String()); got != s || err != nil {
			t.Errorf("ParseShort(%q) = %v, %v", s.String(), got, err)
		}
	}
	if _, err := ParseShort("pad"); err == nil {
		t.Error("ParseShort took a policy there is not")
	}
}

func TestPlanOf100000Classes(t *testing.T) {
	cfg := PlanConfig{Labels: evenLabels(100_000, 5), P: 64, K: 4, Seed: 1, Data: "data"}
	start := time.Now()
	p, check := newTestPlan(t, cfg), newPlanCheck(cfg)
	for b := range int64(3200) { // two cycles and the border between them
		if err := check.see(p.Batch(b, nil)); err != nil {
			t.Fatalf("batch %d: %v", b, err)
		}
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestPlanBatchPanicsOutOfRange(t *testing.T) {
	p := newTestPlan(t, PlanConfig{Labels: evenLabels(3, 3), P: 2, K: 2})
	for _, b := range []int64{-1, math.MinInt64, math.MaxInt64} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Batch(%d) is not refused", b)
				}
			}()
			p.Batch(b, nil)
		}()
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte{5, 5, 5, 9, 1, 2}, uint8(2), uint8(4), uint64(1), int64(7), false)
	f.Add([]byte{2, 2, 2}, uint8(3), uint8(9), uint64(0), int64(1)<<40, true)
	f.Add([]byte{8, 0, 200, 8, 8, 8, 8, 8, 8, 8}, uint8(8), uint8(8), uint64(5), int64(0), true)
	f.Fuzz(func(t *testing.T, sizes []byte, p, k uint8, seed uint64, b int64, drop bool) {
		cfg := PlanConfig{P: int(p), K: int(k), Seed: seed}
		if drop {
			cfg.Short = Drop
		}
		var counts []int
		for _, n := range sizes[:min(len(sizes), 64)] {
			counts = append(counts, int(n))
		}
		cfg.Labels = labelsOf(1, counts...)
		classes := len(newPlanCheck(cfg).sizes)
		plan, err := NewPlan(cfg)
		if good := p > 0 && k > 1 && int(p) <= classes; good != (err == nil) {
			t.Fatalf("P = %d, K = %d, %d classes: %v", p, k, classes, err)
		}
		if err != nil {
			return
		}
		b = (b & math.MaxInt64) % (lastNumber(cfg) - 3)
		fresh := newTestPlan(t, cfg)
		for i := range int64(4) {
			ids := plan.Batch(b+i, nil)
			if err := newPlanCheck(cfg).see(ids); err != nil {
				t.Fatalf("batch %d: %v", b+i, err)
			}
			if i == 3 && !slices.Equal(ids, fresh.Batch(b+3, nil)) {
				t.Fatalf("batch %d depends on those before it", b+3)
			}
		}
	})
}
