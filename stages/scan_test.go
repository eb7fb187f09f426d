package stages

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// scanned runs a scan.
func scanned(t testing.TB, cfg ScanConfig) []pipeline.MinedTriplet {
	t.Helper()
	s, err := NewScan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return drain(t, s)
}

func drain(t testing.TB, s *Scan) (list []pipeline.MinedTriplet) {
	t.Helper()
	for tr, err := range pipeline.From(s).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, tr)
	}
	return list
}

func TestScanIsTheDefinition(t *testing.T) {
	problems(t, ScopeDataSet, false, func(t *testing.T, rng *rand.Rand, cfg MineConfig, p *pool) {
		list, report := define(cfg, p, p, 3)
		list = capped(cfg, p, list, &report)
		s, err := NewScan(ScanConfig{
			Mine: cfg, Embeddings: p.emb, Labels: p.labels, Same: p.same, Groups: p.groups, Generation: 3,
			Workers: 1 + rng.IntN(3), Block: 1 + rng.IntN(30), Screen: ScreenBy(rng.IntN(3)),
		})
		if err != nil {
			t.Fatal(err)
		}
		got := drain(t, s)
		var triplets []pipeline.Triplet
		rank := int32(0)
		for i, m := range got {
			if i > 0 && m.Anchor == got[i-1].Anchor && m.Positive == got[i-1].Positive {
				rank++
			} else {
				rank = 0
			}
			l := p.labels
			if m.Rank != rank || m.Generation != 3 || m.Batch != -1 ||
				m.AnchorLabel != l[m.Anchor] || m.PositiveLabel != l[m.Positive] || m.NegativeLabel != l[m.Negative] {
				t.Errorf("triplet %d is %+v, want rank %d, generation 3, batch −1 and the labels of the samples", i, m, rank)
			}
			triplets = append(triplets, pipeline.Triplet{
				Anchor: int32(m.Anchor), Positive: int32(m.Positive), Negative: int32(m.Negative),
				AP: m.AP, AN: m.AN, Loss: m.Loss, Kind: m.Kind,
			})
		}
		compare(t, cfg, triplets, list)
		r := s.Report()
		sameReport(t, r, report)
		if r.Triplets != int64(len(got)) || r.Hard+r.SemiHard+r.Easy != r.Triplets {
			t.Errorf("%d triplets reported, %d by kind; %d mined", r.Triplets, r.Hard+r.SemiHard+r.Easy, len(got))
		}
		if s.Pairs() != r.Pairs {
			t.Errorf("%d pairs foretold, %d looked at", s.Pairs(), r.Pairs)
		}
	})
}

// TestLargeScanIsTheDefinition compares some anchors of a large scan, by every
// screen, with loops over all their negatives in float64.
func TestLargeScanIsTheDefinition(t *testing.T) {
	rows, anchors := 6000, 40
	if planLong {
		rows, anchors = 100_000, 1000
	}
	emb, labels := spheres(rows, 128, rows/100, 0.6)
	p := &pool{emb: emb, labels: labels}
	margin := marginFor(emb, labels, 0.05)
	for _, pick := range []Pick{{}, {By: Nearest}} {
		for _, screen := range []ScreenBy{ScreenFloat32, ScreenInt8, ScreenAuto} {
			s, err := NewScan(ScanConfig{
				Mine:       MineConfig{Loss: loss.TripletMargin{Margin: margin}, Pick: pick, Seed: 3},
				Embeddings: emb, Labels: labels, Screen: screen,
			})
			if err != nil {
				t.Fatal(err)
			}
			cfg := s.Settings()
			got := map[[2]int64]int64{}
			for _, m := range drain(t, s) {
				got[[2]int64{m.Anchor, m.Positive}] = m.Negative
			}
			an, checked := make([]float64, rows), 0
			for a := 0; a < rows; a += rows / anchors {
				for n := range an {
					an[n] = loss.SqEuclidean.Mining(emb.Row(a), emb.Row(n))
				}
				for _, q := range choose(cfg, p, a, others(p, int32(a)), 0) {
					var band []defined
					for n, d := range an {
						if labels[n] != labels[a] && inRule(cfg, an[q], d) {
							band = append(band, defined{a, q, n, an[q], d})
						}
					}
					want, there := pickOf(cfg, p, p, band, 0, new(GuardCounts)), false
					var n int64
					if n, there = got[[2]int64{int64(a), int64(q)}]; there != (len(want) > 0) || there && n != int64(want[0].n) {
						t.Fatalf("%v, screen %v: anchor %d, positive %d: negative %d (%v), want %v", pick, screen, a, q, n, there, want)
					}
					checked++
				}
			}
			if checked < 4*anchors {
				t.Errorf("only %d pairs were checked", checked)
			}
		}
	}
}

// TestCutsAreWideEnough has far more about as far away than is asked for, in
// bytes that tell little apart: what was measured and what was not are mixed.
func TestCutsAreWideEnough(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 1))
		emb, labels := pipeline.MakeEmbeddings(600, 1), make([]int32, 600)
		for i := range labels {
			emb.Data[i], labels[i] = float32(rng.NormFloat64()*0.3), int32(i%6)
		}
		emb.Data[rng.IntN(600)] = 20
		for _, by := range []Order{Nearest, Farthest} {
			for _, perPair := range []int{2, 3, 6} {
				cfg := ScanConfig{
					Mine:       MineConfig{Loss: loss.TripletMargin{Margin: 5}, Pick: Pick{By: by}, PerPair: perPair, Positives: 1},
					Embeddings: emb, Labels: labels, Screen: ScreenFloat32,
				}
				want := scanned(t, cfg)
				cfg.Screen = ScreenInt8
				if got := scanned(t, cfg); !slices.Equal(got, want) {
					t.Errorf("seed %d, pick %v, %d a pair: bytes give other triplets", seed, Pick{By: by}, perPair)
				}
			}
		}
	}
}

// TestScanIsItselfEverywhere: neither workers nor blocks show, nor a second run.
func TestScanIsItselfEverywhere(t *testing.T) {
	b := clustered(700, 24, 30)
	skip := Guards{SkipRanks: 1, ClassCap: 90}
	for _, mine := range []MineConfig{
		{Rule: SemiHard, Guards: skip}, {Rule: VGG, Guards: skip}, {Rule: TFA, Guards: skip}, {Rule: SemiHard}, {Rule: SemiHard, Pick: Pick{By: Nearest}}, {Rule: Hard, Pick: Pick{By: Farthest}},
	} {
		rule := mine.Rule
		mine.Loss, mine.PerPair = loss.TripletMargin{Margin: 0.2}, 2
		cfg := ScanConfig{Mine: mine, Embeddings: b.Embeddings, Labels: b.Labels, Workers: 1, Block: 700}
		first, err := NewScan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := drain(t, first)
		if len(want) < 1000 {
			t.Fatalf("%v: %d triplets: too few to mean something", rule, len(want))
		}
		if !slices.Equal(drain(t, first), want) {
			t.Errorf("%v: a second run gives other triplets", rule)
		}
		for _, c := range []struct {
			workers, block int
			screen         ScreenBy
		}{{1, 1, ScreenFloat32}, {2, 64, ScreenInt8}, {7, 13, ScreenAuto}, {7, 0, ScreenInt8}} {
			cfg.Workers, cfg.Block, cfg.Screen = c.workers, c.block, c.screen
			s, err := NewScan(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(drain(t, s), want) {
				t.Errorf("%v: %d workers, blocks of %d and screen %v give other triplets", rule, c.workers, c.block, c.screen)
			}
			if s.Report() != first.Report() {
				t.Errorf("%v: %d workers and blocks of %d report\n%+v, want\n%+v", rule, c.workers, c.block, s.Report(), first.Report())
			}
		}
	}
}

// TestPartsMerge splits the candidates and merges partial results in random order.
func TestPartsMerge(t *testing.T) {
	problems(t, ScopeDataSet, false, func(t *testing.T, rng *rand.Rand, cfg MineConfig, p *pool) {
		var c census
		if err := cmp.Or(c.take(p, &MineReport{}), c.check(p, cfg.Loss.Distance, &MineReport{})); err != nil {
			t.Fatal(err)
		}
		fit(p, p, cfg.Loss.Distance)
		n := len(p.labels)
		partsOf := func(cuts []int) []*block {
			var parts []*block
			for i := range len(cuts) - 1 {
				b := newBlock(cfg, p.emb.Dim)
				for row, l := range p.labels {
					if l != pipeline.Unknown {
						b.next().begin(mineKey(cfg.Seed, 0), p, row, c.of(l), p)
					}
				}
				if err := b.pass(t.Context(), p, cuts[i], cuts[i+1]); err != nil {
					t.Fatal(err)
				}
				parts = append(parts, b)
			}
			return parts
		}
		result := func(b *block) (list []defined, r MineReport) {
			b.collect(&r, &c, func(a *search, p *pair, f found) {
				list = append(list, defined{a.row, p.row, int(f.row), p.ap, f.d})
			})
			return list, r
		}
		want, wantReport := result(partsOf([]int{0, n})[0])
		for _, count := range []int{1, 3, 17} {
			cuts := []int{0, n}
			for range count - 1 {
				cuts = append(cuts, rng.IntN(n+1))
			}
			slices.Sort(cuts)
			parts := partsOf(cuts)
			for len(parts) > 1 { // any two, either way
				rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
				parts[0].merge(parts[1])
				parts = slices.Delete(parts, 1, 2)
			}
			got, report := result(parts[0])
			if !slices.Equal(got, want) || report != wantReport {
				t.Errorf("%d parts merge into %v, want %v", count, got, want)
			}
		}
	})
}

func TestScanRefusals(t *testing.T) {
	b := line("AAAABBBC", 0, 1, 2, 3, 4, 5, 6, 7)
	margin := loss.TripletMargin{Margin: 0.2}
	for _, tt := range []struct {
		name   string
		change func(c *ScanConfig)
		want   string
	}{
		{"margin", func(c *ScanConfig) { c.Mine.Loss.Margin = 0 }, "stages: MineConfig.Loss.Margin is 0, want > 0 in units of sqeuclidean"},
		{"all", func(c *ScanConfig) { c.Mine.Rule = All }, "stages: MineConfig.PerPair is not set, and rule all would list 78 triplets: want 1 or more a pair"},
		{"all, 1 positive", func(c *ScanConfig) { c.Mine.Rule, c.Mine.Positives = All, 1 }, "rule all would list 31 triplets"},
		{"batch-all", func(c *ScanConfig) { c.Mine.Rule = BatchAll }, "rule batch-all would list up to 78 triplets"},
		{"vgg", func(c *ScanConfig) { c.Mine.Rule, c.Mine.Loss.Distance = VGG, loss.Euclidean }, "MineConfig.Loss.Distance is euclidean, but rule vgg is defined on squared distances"},
		{"tfa", func(c *ScanConfig) { c.Mine.Rule, c.Mine.Pick.By = TFA, Farthest }, "MineConfig.Pick is farthest, but rule tfa takes the nearest"},
		{"batch-hard", func(c *ScanConfig) { c.Mine.Rule, c.Mine.Positives = BatchHard, 4 }, "rule batch-hard takes the farthest positive"},
		{"window", func(c *ScanConfig) { c.Mine.Pick = Pick{By: ByRank, First: 2, Last: 1} }, "MineConfig.Pick is window:2-1"},
		{"per pair", func(c *ScanConfig) { c.Mine.PerPair = -1 }, "MineConfig.PerPair is -1, want 1 or more"},
		{"positives", func(c *ScanConfig) { c.Mine.Positives = -2 }, "MineConfig.Positives is -2"},
		{"floor", func(c *ScanConfig) { c.Mine.Guards.Floor = -1 }, "MineConfig.Guards.Floor is -1"},
		{"groups", func(c *ScanConfig) { c.Mine.Guards.SameGroup = true }, "the data has no group column"},
		{"same", func(c *ScanConfig) { c.Same = make([]int32, 3) }, "ScanConfig.Same has 3 numbers for 8 samples"},
	} {
		cfg := ScanConfig{Mine: MineConfig{Loss: margin}, Embeddings: b.Embeddings, Labels: b.Labels}
		tt.change(&cfg)
		_, err := NewScan(cfg)
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want a usage error with %q", tt.name, err, tt.want)
		}
	}
}

// A class number decides nothing but which rows belong together, and costs no
// memory: a label column may hold any int32.
func TestClassNumbersMayBeFarApart(t *testing.T) {
	cfg := ScanConfig{
		Mine:       MineConfig{Loss: loss.TripletMargin{Margin: 3}},
		Embeddings: pipeline.Embeddings{Data: []float32{0, 1, 1.5, 4, 2}, Dim: 1},
		Labels:     []int32{0, 0, 1, 1, 2},
	}
	want := drainAll(t, cfg)
	far := []int32{7, math.MaxInt32 - 1, math.MaxInt32}
	cfg.Labels = []int32{far[0], far[0], far[1], far[1], far[2]}
	for i := range want.list {
		tr := &want.list[i]
		tr.AnchorLabel, tr.PositiveLabel, tr.NegativeLabel = far[tr.AnchorLabel], far[tr.PositiveLabel], far[tr.NegativeLabel]
	}
	if got := drainAll(t, cfg); !reflect.DeepEqual(got, want) || len(got.list) == 0 {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

type drained struct {
	list   []pipeline.MinedTriplet
	report MineReport
	pairs  int64
}

func drainAll(t *testing.T, cfg ScanConfig) drained {
	t.Helper()
	s, err := NewScan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return drained{drain(t, s), s.Report(), s.Pairs()}
}

func TestScanStops(t *testing.T) {
	b := clustered(400, 8, 10)
	s, err := NewScan(ScanConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 0.2}}, Embeddings: b.Embeddings, Labels: b.Labels, Block: 16})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, err := range pipeline.From(s).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	if len(drain(t, s)) < 1000 {
		t.Error("a scan that was left does not run again")
	}
}
