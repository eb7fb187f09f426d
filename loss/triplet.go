package loss

import (
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/pipeline"
)

// A TripletLoss is the loss of one triplet as a function of its distances
// d(a,p) and d(a,n): [TripletMargin] or [TripletSoftMargin].
type TripletLoss interface {
	Of(ap, an float64) float64         // ≥ 0
	Slope(ap, an float64) float64      // ∂Of/∂ap, which is −∂Of/∂an; in [0, 1]
	Kind(ap, an float64) pipeline.Kind // for statistics

	metric() Distance
	check() error
}

// TripletMargin is the triplet loss of Schroff, Kalenichenko and Philbin,
// "FaceNet" (CVPR 2015, arXiv:1503.03832), section 3.1:
//
//	L(a, p, n) = max(0, d(a,p) − d(a,n) + Margin)
type TripletMargin struct {
	Margin   float64 // in units of Distance; greater than 0
	Distance Distance
}

// Edge is d(a,p) + Margin, the upper edge of the semi-hard band. Every rule
// compares with this one number, so that all round alike.
func (t TripletMargin) Edge(ap float64) float64 { return ap + t.Margin }

// Of is the loss of one triplet by its distances.
func (t TripletMargin) Of(ap, an float64) float64 { return max(0, t.Edge(ap)-an) }

// Slope is 1 where the loss is positive and 0 elsewhere.
func (t TripletMargin) Slope(ap, an float64) float64 {
	if t.Of(ap, an) > 0 {
		return 1
	}
	return 0
}

// SemiHard reports whether d(a,p) < d(a,n) < d(a,p) + Margin (FaceNet, section 3.2).
func (t TripletMargin) SemiHard(ap, an float64) bool { return ap < an && an < t.Edge(ap) }

// Kind is the part of the partition hard, semi-hard, easy that the distances fall in.
func (t TripletMargin) Kind(ap, an float64) pipeline.Kind {
	switch {
	case an <= ap:
		return pipeline.Hard
	case an < t.Edge(ap):
		return pipeline.SemiHard
	default:
		return pipeline.Easy
	}
}

func (t TripletMargin) metric() Distance { return t.Distance }

func (t TripletMargin) check() error { return checkMargin("TripletMargin", t.Margin, t.Distance) }

// TripletSoftMargin is the triplet loss without a margin of Hermans, Beyer and
// Leibe, "In Defense of the Triplet Loss for Person Re-Identification" (2017,
// arXiv:1703.07737), section 2:
//
//	L(a, p, n) = log(1 + exp(d(a,p) − d(a,n)))
//
// It is computed without overflow. Its last bit may differ between kinds of
// machine, as that of [math.Exp] does.
type TripletSoftMargin struct {
	Distance Distance
}

// Of is the loss of one triplet by its distances.
func (TripletSoftMargin) Of(ap, an float64) float64 {
	x := ap - an
	return max(0, x) + math.Log1p(math.Exp(-math.Abs(x)))
}

// Slope is the logistic function of d(a,p) − d(a,n).
func (TripletSoftMargin) Slope(ap, an float64) float64 { return 1 / (1 + math.Exp(an-ap)) }

// Kind is Hard where d(a,n) ≤ d(a,p) and Easy elsewhere: without a margin
// there is no semi-hard band.
func (TripletSoftMargin) Kind(ap, an float64) pipeline.Kind {
	if an <= ap {
		return pipeline.Hard
	}
	return pipeline.Easy
}

func (t TripletSoftMargin) metric() Distance { return t.Distance }

func (t TripletSoftMargin) check() error {
	if t.Distance > Cosine {
		return fmt.Errorf("loss: TripletSoftMargin.Distance is %v", t.Distance)
	}
	return nil
}

func checkMargin(name string, margin float64, d Distance) error {
	if !(margin > 0) || math.IsInf(margin, 1) {
		return fmt.Errorf("loss: %s.Margin is %v, want > 0", name, margin)
	}
	if d > Cosine {
		return fmt.Errorf("loss: %s.Distance is %v", name, d)
	}
	return nil
}
