package stages

import (
	"fmt"
	"math"
	"strings"
)

// Guards keep likely false negatives, images of the anchor's class under
// another label, out of the triplets. The sample itself is never its own
// negative, which needs no guard: its label is the anchor's.
//
// For Relative, the nearest positive is that of the whole class in a [Scan],
// and that among the images of the batch in a [Miner], in either scope.
type Guards struct {
	AllowDuplicates bool    // let a negative have the image bytes of the anchor or the positive; the guard is on by default
	SameGroup       bool    // no negative of the anchor's or the positive's group
	Floor           float64 // no negative with d_an < Floor; 0 for no floor
	Relative        float64 // no negative with d_an ≤ (1 + Relative)·d(a, its nearest positive); 0 for none
	SkipRanks       int     // the first ranks by distance of a pair's candidates are passed over; under TFA in its own order, those above d_ap first
	AnchorCap       int     // at most so many triplets of one anchor, in file order; 0 for no cap. The caps of a [Miner] are those of each batch
	NegativeCap     int     // at most so many triplets with one negative, in file order; 0 for no cap
	ClassCap        int     // at most so many triplets whose negative is of one class, in file order; 0 for no cap
}

// String lists the guards that are on, as flags name them; "none" for none.
func (g Guards) String() string {
	if names := g.Names(); len(names) > 0 {
		return strings.Join(names, " ")
	}
	return "none"
}

// Names are the guards that are on, for a file's header.
func (g Guards) Names() []string {
	names := []string{}
	if !g.AllowDuplicates {
		names = append(names, "same-image")
	}
	if g.SameGroup {
		names = append(names, "same-group")
	}
	if g.Floor > 0 {
		names = append(names, fmt.Sprintf("floor=%v", g.Floor))
	}
	if g.Relative > 0 {
		names = append(names, fmt.Sprintf("relative=%v", g.Relative))
	}
	if g.SkipRanks > 0 {
		names = append(names, fmt.Sprintf("skip-ranks=%d", g.SkipRanks))
	}
	if g.AnchorCap > 0 {
		names = append(names, fmt.Sprintf("anchor-cap=%d", g.AnchorCap))
	}
	if g.NegativeCap > 0 {
		names = append(names, fmt.Sprintf("negative-cap=%d", g.NegativeCap))
	}
	if g.ClassCap > 0 {
		names = append(names, fmt.Sprintf("class-cap=%d", g.ClassCap))
	}
	return names
}

func (g Guards) check() error {
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"Floor", g.Floor}, {"Relative", g.Relative}, {"SkipRanks", float64(g.SkipRanks)},
		{"AnchorCap", float64(g.AnchorCap)}, {"NegativeCap", float64(g.NegativeCap)}, {"ClassCap", float64(g.ClassCap)},
	} {
		if !(f.value >= 0) || math.IsInf(f.value, 1) {
			return usage("MineConfig.Guards."+f.name, "is %v, want 0 (off) or more", f.value)
		}
	}
	if g.SkipRanks > math.MaxInt32 {
		return usage("MineConfig.Guards.SkipRanks", "is %d, want less than 2³¹", g.SkipRanks)
	}
	return nil
}

// GuardCounts says what each guard has kept out. A triplet that several would
// have kept out is counted once, by the first in this order. The first four
// count valid triplets (a, p, n) of the pairs that were looked at, with d_an in
// the interval of the rule; which of them the pick would have taken does not
// matter. (For tfa the interval is everything.)
type GuardCounts struct {
	SameImage   int64 // the negative has the image bytes of the anchor or the positive: a conflicting label
	SameGroup   int64 // the negative is of the group of the anchor or the positive
	Floor       int64 // the negative is nearer than the floor
	Relative    int64 // the negative is within the relative margin of the nearest positive
	SkipRanks   int64 // what is left and among the first ranks of its pair
	AnchorCap   int64 // triplets that were chosen, and dropped because their anchor had its share; nothing takes their place
	NegativeCap int64 // the same of their negative
	ClassCap    int64 // the same of their negative's class
}

func (c *GuardCounts) add(o GuardCounts) {
	c.SameImage += o.SameImage
	c.SameGroup += o.SameGroup
	c.Floor += o.Floor
	c.Relative += o.Relative
	c.SkipRanks += o.SkipRanks
	c.AnchorCap += o.AnchorCap
	c.NegativeCap += o.NegativeCap
	c.ClassCap += o.ClassCap
}

// any reports whether anything was kept out.
func (c GuardCounts) any() bool { return c != GuardCounts{} }

// Duplicates numbers the samples whose image bytes occur more than once: by
// sample id, equal numbers for equal digests, and −1 for an image that occurs
// once. It is what ScanConfig.Same and MinerConfig.Same take.
func Duplicates(digests [][16]byte) []int32 {
	first := make(map[[16]byte]int, len(digests))
	same := make([]int32, len(digests))
	next := int32(0)
	for i, d := range digests {
		same[i] = -1
		j, seen := first[d]
		if !seen {
			first[d] = i
			continue
		}
		if same[j] < 0 {
			same[j] = next
			next++
		}
		same[i] = same[j]
	}
	return same
}

// caps count triplets in file order.
type caps struct {
	guards    Guards
	anchor    int64 // whose triplets are being counted
	ofAnchor  int
	negatives map[int64]int
	classes   map[int32]int
}

func newCaps(g Guards) *caps {
	return &caps{guards: g, anchor: -1, negatives: map[int64]int{}, classes: map[int32]int{}}
}

// admits reports whether one more triplet is within the caps, and counts it;
// or counts in c the first cap that it is not within.
func (k *caps) admits(anchor, negative int64, class int32, c *GuardCounts) bool {
	if anchor != k.anchor {
		k.anchor, k.ofAnchor = anchor, 0
	}
	g := &k.guards
	switch {
	case g.AnchorCap > 0 && k.ofAnchor >= g.AnchorCap:
		c.AnchorCap++
		return false
	case g.NegativeCap > 0 && k.negatives[negative] >= g.NegativeCap:
		c.NegativeCap++
		return false
	case g.ClassCap > 0 && k.classes[class] >= g.ClassCap:
		c.ClassCap++
		return false
	}
	k.ofAnchor++
	if g.NegativeCap > 0 {
		k.negatives[negative]++
	}
	if g.ClassCap > 0 {
		k.classes[class]++
	}
	return true
}

// reset forgets what was counted.
func (k *caps) reset() {
	k.anchor, k.ofAnchor = -1, 0
	clear(k.negatives)
	clear(k.classes)
}
