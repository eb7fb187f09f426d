package loss

import (
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// Contrastive is the loss over pairs of Hadsell, Chopra and LeCun,
// "Dimensionality Reduction by Learning an Invariant Mapping" (CVPR 2006),
// equation 4:
//
//	L(d) = ½·d² for two images of one class, ½·max(0, Margin − d)² for two of different ones
//
// Its d is Euclidean, which has to be said: SqEuclidean, the zero Distance,
// gives the fourth power. The items are Input.Pairs or, when that is nil, every
// two images of known class, in order of the first and the second position. In
// LossStats, MeanAP is the mean distance within a class and MeanAN between two;
// there are no kinds.
type Contrastive struct {
	Margin    float64 // in units of Distance; greater than 0
	Distance  Distance
	Labels    PairLabels // what Pair.Label means; default ZeroSame
	NoHalf    bool       // leave out the factor ½, as some libraries do
	Reduction Reduction  // default Mean
	Normalise bool       // as in [Triplets]
}

// A Pair is two positions in a batch, and whether they are of one class.
type Pair struct {
	Left, Right int32
	Label       int8 // 0 or 1; see [PairLabels]
}

// PairLabels says which label a pair of one class has.
type PairLabels uint8

const (
	ZeroSame PairLabels = iota // 0 same, 1 different: Hadsell, Chopra and LeCun
	OneSame                    // 1 same, 0 different: most libraries
)

// Compute implements [Loss].
func (l Contrastive) Compute(ws *Workspace, grad pipeline.Embeddings, in Input) (pipeline.LossStats, error) {
	return ws.compute(grad, in, l.eval)
}

func (l Contrastive) eval(ws *Workspace, in Input) (pipeline.LossStats, error) {
	if err := l.check(); err != nil {
		return pipeline.LossStats{}, err
	}
	if l.Normalise || l.Distance == Cosine {
		if err := ws.normalise(in); err != nil {
			return pipeline.LossStats{}, err
		}
	}
	var t tally
	var same int
	var err error
	if in.Pairs != nil {
		same, err = l.listed(ws, &t, in)
	} else if err = needLabels(in); err == nil {
		done := false
		if ws.large(in) && l.Reduction != None {
			same, done = l.byPanels(ws, &t, in)
		}
		if !done {
			same = l.all(ws, &t, in)
		}
	}
	if err != nil {
		return pipeline.LossStats{}, err
	}
	return t.finish(ws, l.Reduction, in, same, t.stats.Count-same), nil
}

// listed counts in.Pairs and is how many are of one class.
func (l Contrastive) listed(ws *Workspace, t *tally, in Input) (same int, err error) {
	rows := in.Embeddings.Len()
	for i, p := range in.Pairs {
		x, y := int(p.Left), int(p.Right)
		if min(x, y) < 0 || max(x, y) >= rows {
			return 0, fmt.Errorf("loss: pair %d is (%d, %d) in a batch of %d rows", i, x, y, rows)
		}
		if p.Label != 0 && p.Label != 1 {
			return 0, fmt.Errorf("loss: pair %d has label %d, want 0 or 1", i, p.Label)
		}
		isSame := (p.Label == 1) == (l.Labels == OneSame)
		l.pair(ws, t, x, y, ws.distance(l.Distance, x, y), isSame)
		if isSame {
			same++
		}
	}
	return same, nil
}

// all counts every two images of known class and is how many are of one.
func (l Contrastive) all(ws *Workspace, t *tally, in Input) (same int) {
	for i := range in.Labels {
		ws.distances(l.Distance, i)
		for j := i + 1; j < len(in.Labels); j++ {
			isSame := in.positive(i, j)
			if isSame {
				same++
			}
			if isSame || in.negative(i, j) {
				l.pair(ws, t, i, j, ws.dist[j], isSame)
			}
		}
	}
	return same
}

// pair counts one pair at distance d.
func (l Contrastive) pair(ws *Workspace, t *tally, x, y int, d float64, same bool) {
	if same {
		t.ap += d
	} else {
		t.an += d
	}
	t.item(ws, l.Reduction, l.Of(d, same))
	ws.pull(l.Distance, x, y, d, l.slope(d, same))
}

// slope is ∂Of/∂d.
func (l Contrastive) slope(d float64, same bool) float64 {
	if !same {
		d = -max(0, l.Margin-d)
	}
	if l.NoHalf {
		return 2 * d
	}
	return d
}

// Of is the loss of one pair by its distance.
func (l Contrastive) Of(d float64, same bool) float64 {
	if !same {
		d = max(0, l.Margin-d)
	}
	if l.NoHalf {
		return float64(d * d)
	}
	return float64(d * d / 2)
}

func (l Contrastive) check() error {
	if l.Labels > OneSame {
		return fmt.Errorf("loss: Contrastive.Labels is %d", l.Labels)
	}
	if l.Reduction > None {
		return fmt.Errorf("loss: unknown reduction %v", l.Reduction)
	}
	return checkMargin("Contrastive", l.Margin, l.Distance)
}
