package stages

import (
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// A Drift is how far a generation is from the one before it.
type Drift struct {
	From        int32   `json:"from"`
	To          int32   `json:"to"`
	Rows        int     `json:"rows"`         // samples that were compared; 0 where the dimensions differ
	MeanCosine  float64 `json:"mean_cosine"`  // mean cosine of the angle between a sample's old and new row; 1: no turn
	Triplets    int     `json:"triplets"`     // that were compared; see DriftConfig
	KindChanged float64 `json:"kind_changed"` // share of those that are hard, semi-hard or easy and were another: whose negative changed bands
}

// DriftConfig says which triplets are watched from generation to generation:
// so many valid ones, drawn once and uniformly by anchor. The zero value watches
// rows alone.
type DriftConfig struct {
	Labels   []int32            // class number of each sample; read by NewCache alone
	Loss     loss.TripletMargin // whose margin and distance define the kinds
	Triplets int                // default 4,096
}

// A probe is a triplet of sample ids.
type probe struct{ anchor, positive, negative int32 }

// probes draws the triplets; fewer where the labels hardly have any.
func (d DriftConfig) probes(samples int) ([]probe, error) {
	if d.Labels == nil {
		return nil, nil
	}
	switch {
	case len(d.Labels) != samples:
		return nil, usage("DriftConfig.Labels", "has %d labels for %d samples", len(d.Labels), samples)
	case !(d.Loss.Margin > 0) || d.Loss.Distance > loss.Cosine:
		return nil, usage("DriftConfig.Loss", "is %+v, want a margin > 0 in units of a distance", d.Loss)
	case d.Triplets < 0 || d.Triplets > 1<<24:
		return nil, usage("DriftConfig.Triplets", "is %d, want 1 to 2^24", d.Triplets)
	}
	want := d.Triplets
	if want == 0 {
		want = 4096
	}
	members := make(map[int32][]int32)
	for id, l := range d.Labels {
		if l != pipeline.Unknown {
			members[l] = append(members[l], int32(id))
		}
	}
	var drawn []probe
	dice := newDice(newPlanKey("drift"))
	draw := func(n int) int { return int(dice.below(uint64(n))) }
	for range 64 * want { // most draws are valid, unless the classes are very few or very small
		if len(drawn) == want || samples == 0 {
			break
		}
		p := probe{anchor: int32(draw(samples)), negative: int32(draw(samples))}
		label := d.Labels[p.anchor]
		of := members[label]
		if label == pipeline.Unknown || len(of) < 2 || d.Labels[p.negative] == pipeline.Unknown || d.Labels[p.negative] == label {
			continue
		}
		if p.positive = of[draw(len(of))]; p.positive != p.anchor {
			drawn = append(drawn, p)
		}
	}
	return drawn, nil
}

// driftOf compares two generations.
func driftOf(from, to *Snapshot, probes []probe, l loss.TripletMargin) Drift {
	d := Drift{From: from.Generation, To: to.Generation, MeanCosine: 1}
	old, now := from.Embeddings, to.Embeddings
	if old.Dim != now.Dim || old.Len() != now.Len() || old.Len() == 0 {
		return d
	}
	var sum float64
	for i := range old.Len() {
		if c := cosine(old.Row(i), now.Row(i)); !math.IsNaN(c) {
			sum += c
			d.Rows++
		}
	}
	d.MeanCosine = sum / math.Max(1, float64(d.Rows))
	changed := 0
	for _, p := range probes {
		kind := func(e pipeline.Embeddings) pipeline.Kind {
			a := e.Row(int(p.anchor))
			return l.Kind(l.Distance.Mining(a, e.Row(int(p.positive))), l.Distance.Mining(a, e.Row(int(p.negative))))
		}
		if kind(old) != kind(now) {
			changed++
		}
	}
	d.Triplets = len(probes)
	d.KindChanged = float64(changed) / math.Max(1, float64(len(probes)))
	return d
}

// cosine is that of the angle between two rows; NaN where one is all 0.
func cosine(x, y []float32) float64 {
	var xy, xx, yy float64
	for k, v := range x {
		a, b := float64(v), float64(y[k])
		xy += float64(a * b)
		xx += float64(a * a)
		yy += float64(b * b)
	}
	return xy / math.Sqrt(float64(xx*yy))
}

// String is one line for logs.
func (d Drift) String() string {
	return fmt.Sprintf("generation %d to %d: mean cosine %.4f, %.2f %% of the triplets of another kind", d.From, d.To, d.MeanCosine, 100*d.KindChanged)
}
