package stages

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

var distances = []loss.Distance{loss.SqEuclidean, loss.Euclidean, loss.Cosine}

// problems calls f with 1,000 random small problems, 10,000 in long tests: every
// rule, distance, pick and guard, many times.
func problems(t *testing.T, scope Scope, repeats bool, f func(t *testing.T, rng *rand.Rand, cfg MineConfig, p *pool)) {
	t.Helper()
	count := 1000
	if planLong {
		count = 10_000
	}
	for i := range count {
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		rule, dist := Rule(i%8), distances[i/8%3]
		if rule == VGG {
			dist = loss.SqEuclidean
		}
		p := small(rng, dist, 4+rng.IntN(24), repeats)
		cfg := settings(rng, dist, rule, scope, p)
		f(t, rng, cfg, p)
		if t.Failed() {
			t.Fatalf("problem %d: %+v\nlabels %v ids %v same %v groups %v\nrows %v", i, cfg, p.labels, p.ids, p.same, p.groups, p.emb)
		}
	}
}

// batchOf is the pool as a batch.
func batchOf(p *pool) *pipeline.Batch {
	b := &pipeline.Batch{Generation: 3}
	b.Embeddings = pipeline.Embeddings{Dim: p.emb.Dim, Data: slices.Clone(p.emb.Data)}
	b.Labels = slices.Clone(p.labels)
	for i := range p.labels {
		b.IDs = append(b.IDs, p.id(i))
	}
	return b
}

// sameReport compares what the definition counts.
func sameReport(t *testing.T, got, want MineReport) {
	t.Helper()
	g := [...]any{got.Pairs, got.NoNegative, got.NoCandidate, got.AllGuarded, got.Guarded}
	w := [...]any{want.Pairs, want.NoNegative, want.NoCandidate, want.AllGuarded, want.Guarded}
	if g != w {
		t.Errorf("report of pairs, no negative, no candidate, all guarded, guards:\n%+v, want\n%+v", g, w)
	}
}

// tripletOf is a defined as a triplet of positions.
func tripletOf(cfg MineConfig, d defined) pipeline.Triplet {
	t := pipeline.Triplet{
		Anchor: int32(d.a), Positive: int32(d.p), Negative: int32(d.n), AP: float32(d.ap), AN: float32(d.an),
		Loss: float32(math.Max(0, cfg.Loss.Edge(d.ap)-d.an)), Kind: pipeline.Easy,
	}
	if d.an <= d.ap {
		t.Kind = pipeline.Hard
	} else if d.an < cfg.Loss.Edge(d.ap) {
		t.Kind = pipeline.SemiHard
	}
	return t
}

func TestMinerIsTheDefinition(t *testing.T) {
	mined := 0
	problems(t, ScopeBatch, true, func(t *testing.T, _ *rand.Rand, cfg MineConfig, p *pool) {
		m, err := NewMiner(MinerConfig{Mine: cfg, Same: p.same, Groups: p.groups})
		if err != nil {
			t.Fatal(err)
		}
		b := batchOf(p)
		list, report := define(cfg, p, p, b.Generation)
		list = capped(cfg, p, list, &report)
		for range 2 { // scratch memory of the first call changes nothing in the second
			m.report = MineReport{}
			if err := m.Mine(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			compare(t, cfg, b.Triplets, list)
			sameReport(t, m.Report(), report)
		}
		mined += len(list)
	})
	if mined < 5000 {
		t.Errorf("%d triplets in all problems: too few to mean something", mined)
	}
}

func compare(t *testing.T, cfg MineConfig, got []pipeline.Triplet, want []defined) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("triplet %d is missing: want %+v", i, want[i])
		case i >= len(want):
			t.Errorf("triplet %d is %+v, want none", i, got[i])
		case got[i] != tripletOf(cfg, want[i]):
			t.Errorf("triplet %d is %+v, want %+v", i, got[i], want[i])
		default:
			continue
		}
		return
	}
}

// fixed is a data set of one generation.
type fixed struct{ of *Snapshot }

func (f fixed) Snapshot(context.Context, int64) (*Snapshot, error) { return f.of, nil }

func TestMinerInDataSetScopeIsTheDefinition(t *testing.T) {
	problems(t, ScopeDataSet, false, func(t *testing.T, rng *rand.Rand, cfg MineConfig, whole *pool) {
		images := &pool{emb: pipeline.Embeddings{Dim: whole.emb.Dim}, same: whole.same, groups: whole.groups}
		for range 2 + rng.IntN(8) {
			id := rng.IntN(len(whole.labels))
			images.ids = append(images.ids, int64(id))
			images.labels = append(images.labels, whole.labels[id])
			images.emb.Data = append(images.emb.Data, whole.emb.Row(id)...)
		}
		list, report := define(cfg, images, whole, 3)
		list = capped(cfg, whole, list, &report)
		for _, workers := range []int{1, 3} {
			m, err := NewMiner(MinerConfig{
				Mine: cfg, Same: whole.same, Groups: whole.groups, Labels: whole.labels, Workers: workers,
				Snapshots: fixed{&Snapshot{Generation: 3, Embeddings: whole.emb}},
			})
			if err != nil {
				t.Fatal(err)
			}
			b := batchOf(images)
			if err := m.Mine(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			sameReport(t, m.Report(), report)
			checkJoined(t, b, images, whole)
			// Back from positions to rows of the data set, to compare.
			for i, tr := range b.Triplets {
				if at := slices.Index(b.IDs, b.IDs[tr.Negative]); at != int(tr.Negative) {
					t.Errorf("negative at position %d is at %d already", tr.Negative, at)
				}
				b.Triplets[i].Negative = int32(b.IDs[tr.Negative])
			}
			compare(t, cfg, b.Triplets, list)
		}
	})
}

// checkJoined checks what mining did to the images of b.
func checkJoined(t *testing.T, b *pipeline.Batch, images, whole *pool) {
	t.Helper()
	n := len(images.ids)
	if len(b.IDs) != n+b.Extra || len(b.Labels) != n+b.Extra || b.Embeddings.Len() != n+b.Extra {
		t.Fatalf("%d ids, %d labels, %d embeddings, want %d + %d", len(b.IDs), len(b.Labels), b.Embeddings.Len(), n, b.Extra)
	}
	if !slices.Equal(b.IDs[:n], images.ids) {
		t.Errorf("the images of the batch are %v, want %v", b.IDs[:n], images.ids)
	}
	extra := b.IDs[n:]
	used := map[int64]bool{}
	for _, tr := range b.Triplets {
		used[b.IDs[tr.Negative]] = true
	}
	for i, id := range extra {
		if i > 0 && extra[i-1] >= id || slices.Contains(images.ids, id) || !used[id] {
			t.Errorf("mined negatives %v joined %v: want new ones that are used, each once, ascending", extra, images.ids)
		}
		if b.Labels[n+i] != whole.labels[id] || !slices.Equal(b.Embeddings.Row(n+i), whole.emb.Row(int(id))) {
			t.Errorf("sample %d joined with another label or embedding", id)
		}
	}
}

// line is a batch of points on a line.
func line(labels string, xs ...float32) *pipeline.Batch {
	b := &pipeline.Batch{Embeddings: pipeline.Embeddings{Dim: 1, Data: xs}}
	for i := range xs {
		b.IDs = append(b.IDs, int64(i))
		b.Labels = append(b.Labels, int32(labels[i])-'A')
	}
	return b
}

func f1() *pipeline.Batch { return line("AABB", 0, 1, 1.5, 4) }
func f2() *pipeline.Batch { return line("AABB", 0, 1, -1, 2) }

func TestFixtures(t *testing.T) {
	for _, tt := range []struct {
		name  string
		batch func() *pipeline.Batch
		dist  loss.Distance
		rule  Rule
		want  string // (a,p,n) loss kind
	}{
		{"F1", f1, loss.Euclidean, All, "012 0.5 semi-hard, 013 0 easy, 102 1.5 hard, 103 0 easy, 230 2 hard, 231 3 hard, 320 0 easy, 321 0.5 semi-hard"},
		{"F1", f1, loss.SqEuclidean, All, "012 0 easy, 013 0 easy, 102 1.75 hard, 103 0 easy, 230 5 hard, 231 7 hard, 320 0 easy, 321 0 easy"},
		{"F1", f1, loss.Euclidean, BatchAll, "012 0.5 semi-hard, 102 1.5 hard, 230 2 hard, 231 3 hard, 321 0.5 semi-hard"},
		{"F1", f1, loss.SqEuclidean, BatchAll, "102 1.75 hard, 230 5 hard, 231 7 hard"},
		{"F1", f1, loss.Euclidean, BatchHard, "012 0.5 semi-hard, 102 1.5 hard, 231 3 hard, 321 0.5 semi-hard"},
		{"F1", f1, loss.SqEuclidean, BatchHard, "012 0 easy, 102 1.75 hard, 231 7 hard, 321 0 easy"},
		{"F1", f1, loss.Euclidean, TFA, "012 0.5 semi-hard, 103 0 easy, 230 2 hard, 321 0.5 semi-hard"},
		{"F1", f1, loss.SqEuclidean, TFA, "012 0 easy, 103 0 easy, 230 5 hard, 321 0 easy"},
		{"F1", f1, loss.Euclidean, SemiHard, "012 0.5 semi-hard, 321 0.5 semi-hard"},
		{"F1", f1, loss.SqEuclidean, SemiHard, ""},
		{"F1", f1, loss.Euclidean, PML, "012 0.5 semi-hard, 321 0.5 semi-hard"},
		{"F1", f1, loss.SqEuclidean, PML, ""},
		{"F1", f1, loss.SqEuclidean, VGG, "102 1.75 hard, 230 5 hard, 231 7 hard"},
		{"F1", f1, loss.Euclidean, Hard, "102 1.5 hard, 230 2 hard, 231 3 hard"},
		{"F2", f2, loss.Euclidean, SemiHard, ""},
		{"F2", f2, loss.Euclidean, PML, "013 0 easy, 102 0 easy"},
		{"F2", f2, loss.Euclidean, Hard, "012 1 hard, 103 1 hard, 230 3 hard, 231 2 hard, 320 2 hard, 321 3 hard"},
		{"F2", f2, loss.Euclidean, TFA, "013 0 easy, 102 0 easy, 231 2 hard, 320 2 hard"},
		{"F2", f2, loss.Euclidean, BatchAll, "012 1 hard, 103 1 hard, 230 3 hard, 231 2 hard, 320 2 hard, 321 3 hard"},
	} {
		cfg := MineConfig{Loss: loss.TripletMargin{Margin: 1, Distance: tt.dist}, Rule: tt.rule}
		if !tt.rule.picksItself() {
			cfg.PerPair = 2 // there are two negatives: all that the rule allows
		}
		b, scan := tt.batch(), tt.batch()
		m, err := NewMiner(MinerConfig{Mine: cfg})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Mine(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tr := range b.Triplets {
			got = append(got, fmt.Sprintf("%d%d%d %v %v", tr.Anchor, tr.Positive, tr.Negative, tr.Loss, tr.Kind))
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s %v %v: batch scope gives %s, want %s", tt.name, tt.dist, tt.rule, text, tt.want)
		}
		got = nil
		for _, tr := range scanned(t, ScanConfig{Mine: cfg, Embeddings: scan.Embeddings, Labels: scan.Labels}) {
			got = append(got, fmt.Sprintf("%d%d%d %v %v", tr.Anchor, tr.Positive, tr.Negative, tr.Loss, tr.Kind))
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s %v %v: data-set scope gives %s, want %s", tt.name, tt.dist, tt.rule, text, tt.want)
		}
	}
}

func TestMinerEdgeCases(t *testing.T) {
	const u = "@" // one before A: unknown
	for _, tt := range []struct {
		name  string
		batch *pipeline.Batch
		rule  Rule
		want  int // triplets
		check func(r MineReport) bool
	}{
		{"one class", line("AAA", 0, 1, 2), All, 0, func(r MineReport) bool { return r.Pairs == 6 && r.NoNegative == 6 }},
		{"no positive pair", line("ABC", 0, 1, 2), All, 0, func(r MineReport) bool { return r.Pairs == 0 && r.Singles == 3 }},
		{"a class of one is a negative", line("AAB", 0, 1, 2), All, 2, func(r MineReport) bool { return r.Singles == 1 && r.Pairs == 2 }},
		{"unknown is nothing", line("AAB"+u+u, 0, 1, 2, 0.5, 0.6), All, 2, func(r MineReport) bool { return r.Unknown == 2 && r.Pairs == 2 }},
		{"all unknown", line(u+u, 0, 1), All, 0, func(r MineReport) bool { return r.Unknown == 2 && r.Classes == 0 }},
		{"identical rows of a class", line("AAB", 0, 0, 0.5), SemiHard, 2, func(r MineReport) bool { return r.MeanAP() == 0 }},
		{"collapse, semi-hard", line("AABB", 1, 1, 1, 1), SemiHard, 0, func(r MineReport) bool { return r.Collapsed == 1 && r.NoCandidate == 4 }},
		{"collapse, batch-all", line("AABB", 1, 1, 1, 1), BatchAll, 8, func(r MineReport) bool { return r.Collapsed == 1 && r.Hard == 8 }},
		{"empty", line(""), SemiHard, 0, func(r MineReport) bool { return r.Pairs == 0 }},
	} {
		m, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 1, Distance: loss.Euclidean}, Rule: tt.rule}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Mine(t.Context(), tt.batch); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if r := m.Report(); len(tt.batch.Triplets) != tt.want || !tt.check(r) {
			t.Errorf("%s: %d triplets, want %d; report %+v", tt.name, len(tt.batch.Triplets), tt.want, r)
		}
	}
}

func TestMinerNamesBadSamples(t *testing.T) {
	bad := func(change func(b *pipeline.Batch)) *pipeline.Batch {
		b := line("AAB", 1, 1, 1)
		b.IDs = []int64{7, 8, 9}
		change(b)
		return b
	}
	for _, tt := range []struct {
		name  string
		batch *pipeline.Batch
		want  string
	}{
		{"NaN", bad(func(b *pipeline.Batch) { b.Embeddings.Data[1] = float32(math.NaN()) }), "sample 8: value 0 of its embedding is NaN"},
		{"Inf", bad(func(b *pipeline.Batch) { b.Embeddings.Data[2] = float32(math.Inf(1)) }), "sample 9: value 0 of its embedding is +Inf"},
		{"zero", bad(func(b *pipeline.Batch) { b.Embeddings.Data[0] = 0 }), "sample 7: its embedding is 0 everywhere and has no cosine distance"},
		{"not of length 1", bad(func(b *pipeline.Batch) { b.Embeddings.Data[0] = 2 }), "sample 7: its embedding has length 2, and mining by cosine expects 1"},
		{"label", bad(func(b *pipeline.Batch) { b.Labels[0] = -2 }), "sample 7: label is -2, want a class number or -1 for unknown"},
		{"missing", bad(func(b *pipeline.Batch) { b.Embeddings.Data = b.Embeddings.Data[:2] }), "stages: 2 values are not 3 embeddings of 1"},
	} {
		m, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 0.2, Distance: loss.Cosine}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Mine(t.Context(), tt.batch); err == nil || err.Error() != tt.want {
			t.Errorf("%s: error %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestMinerDoesNotAllocate(t *testing.T) {
	b := clustered(128, 32, 32)
	m, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 0.2}}})
	if err != nil {
		t.Fatal(err)
	}
	mine := func() {
		if err := m.Mine(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	mine()
	if n := testing.AllocsPerRun(5, mine); n > 0 {
		t.Errorf("%v allocations a batch after the first", n)
	}
}

// clustered is n rows of length 1 around the centres of so many classes.
func clustered(n, dim, classes int) *pipeline.Batch {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(dim)))
	centres := pipeline.MakeEmbeddings(classes, dim)
	for i := range centres.Data {
		centres.Data[i] = float32(rng.IntN(2001)-1000) / 1000
	}
	b := &pipeline.Batch{Embeddings: pipeline.MakeEmbeddings(n, dim), IDs: make([]int64, n), Labels: make([]int32, n)}
	for i := range n {
		b.IDs[i], b.Labels[i] = int64(i), int32(i%classes)
		row := b.Embeddings.Row(i)
		for k, c := range centres.Row(i % classes) {
			row[k] = c + float32(rng.IntN(2001)-1000)/700
		}
		if err := finish(row, true); err != nil {
			panic(err)
		}
	}
	return b
}

func BenchmarkMiner(b *testing.B) {
	for _, rule := range []Rule{SemiHard, BatchHard, PML} {
		for _, images := range []int{128, 512} {
			b.Run(fmt.Sprintf("rule=%v/images=%d/dim=128", rule, images), func(b *testing.B) {
				batch := clustered(images, 128, images/4)
				m, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 0.2}, Rule: rule}})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := m.Mine(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(batch.Triplets)), "triplets")
			})
		}
	}
}

// What Observe is told batch by batch adds up to the miner's report.
func TestMinerIsObserved(t *testing.T) {
	var sum MineReport
	var numbers []int64
	cfg := MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 1, Distance: loss.Euclidean}, Rule: All}}
	cfg.Observe = func(b *pipeline.Batch, r MineReport) {
		numbers = append(numbers, b.Number)
		if r.Samples != int64(len(b.IDs)) || r.Triplets != int64(len(b.Triplets)) {
			t.Errorf("batch %d: %d samples and %d triplets, want those of the batch alone", b.Number, r.Samples, r.Triplets)
		}
		sum.Add(&r)
	}
	m, err := NewMiner(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		b := batchOf(small(rand.New(rand.NewPCG(uint64(i), 7)), loss.Euclidean, 24, false))
		b.Number = i
		if err := m.Mine(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(numbers, []int64{0, 1, 2}) || sum != m.Report() || sum.Triplets == 0 {
		t.Errorf("observed batches %v with %+v, want the report %+v", numbers, sum, m.Report())
	}
}
