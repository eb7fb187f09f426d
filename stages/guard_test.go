package stages

import (
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
)

// TestGuards has one pair of a class, samples 0 and 1 at a distance of 1, and
// four classes of one at 0.5, 1.25, 1.5 and 3 from sample 0 and 1.5, 0.25, 0.5
// and 2 from sample 1.
func TestGuards(t *testing.T) {
	for _, tt := range []struct {
		name         string
		guards       Guards
		same, groups []int32
		want         []int64 // negatives of the pair (0, 1), nearest first
		counts       GuardCounts
	}{
		{"none", Guards{}, nil, nil, []int64{2, 3, 4, 5}, GuardCounts{}},
		{"the anchor's image", Guards{}, []int32{0, -1, -1, 0, -1, -1}, nil, []int64{2, 4, 5}, GuardCounts{SameImage: 2}},
		{"the positive's image", Guards{}, []int32{-1, 4, -1, 4, -1, -1}, nil, []int64{2, 4, 5}, GuardCounts{SameImage: 2}},
		{"allowed", Guards{AllowDuplicates: true}, []int32{0, -1, -1, 0, -1, -1}, nil, []int64{2, 3, 4, 5}, GuardCounts{}},
		{"images that occur once", Guards{}, []int32{-1, -1, -1, -1, -1, -1}, nil, []int64{2, 3, 4, 5}, GuardCounts{}},
		{"group", Guards{SameGroup: true}, nil, []int32{1, 2, 1, 2, 3, -1}, []int64{4, 5}, GuardCounts{SameGroup: 4}},
		{"group not asked for", Guards{}, nil, []int32{1, 2, 1, 2, 3, -1}, []int64{2, 3, 4, 5}, GuardCounts{}},
		{"floor", Guards{Floor: 1.25}, nil, nil, []int64{3, 4, 5}, GuardCounts{Floor: 3}},
		{"relative", Guards{Relative: 0.25}, nil, nil, []int64{4, 5}, GuardCounts{Relative: 4}},
		{"ranks", Guards{SkipRanks: 3}, nil, nil, []int64{5}, GuardCounts{SkipRanks: 6}},
		{"image before floor", Guards{Floor: 10}, []int32{0, -1, 0, -1, -1, -1}, nil, nil, GuardCounts{SameImage: 2, Floor: 6}},
		{"cap", Guards{ClassCap: 1}, nil, nil, []int64{2, 3, 4, 5}, GuardCounts{ClassCap: 4}},
		{"cap of a negative", Guards{NegativeCap: 1}, nil, nil, []int64{2, 3, 4, 5}, GuardCounts{NegativeCap: 4}},
		{"cap of an anchor", Guards{AnchorCap: 3}, nil, nil, []int64{2, 3, 4}, GuardCounts{AnchorCap: 2}},
		{"two caps", Guards{AnchorCap: 3, NegativeCap: 1}, nil, nil, []int64{2, 3, 4}, GuardCounts{AnchorCap: 1, NegativeCap: 3}},
	} {
		b := line("AABCDE", 0, 1, -0.5, 1.25, 1.5, 3)
		s, err := NewScan(ScanConfig{
			Mine: MineConfig{
				Loss: loss.TripletMargin{Margin: 1, Distance: loss.Euclidean}, Rule: All,
				Pick: Pick{By: Nearest}, PerPair: 4, Guards: tt.guards,
			},
			Embeddings: b.Embeddings, Labels: b.Labels, Same: tt.same, Groups: tt.groups,
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, m := range drain(t, s) {
			if m.Anchor == 0 {
				got = append(got, m.Negative)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: negatives of (0, 1) are %v, want %v", tt.name, got, tt.want)
		}
		if counts := s.Report().Guarded; counts != tt.counts {
			t.Errorf("%s: counts are %+v, want %+v", tt.name, counts, tt.counts)
		}
	}
}

func TestConflictingLabels(t *testing.T) {
	digests := [][16]byte{{1}, {2}, {1}, {3}, {3}, {4}, {2}}
	same := Duplicates(digests)
	if want := []int32{0, 2, 0, 1, 1, -1, 2}; !slices.Equal(same, want) {
		t.Errorf("duplicates are %v, want %v", same, want)
	}
	b := line("AABCCA@", 0, 1, 2, 3, 4, 5, 6)
	s, err := NewScan(ScanConfig{
		Mine:       MineConfig{Loss: loss.TripletMargin{Margin: 1}},
		Embeddings: b.Embeddings, Labels: b.Labels, Same: same,
	})
	if err != nil {
		t.Fatal(err)
	}
	// Image 1 is in A and B; image 3 twice in C; image 2 in A and unknown.
	if r := s.Report(); r.Conflicting != 2 {
		t.Errorf("%d conflicting labels, want 2", r.Conflicting)
	}
}

func TestGuardNames(t *testing.T) {
	g := Guards{SameGroup: true, Floor: 0.25, Relative: 0.5, SkipRanks: 3, ClassCap: 9}
	if want := []string{"same-image", "same-group", "floor=0.25", "relative=0.5", "skip-ranks=3", "class-cap=9"}; !slices.Equal(g.Names(), want) {
		t.Errorf("names are %v, want %v", g.Names(), want)
	}
	if g := (Guards{AllowDuplicates: true}); len(g.Names()) != 0 || g.String() != "none" {
		t.Errorf("no guards are %q, %q", g.Names(), g)
	}
}
