package loss

import "github.com/tercet-ml/tercet/pipeline"

// A tally adds up a loss over the items of a batch.
type tally struct {
	stats  pipeline.LossStats
	sum    float64
	ap, an float64 // sums of distances
}

// triplet counts one triplet and is the slope of its loss.
func (t *tally) triplet(ws *Workspace, l TripletLoss, r Reduction, ap, an float64) float64 {
	t.ap += ap
	t.an += an
	switch l.Kind(ap, an) {
	case pipeline.Hard:
		t.stats.Hard++
	case pipeline.SemiHard:
		t.stats.SemiHard++
	default:
		t.stats.Easy++
	}
	t.item(ws, r, l.Of(ap, an))
	return l.Slope(ap, an)
}

// item counts one loss.
func (t *tally) item(ws *Workspace, r Reduction, loss float64) {
	t.stats.Count++
	t.sum += loss
	if loss > 0 {
		t.stats.Active++
	}
	if r == None {
		ws.Losses = append(ws.Losses, loss)
	}
}

// finish reduces the loss and ws's gradient. positives and negatives are how
// many distances t.ap and t.an are sums of.
func (t *tally) finish(ws *Workspace, r Reduction, in Input, positives, negatives int) pipeline.LossStats {
	s := t.stats
	if s.Count == 0 {
		s.Empty = whyEmpty(in)
	}
	divisor := r.divisor(s.Count, s.Active)
	s.Loss = t.sum / divisor
	s.MeanAP = t.ap / float64(max(positives, 1))
	s.MeanAN = t.an / float64(max(negatives, 1))
	ws.finish(divisor)
	return s
}

// positive reports whether rows i and j are two images of one known class.
func (in Input) positive(i, j int) bool {
	return i != j && in.Labels[i] == in.Labels[j] && in.Labels[i] != pipeline.Unknown &&
		(in.IDs == nil || in.IDs[i] != in.IDs[j])
}

// negative reports whether rows i and j are of two known classes.
func (in Input) negative(i, j int) bool {
	return in.Labels[i] != in.Labels[j] && in.Labels[i] != pipeline.Unknown && in.Labels[j] != pipeline.Unknown
}

// before orders rows by sample id, then by position: how ties are broken.
func (in Input) before(i, j int) bool {
	if in.IDs != nil && in.IDs[i] != in.IDs[j] {
		return in.IDs[i] < in.IDs[j]
	}
	return i < j
}

// whyEmpty says why a loss found no item in in.
func whyEmpty(in Input) pipeline.Empty {
	var positive, negative bool
	for i := range in.Labels {
		for j := range i {
			positive = positive || in.positive(i, j)
			negative = negative || in.negative(i, j)
			if positive && negative {
				return pipeline.NoTriplet
			}
		}
	}
	switch {
	case in.Labels == nil:
		return pipeline.NoTriplet
	case positive:
		return pipeline.NoNegative
	default:
		return pipeline.NoPositive
	}
}
