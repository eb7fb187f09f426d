package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tercet-ml/tercet/pipeline"
)

var resumeConfig = PlanConfig{
	Labels: labelsOf(1, 3, 50, 9, 5, 2, 6, 12, 40, 17, 33, 8, 8),
	P:      7, K: 5, Seed: 9, Steps: 500, Config: "rest",
}

// planRelay is a stage that changes nothing.
type planRelay struct{}

func (planRelay) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// runPlan ranges over up to most batches of p and returns them as text, with the
// state after the last.
func runPlan(t *testing.T, p *Plan, prefetch int, most int) ([]string, pipeline.State) {
	t.Helper()
	var stream []string
	state := p.State()
	if most == 0 {
		return nil, state
	}
	for b, err := range pipeline.From(p).Prefetch(prefetch).Then(planRelay{}).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, fmt.Sprint(b.Number, b.P, b.K, b.IDs, b.Labels, b.Generation, b.Extra))
		state = b.State()
		if len(stream) == most {
			break
		}
	}
	return stream, state
}

// resumePlan goes on from a state as it is stored.
func resumePlan(t *testing.T, s pipeline.State) *Plan {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 1024 {
		t.Fatalf("state of %d bytes", len(text))
	}
	var back pipeline.State
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	p, err := newTestPlan(t, resumeConfig).At(back)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanRun(t *testing.T) {
	p := newTestPlan(t, resumeConfig)
	for range 2 { // a flow may be ranged over again
		for b, err := range pipeline.From(p).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if want := p.Batch(b.Number, nil); !slices.Equal(b.IDs, want) || b.P != 7 || b.K != 5 {
				t.Fatalf("batch %d of %d×%d is %v, want %v", b.Number, b.P, b.K, b.IDs, want)
			}
			for i, id := range b.IDs {
				if b.Labels[i] != resumeConfig.Labels[id] || b.Labels[i] != b.Labels[i-i%b.K] {
					t.Fatalf("batch %d: labels %v", b.Number, b.Labels)
				}
			}
			if s := b.State(); s.Next != b.Number+1 || s.Generation != 0 || s.Check(p.State()) != nil {
				t.Fatalf("batch %d: state %+v", b.Number, s)
			}
		}
	}
}

func TestResumeAfterEveryBatch(t *testing.T) {
	p := newTestPlan(t, resumeConfig)
	epoch, _ := runPlan(t, p, 0, -1)
	next, _ := runPlan(t, p.Epoch(1), 0, -1)
	if len(epoch) != 500 || len(next) != 500 {
		t.Fatalf("epochs of %d and %d batches", len(epoch), len(next))
	}
	check := func(k, ahead, aheadAfter int) {
		before, state := runPlan(t, p, ahead, k)
		rest, _ := runPlan(t, resumePlan(t, state), aheadAfter, -1)
		want := epoch[k:]
		if k == len(epoch) {
			want = next // after the last batch comes the whole next epoch
		}
		if !slices.Equal(before, epoch[:k]) || !slices.Equal(rest, want) {
			t.Fatalf("stopped after %d batches: the stream differs", k)
		}
	}
	ahead := []int{0, 1, 8, 64}
	for k := range len(epoch) + 1 {
		if !planLong {
			check(k, ahead[k%4], ahead[k/4%4])
			continue
		}
		for _, processors := range []int{1, 2, 8} {
			before := runtime.GOMAXPROCS(processors)
			for _, a := range ahead {
				for _, b := range ahead {
					check(k, a, b)
				}
			}
			runtime.GOMAXPROCS(before)
		}
	}
}

func TestResumeAtRandom(t *testing.T) {
	cycles := 100
	if planLong {
		cycles = 1000
	}
	p := newTestPlan(t, resumeConfig)
	d := newDice(newPlanKey("stops"))
	var want, got []string
	for e := range int64(3) {
		epoch, _ := runPlan(t, p.Epoch(e), 0, -1)
		want = append(want, epoch...)
	}
	state := pipeline.State{} // the beginning
	for range cycles {
		part, after := runPlan(t, resumePlan(t, state), int(d.below(9)), 1+int(d.below(25)))
		got, state = append(got, part...), after
		if len(got) >= len(want) {
			break
		}
	}
	if n := min(len(got), len(want)); n < 500 || !slices.Equal(got[:n], want[:n]) {
		t.Fatalf("%d batches with stops differ from those without", n)
	}
}

func TestResumeAtTheEnd(t *testing.T) {
	p := newTestPlan(t, resumeConfig)
	_, last := runPlan(t, p, 8, 500)     // left at the last batch
	_, exhausted := runPlan(t, p, 8, -1) // left when there were no more
	if last != exhausted || last.Next != 500 {
		t.Errorf("states %+v and %+v", last, exhausted)
	}
	want, _ := runPlan(t, p.Epoch(1), 0, -1)
	if got, state := runPlan(t, resumePlan(t, last), 0, -1); !slices.Equal(got, want) || state.Next != 1000 {
		t.Errorf("the next epoch has %d batches and ends at %d", len(got), state.Next)
	}
	if s := p.Epoch(3).State(); s.Next != 1500 {
		t.Errorf("epoch 3 starts at %d", s.Next)
	}
}

func TestStateOfAnotherRunIsRefused(t *testing.T) {
	good := newTestPlan(t, resumeConfig).State()
	good.Next, good.Generation, good.Snapshot = 17, 4, "rows"
	for _, tt := range []struct {
		field string
		plan  func(*PlanConfig)
		state func(*pipeline.State)
	}{
		{"", func(*PlanConfig) {}, func(*pipeline.State) {}},
		{"config", func(c *PlanConfig) { c.P++ }, nil},
		{"config", func(c *PlanConfig) { c.K++ }, nil},
		{"config", func(c *PlanConfig) { c.Short = Drop }, nil},
		{"config", func(c *PlanConfig) { c.Steps++ }, nil},
		{"config", func(c *PlanConfig) { c.Steps = 0 }, nil},
		{"config", func(c *PlanConfig) { c.Config = "other" }, nil},
		{"seed", func(c *PlanConfig) { c.Seed++ }, nil},
		{"data", func(c *PlanConfig) { c.Data = "other" }, nil},
		{"data", func(c *PlanConfig) { c.Labels = slices.Clone(c.Labels); c.Labels[0] = 1 }, nil},
		{"format", nil, func(s *pipeline.State) { s.Format++ }},
		{"data", nil, func(s *pipeline.State) { s.Data = "" }},
		{"config", nil, func(s *pipeline.State) { s.Config = "" }},
		{"seed", nil, func(s *pipeline.State) { s.Seed-- }},
		{"next", nil, func(s *pipeline.State) { s.Next = -1 }},
		{"next", nil, func(s *pipeline.State) { s.Next = math.MinInt64 }},
		{"next", nil, func(s *pipeline.State) { s.Next = math.MaxInt64 }},
	} {
		cfg, state := resumeConfig, good
		if cfg.P = 7; tt.plan != nil {
			tt.plan(&cfg)
		}
		if tt.state != nil {
			tt.state(&state)
		}
		p, err := newTestPlan(t, cfg).At(state)
		var refused *pipeline.StateError
		switch {
		case tt.field == "" && (err != nil || p.State().Next != 17):
			t.Errorf("its own state is refused: %v", err)
		case tt.field != "" && (!errors.As(err, &refused) || refused.Field != tt.field):
			t.Errorf("error %v, want one that names %s", err, tt.field)
		}
	}
}

func TestStateIsSmall(t *testing.T) {
	cfg := PlanConfig{Labels: evenLabels(50_000, 3), P: 1000, K: 1000, Seed: math.MaxUint64, Steps: 1, Config: strings.Repeat("x", 5000)}
	s := newTestPlan(t, cfg).State()
	s.Next, s.Generation, s.Snapshot = math.MaxInt64, math.MaxInt32, s.Data
	if text, err := json.Marshal(s); err != nil || len(text) > 1024 {
		t.Errorf("state of %d bytes, %v", len(text), err)
	}
}

func TestNoSuchEpoch(t *testing.T) {
	p := newTestPlan(t, resumeConfig)
	for _, e := range []int64{-1, math.MinInt64, math.MaxInt64} {
		n := 0
		for _, err := range pipeline.From(p.Epoch(e)).All(t.Context()) {
			if n++; err == nil || !strings.Contains(err.Error(), "no such epoch") {
				t.Errorf("epoch %d: %v", e, err)
			}
		}
		if n != 1 {
			t.Errorf("epoch %d: %d values", e, n)
		}
	}
}

func TestPlanLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPlan(t, resumeConfig)
		for most := range 5 {
			runPlan(t, p, most, most+1)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		stop := errors.New("enough")
		var last error
		for _, err := range pipeline.From(p).Prefetch(4).Then(planRelay{}).All(ctx) {
			cancel(stop)
			last = err
		}
		if !errors.Is(last, stop) {
			t.Errorf("cancelled: %v", last)
		}
	})
}
