package stages

import (
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// Wherever a scan is broken off and gone on with, with whatever blocks, the
// settled stretches are the triplets and the report of one run.
func TestScanInStretches(t *testing.T) {
	b := clustered(300, 16, 20)
	cfg := ScanConfig{
		Mine:       MineConfig{Loss: loss.TripletMargin{Margin: 0.2}, PerPair: 2, Guards: Guards{SkipRanks: 1, ClassCap: 90}},
		Embeddings: b.Embeddings, Labels: b.Labels, BarePairs: true,
	}
	whole, err := NewScan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := drain(t, whole)
	if r := whole.Report(); r.Guarded.ClassCap == 0 || r.Triplets < 500 {
		t.Fatalf("too little to mean something: %+v", r)
	}
	for _, pieces := range []int{1, 2, 1000} { // stretches before the next process goes on
		var kept []pipeline.MinedTriplet
		var report MineReport
		for from := 0; from < len(b.Labels); {
			cfg.Block = 7 + from%5
			s, err := NewScan(cfg)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for st, err := range pipeline.From(s.Stretches(from)).All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				kept = append(kept, st.Triplets...)
				report.Add(&st.Report)
				from = int(st.Next)
				if n++; n == pieces {
					break
				}
			}
		}
		s, err := NewScan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got := collectTriplets(t, pipeline.Via(pipeline.From(pipeline.Slice(kept)), s.Settle(report)))
		if !slices.Equal(got, want) {
			t.Errorf("%d stretches at a time: other triplets", pieces)
		}
		if s.Report() != whole.Report() {
			t.Errorf("%d stretches at a time: the report is\n%+v, want\n%+v", pieces, s.Report(), whole.Report())
		}
	}
}

func collectTriplets(t *testing.T, f pipeline.Flow[pipeline.MinedTriplet]) (list []pipeline.MinedTriplet) {
	t.Helper()
	for m, err := range f.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// A miner's stretches are what [Mined] makes of its batches, and their reports
// add up to the miner's.
func TestMinerInStretches(t *testing.T) {
	b := clustered(200, 8, 10)
	snapshot, err := SnapshotOf(b.Embeddings, SnapshotConfig{Fingerprint: "test"})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := NewCache(CacheConfig{First: snapshot})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(PlanConfig{Labels: b.Labels, P: 5, K: 3, Seed: 2, Steps: 12})
	if err != nil {
		t.Fatal(err)
	}
	newMiner := func() *Miner {
		m, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 0.5}, Guards: Guards{ClassCap: 4}}, BarePairs: true})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	whole := newMiner()
	want := collectTriplets(t, pipeline.Via(pipeline.From(plan).Then(&Embed{Cache: cache}, whole), Mined{}))
	var got []pipeline.MinedTriplet
	var report MineReport
	state := plan.State()
	for range 12 { // every batch by a process of its own
		p, err := plan.At(state)
		if err != nil {
			t.Fatal(err)
		}
		for st, err := range pipeline.Via(pipeline.From(p).Then(&Embed{Cache: cache}), newMiner().Stretches()).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, st.Triplets...)
			report.Add(&st.Report)
			state.Next = st.Next
			break
		}
	}
	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("%d triplets, want the %d of one run", len(got), len(want))
	}
	if report != whole.Report() {
		t.Errorf("the reports add up to\n%+v, want\n%+v", report, whole.Report())
	}
}
