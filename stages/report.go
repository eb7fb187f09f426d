package stages

import (
	"fmt"
	"math"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// A MineReport counts what a [Scan] or a [Miner] has looked at and found. It
// depends neither on workers nor on blocks. A Miner's is the sum over its
// batches, where an image of two batches counts twice.
type MineReport struct {
	Samples        int64 // anchors that could have been: rows of the data set, images of the batches
	Unknown        int64 // of these, of unknown class: never mined
	Classes        int64 // known classes among them
	Singles        int64 // classes with one sample: never anchor or positive, still negatives
	Conflicting    int64 // samples whose image bytes occur under another known class as well
	Candidates     int64 // rows that were chosen to look for negatives among; 0 for all
	BandWhole      int64 // with Candidates: negatives in the bands of some pairs, …
	BandSeen       int64 // … and how many of those are among the candidates
	Collapsed      int64 // sets of rows (the data set, or batches) that are all nearly equal: nothing can be mined from them
	Pairs          int64 // anchor-positive pairs that were looked at
	NoNegative     int64 // pairs without a triplet because there is no other class
	NoCandidate    int64 // pairs without a triplet because nothing was in the interval of the rule (or the window of the pick)
	AllGuarded     int64 // pairs without a triplet because guards kept out what was there
	Triplets       int64
	Hard, SemiHard int64 // triplets by kind
	Easy           int64
	Guarded        GuardCounts
	SumAP, SumAN   float64 // of the triplets' distances, added up in their order
}

// MeanAP is the mean d_ap of the triplets; 0 without any.
func (r *MineReport) MeanAP() float64 { return r.SumAP / math.Max(1, float64(r.Triplets)) }

// MeanAN is the mean d_an of the triplets; 0 without any.
func (r *MineReport) MeanAN() float64 { return r.SumAN / math.Max(1, float64(r.Triplets)) }

// Empty is the number of pairs without a triplet. (Pairs whose triplets a
// cap dropped are not among them.)
func (r *MineReport) Empty() int64 { return r.NoNegative + r.NoCandidate + r.AllGuarded }

// Counts are the numbers by name, for a file's header.
func (r *MineReport) Counts() map[string]int64 {
	return map[string]int64{
		"samples": r.Samples, "unknown": r.Unknown, "classes": r.Classes, "single_member_classes": r.Singles,
		"conflicting_labels": r.Conflicting, "collapsed": r.Collapsed, "candidates": r.Candidates, "band_whole": r.BandWhole, "band_seen": r.BandSeen,
		"pairs": r.Pairs, "pairs_no_negative": r.NoNegative, "pairs_no_candidate": r.NoCandidate, "pairs_all_guarded": r.AllGuarded,
		"triplets": r.Triplets, "hard": r.Hard, "semi_hard": r.SemiHard, "easy": r.Easy,
		"guard_same_image": r.Guarded.SameImage, "guard_same_group": r.Guarded.SameGroup,
		"guard_floor": r.Guarded.Floor, "guard_relative": r.Guarded.Relative,
		"guard_skip_ranks": r.Guarded.SkipRanks, "guard_anchor_cap": r.Guarded.AnchorCap,
		"guard_negative_cap": r.Guarded.NegativeCap, "guard_class_cap": r.Guarded.ClassCap,
	}
}

// String is a summary of a few lines.
func (r *MineReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pairs     %d, of which %d without a negative (%d: only one class, %d: none in the band, %d: all guarded)\n",
		r.Pairs, r.Empty(), r.NoNegative, r.NoCandidate, r.AllGuarded)
	fmt.Fprintf(&b, "triplets  %d: %d hard, %d semi-hard, %d easy; mean d_ap %.4g, d_an %.4g\n",
		r.Triplets, r.Hard, r.SemiHard, r.Easy, r.MeanAP(), r.MeanAN())
	fmt.Fprintf(&b, "samples   %d in %d classes; %d of unknown class, %d classes with one sample, %d conflicting labels\n",
		r.Samples, r.Classes, r.Unknown, r.Singles, r.Conflicting)
	if r.Candidates > 0 {
		fmt.Fprintf(&b, "sampled   %d candidates, which are %d of %d negatives in the bands of some pairs\n", r.Candidates, r.BandSeen, r.BandWhole)
	}
	if r.Guarded.any() {
		g := r.Guarded
		fmt.Fprintf(&b, "guards    same image %d, same group %d, floor %d, relative %d, first ranks %d, caps per anchor %d, per negative %d, per class %d\n",
			g.SameImage, g.SameGroup, g.Floor, g.Relative, g.SkipRanks, g.AnchorCap, g.NegativeCap, g.ClassCap)
	}
	if r.Collapsed > 0 {
		fmt.Fprintf(&b, "warning   collapsed: the embeddings are all nearly equal\n")
	}
	return b.String()
}

// triplet counts one that was mined.
func (r *MineReport) triplet(ap, an float32, kind pipeline.Kind) {
	r.Triplets++
	r.SumAP += float64(ap)
	r.SumAN += float64(an)
	switch kind {
	case pipeline.Hard:
		r.Hard++
	case pipeline.SemiHard:
		r.SemiHard++
	default:
		r.Easy++
	}
}

// pair counts one that was looked at, and what it was given.
func (r *MineReport) pair(p *pair, chosen int, negatives int64) {
	r.Pairs++
	r.Guarded.add(p.guarded)
	switch {
	case chosen > 0:
	case negatives == 0:
		r.NoNegative++
	case p.guarded.any():
		r.AllGuarded++
	default:
		r.NoCandidate++
	}
}

// Add counts what o has counted.
func (r *MineReport) Add(o *MineReport) {
	r.Samples += o.Samples
	r.Unknown += o.Unknown
	r.Classes += o.Classes
	r.Singles += o.Singles
	r.Conflicting += o.Conflicting
	r.Collapsed += o.Collapsed
	r.Candidates += o.Candidates
	r.BandWhole += o.BandWhole
	r.BandSeen += o.BandSeen
	r.Pairs += o.Pairs
	r.NoNegative += o.NoNegative
	r.NoCandidate += o.NoCandidate
	r.AllGuarded += o.AllGuarded
	r.Triplets += o.Triplets
	r.Hard += o.Hard
	r.SemiHard += o.SemiHard
	r.Easy += o.Easy
	r.Guarded.add(o.Guarded)
	r.SumAP += o.SumAP
	r.SumAN += o.SumAN
}
