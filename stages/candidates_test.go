package stages

import (
	"cmp"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

func TestSampleIsBalanced(t *testing.T) {
	labels := make([]int32, 0, 100)
	for class, size := range []int{1, 3, 40, 10, 46} {
		for range size {
			labels = append(labels, int32(class))
		}
	}
	labels = append(labels, pipeline.Unknown)
	slices.Reverse(labels)
	var c census
	if err := c.take(&pool{labels: labels}, &MineReport{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		n    int
		want [5]int
	}{{5, [5]int{1, 1, 1, 1, 1}}, {0, [5]int{}}, {30, [5]int{1, 3, 8, 8, 10}}, {4, [5]int{0, 1, 1, 1, 1}}, {100, [5]int{1, 3, 40, 10, 46}}, {1000, [5]int{1, 3, 40, 10, 46}}} {
		rows := c.sample(tt.n, 9)
		if !slices.IsSorted(rows) || len(slices.Compact(slices.Clone(rows))) != len(rows) {
			t.Errorf("%d: %v are not ascending", tt.n, rows)
		}
		got := [5]int{}
		for _, r := range rows {
			got[labels[r]]++
		}
		total := 0
		for _, n := range got {
			total += n
		}
		if tt.n == 30 { // which of the large classes takes the rest is of no importance
			if got[0] != 1 || got[1] != 3 || total != 30 || min(got[2], got[3], got[4]) < 8 {
				t.Errorf("30: %v of each class", got)
			}
		} else if got != tt.want {
			t.Errorf("%d: %v of each class, want %v", tt.n, got, tt.want)
		}
	}
	if slices.Equal(c.sample(30, 9), c.sample(30, 10)) {
		t.Error("another key chooses the same rows")
	}
}

// TestScanOfCandidates: with a sample, the triplets are those of the definition
// over it, and the report says what it sees of the bands.
func TestScanOfCandidates(t *testing.T) {
	b := clustered(400, 8, 20)
	cfg := MineConfig{Loss: loss.TripletMargin{Margin: 0.3}, Candidates: 100, PerPair: 2, Seed: 5}
	whole := &pool{emb: b.Embeddings, labels: b.Labels}
	var c census
	if err := cmp.Or(c.take(whole, &MineReport{}), c.check(whole, loss.SqEuclidean, &MineReport{})); err != nil {
		t.Fatal(err)
	}
	for _, pick := range []Pick{{}, {By: Nearest}} {
		cfg.Pick = pick
		s, err := NewScan(ScanConfig{Mine: cfg, Embeddings: b.Embeddings, Labels: b.Labels, Generation: 2, Workers: 2, Block: 30})
		if err != nil {
			t.Fatal(err)
		}
		rows := c.sample(100, chain(mineKey(5, 2), 1))
		if len(rows) != 100 {
			t.Fatalf("%d candidates", len(rows))
		}
		sub := whole.subset(rows)
		want, _ := define(s.Settings(), whole, sub, 2)
		var got []pipeline.Triplet
		for _, m := range drain(t, s) {
			at, there := slices.BinarySearch(rows, int32(m.Negative))
			if !there || m.NegativeLabel != b.Labels[m.Negative] {
				t.Fatalf("negative %d of class %d is no candidate", m.Negative, m.NegativeLabel)
			}
			got = append(got, pipeline.Triplet{Anchor: int32(m.Anchor), Positive: int32(m.Positive), Negative: int32(at), AP: m.AP, AN: m.AN, Loss: m.Loss, Kind: m.Kind})
		}
		compare(t, s.Settings(), got, want)
		if s.Report().Candidates != 100 {
			t.Errorf("%d candidates reported", s.Report().Candidates)
		}

		inBand, seen := s.Report().BandWhole, s.Report().BandSeen
		var wantBand, wantSeen int64
		for _, a := range c.sample(120, chain(mineKey(5, 2), 2)) {
			for _, p := range choose(s.Settings(), whole, int(a), others(whole, a), 2) {
				ap := loss.SqEuclidean.Mining(whole.emb.Row(int(a)), whole.emb.Row(p))
				for n, l := range b.Labels {
					if an := loss.SqEuclidean.Mining(whole.emb.Row(int(a)), whole.emb.Row(n)); l != b.Labels[a] && inRule(s.Settings(), ap, an) {
						wantBand++
						if _, there := slices.BinarySearch(rows, int32(n)); there {
							wantSeen++
						}
					}
				}
			}
		}
		if inBand != wantBand || seen != wantSeen || seen == 0 {
			t.Errorf("%d of %d in the bands seen, want %d of %d", seen, inBand, wantSeen, wantBand)
		}
	}
	if _, err := NewMiner(MinerConfig{Mine: cfg}); err == nil {
		t.Error("a miner of batches takes candidates")
	}
}

// others are the rows of the class of a row, without it.
func others(p *pool, row int32) (rows []int) {
	for i, l := range p.labels {
		if l == p.labels[row] && int32(i) != row {
			rows = append(rows, i)
		}
	}
	return rows
}
