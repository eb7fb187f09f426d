package stages

import (
	"math"
	"testing"

	"github.com/tercet-ml/tercet/loss"
)

func TestBands(t *testing.T) {
	l := loss.TripletMargin{Margin: 0.5, Distance: loss.Euclidean}
	inf := math.Inf(1)
	for _, ap := range []float64{0, 1, 1.25, 3e-9} {
		hi := l.Edge(ap)
		for _, an := range []float64{0, ap, math.Nextafter(ap, -inf), math.Nextafter(ap, inf), ap + 0.25, hi, math.Nextafter(hi, -inf), math.Nextafter(hi, inf), 100} {
			semi, hard, all, pml := ap < an && an < hi, an <= ap, an < hi, ap < an && an <= hi
			for rule, want := range map[Rule]bool{SemiHard: semi, Hard: hard, BatchAll: all, VGG: all, PML: pml, All: true, BatchHard: true, TFA: true} {
				if got := bandOf(rule, l, ap).holds(an); got != want {
					t.Errorf("%v: d_ap %v, d_an %v in the band: %v, want %v", rule, ap, an, got, want)
				}
			}
		}
	}
}
