package loss

import "github.com/tercet-ml/tercet/pipeline"

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
