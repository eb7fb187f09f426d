package stages

import (
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// A Checker recomputes what a triplet or pairs file says of its rows.
type Checker struct {
	emb    pipeline.Embeddings
	labels []int32
	rule   Rule
	loss   loss.TripletMargin
	pair   loss.Contrastive
}

// NewChecker returns a checker for files of that metadata. emb are the
// embeddings they were mined from, and labels those of the data set, both by
// sample id; what is nil (or empty) is not checked.
func NewChecker(meta pipeline.TripletMeta, emb pipeline.Embeddings, labels []int32) (*Checker, error) {
	c := &Checker{emb: emb, labels: labels}
	d, err := loss.ParseDistance(meta.Distance)
	if err != nil {
		return nil, err
	}
	if c.rule, err = ParseRule(meta.Rule); err != nil {
		return nil, err
	}
	c.loss = loss.TripletMargin{Margin: meta.Margin, Distance: d}
	c.pair = loss.Contrastive{Margin: meta.PairMargin, Distance: loss.Euclidean}
	switch {
	case !(meta.Margin > 0):
		return nil, fmt.Errorf("margin is %v, want more than 0", meta.Margin)
	case emb.Dim > 0 && emb.Dim != meta.Dim:
		return nil, fmt.Errorf("embeddings have %d dimensions, and the file was mined from %d", emb.Dim, meta.Dim)
	case emb.Dim > 0 && int64(emb.Len()) != meta.Rows:
		return nil, fmt.Errorf("there are embeddings of %d samples, and the file was mined from %d", emb.Len(), meta.Rows)
	case labels != nil && int64(len(labels)) != meta.Rows:
		return nil, fmt.Errorf("the data set has %d rows, and the file was mined from %d", len(labels), meta.Rows)
	}
	return c, nil
}

// Triplet says what is wrong with a triplet: an id that there is not, a label
// that is not the data set's, a distance, loss or kind that is not what the
// embeddings give, or a negative outside the band of the rule.
func (c *Checker) Triplet(t pipeline.MinedTriplet) error {
	for _, s := range []struct {
		name  string
		id    int64
		label int32
	}{{"anchor", t.Anchor, t.AnchorLabel}, {"positive", t.Positive, t.PositiveLabel}, {"negative", t.Negative, t.NegativeLabel}} {
		if err := c.sample(s.name, s.id); err != nil {
			return err
		}
		if c.labels != nil && c.labels[s.id] != s.label {
			return fmt.Errorf("%s_label of sample %d is %d, and %d in the data", s.name, s.id, s.label, c.labels[s.id])
		}
	}
	if c.emb.Dim == 0 {
		return nil
	}
	ap, an := c.distance(t.Anchor, t.Positive), c.distance(t.Anchor, t.Negative)
	for _, v := range []struct {
		name       string
		have, want float32
	}{{"d_ap", t.AP, float32(ap)}, {"d_an", t.AN, float32(an)}, {"loss", t.Loss, float32(c.loss.Of(ap, an))}} {
		if v.have != v.want {
			return fmt.Errorf("%s is %v, and %v by the embeddings", v.name, v.have, v.want)
		}
	}
	if kind := c.loss.Kind(ap, an); t.Kind != kind {
		return fmt.Errorf("kind is %v, and %v by the embeddings", t.Kind, kind)
	}
	if !bandOf(c.rule, c.loss, ap).holds(an) {
		return fmt.Errorf("d_ap %v and d_an %v are not in the band of rule %v, margin %v", ap, an, c.rule, c.loss.Margin)
	}
	return nil
}

// Pair does for a pair what [Checker.Triplet] does for a triplet.
func (c *Checker) Pair(p pipeline.MinedPair) error {
	for _, s := range []struct {
		name string
		id   int64
	}{{"left", p.Left}, {"right", p.Right}} {
		if err := c.sample(s.name, s.id); err != nil {
			return err
		}
	}
	if c.labels != nil {
		l, r := c.labels[p.Left], c.labels[p.Right]
		if l == pipeline.Unknown || r == pipeline.Unknown || (l == r) != (p.Label == 0) {
			return fmt.Errorf("label is %d, and samples %d and %d are of classes %d and %d in the data", p.Label, p.Left, p.Right, l, r)
		}
	}
	if c.emb.Dim == 0 {
		return nil
	}
	d := float32(c.distance(p.Left, p.Right))
	if p.Distance != d {
		return fmt.Errorf("distance is %v, and %v by the embeddings", p.Distance, d)
	}
	of := Pairs{Loss: c.pair, Distance: c.loss.Distance}
	if want := of.pair(pipeline.MinedTriplet{Anchor: p.Left}, p.Right, p.Label, d).Loss; p.Loss != want {
		return fmt.Errorf("loss is %v, and %v by the embeddings", p.Loss, want)
	}
	return nil
}

// sample checks an id against as many samples as are known.
func (c *Checker) sample(name string, id int64) error {
	n := int64(math.MaxInt64)
	if c.labels != nil {
		n = int64(len(c.labels))
	}
	if c.emb.Dim > 0 {
		n = min(n, int64(c.emb.Len()))
	}
	if id < 0 || id >= n {
		return fmt.Errorf("%s is sample %d of %d", name, id, n)
	}
	return nil
}

func (c *Checker) distance(x, y int64) float64 {
	return c.loss.Distance.Mining(c.emb.Row(int(x)), c.emb.Row(int(y)))
}
