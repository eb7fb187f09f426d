package stages

import (
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

func TestNames(t *testing.T) {
	for r := range Rule(8) {
		if got, err := ParseRule(r.String()); err != nil || got != r {
			t.Errorf("ParseRule(%q) = %v, %v", r, got, err)
		}
	}
	for _, p := range []Pick{{}, {By: Nearest}, {By: Farthest}, {By: ByRank, First: 0, Last: 0}, {By: ByRank, First: 3, Last: 17}} {
		if got, err := ParsePick(p.String()); err != nil || got != p {
			t.Errorf("ParsePick(%q) = %v, %v", p, got, err)
		}
	}
	for _, s := range []Scope{ScopeBatch, ScopeDataSet} {
		if got, err := ParseScope(s.String()); err != nil || got != s {
			t.Errorf("ParseScope(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "semihard", "window", "window:", "window:1", "window:3-2", "window:-1-2", "window:1-2-3", "window:0-99999999999"} {
		if _, err := ParseRule(s); err == nil {
			t.Errorf("ParseRule(%q) gives no error", s)
		}
		if _, err := ParsePick(s); err == nil {
			t.Errorf("ParsePick(%q) gives no error", s)
		}
	}
}

func TestParsePositives(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		by   PositivesBy
	}{
		{"4", 4, RandomPositives}, {"all", AllPositives, RandomPositives}, {"0", AllPositives, RandomPositives},
		{"hardest", 1, HardestPositives}, {"hardest:3", 3, HardestPositives}, {"easiest:2", 2, EasiestPositives},
	} {
		if n, by, err := ParsePositives(tt.text); n != tt.n || by != tt.by || err != nil {
			t.Errorf("ParsePositives(%q) = %d, %v, %v", tt.text, n, by, err)
		}
	}
	for _, s := range []string{"", "-1", "hardest:", "hardest:0", "many", "4 ", "99999999999"} {
		if _, _, err := ParsePositives(s); err == nil {
			t.Errorf("ParsePositives(%q) gives no error", s)
		}
	}
}

// TestHashIsPinned: these numbers decide what every file mined at random holds.
func TestHashIsPinned(t *testing.T) {
	for _, tt := range []struct {
		seed       uint64
		generation int32
		a, p, n    int64
		pair       uint64
		want       uint32
	}{
		{0, 0, 0, 0, 0, 0x2130748aaac80268, 0xadf1d44f},
		{1, 0, 0, 1, 2, 0xae1d77a406c6ad8f, 0x41ee301d},
		{1, 0, 1, 0, 2, 0xa014b47d687b68ea, 0xad25aea3},
		{1, 1, 0, 1, 2, 0xce37e367609ad153, 0x9ec9d3ca},
		{2, 0, 0, 1, 2, 0x667b4017c1ac294, 0x9a6461cd},
		{18446744073709551615, 2147483647, 9223372036854775807, 1, 2, 0x9a5b0174d7f61786, 0x325cee4b},
	} {
		pair := pairKey(mineKey(tt.seed, tt.generation), tt.a, tt.p)
		if got := f32.Hash(pair, uint32(tt.n)); pair != tt.pair || got != tt.want {
			t.Errorf("{%d, %d, %d, %d, %d, %#x, %#x},", tt.seed, tt.generation, tt.a, tt.p, tt.n, pair, got)
		}
	}
}

// TestRandomIsUniform: over many anchors each negative is taken equally often.
func TestRandomIsUniform(t *testing.T) {
	const anchors, negatives = 40000, 16
	var taken [negatives]int
	for a := range int64(anchors) {
		best, at := ^uint32(0), 0
		key := pairKey(mineKey(1, 0), a, a+1)
		for n := range uint32(negatives) {
			if h := f32.Hash(key, n); h < best {
				best, at = h, int(n)
			}
		}
		taken[at]++
	}
	chi := 0.0
	for _, n := range taken {
		d := float64(n) - anchors/negatives
		chi += d * d / (anchors / negatives)
	}
	if chi > 37.7 { // the 0.999 quantile of χ² with 15 degrees of freedom
		t.Errorf("χ² is %.1f: %v", chi, taken)
	}
}

// TestMinedTripletsArePinned is a small scan whose triplets every machine has
// to find: rows of integers over 64, so that nothing before the scan rounds.
func TestMinedTripletsArePinned(t *testing.T) {
	const rows, dim = 24, 3
	emb, labels := pipeline.MakeEmbeddings(rows, dim), make([]int32, rows)
	d := newDice(newPlanKey("pinned"))
	for i := range emb.Data {
		emb.Data[i] = float32(d.below(129)) / 64
	}
	for i := range labels {
		labels[i] = int32(i % 4)
	}
	var got [][3]int64
	for _, m := range scanned(t, ScanConfig{
		Mine:       MineConfig{Loss: loss.TripletMargin{Margin: 0.5, Distance: loss.Euclidean}, Seed: 42, Positives: 1},
		Embeddings: emb, Labels: labels, Generation: 7,
	}) {
		got = append(got, [3]int64{m.Anchor, m.Positive, m.Negative})
	}
	want := [][3]int64{
		{0, 4, 14}, {1, 17, 6}, {2, 10, 0}, {3, 19, 4}, {4, 12, 6}, {5, 1, 2},
		{6, 18, 21}, {7, 11, 4}, {8, 4, 3}, {9, 13, 20}, {10, 14, 5}, {11, 15, 22},
		{12, 16, 22}, {13, 5, 19}, {14, 2, 1}, {15, 19, 12}, {16, 12, 15}, {17, 5, 4},
		{18, 22, 7}, {19, 11, 12}, {20, 0, 11}, {21, 1, 4}, {22, 14, 1}, {23, 3, 4},
	}
	if !slices.Equal(got, want) {
		t.Errorf("triplets are\n%v, want\n%v", got, want)
	}
}
