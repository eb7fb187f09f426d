package loss

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// bothPaths yields a workspace that computes a small batch in float64 and one
// that sends every batch through panels.
func bothPaths(yield func(*Workspace) bool) {
	_ = yield(new(Workspace)) && yield(&Workspace{least: 1})
}

func (ws *Workspace) path() string {
	if ws.least == 1 {
		return "by panels"
	}
	return "in float64"
}

// tolerance is how far a loss over rows with values of a few units, and the
// distances in it, may be from float64, relative to their size: 2·22·2⁻²⁴ times
// norms of up to 8 is the slack where dim is 2.
func (ws *Workspace) tolerance() float64 {
	if ws.least == 1 {
		return 3e-5
	}
	return 1e-12
}

// scatter is b rows of a kind that is hard on a matrix product.
func scatter(r *rand.Rand, kind string, b, dim int) Input {
	in := Input{Embeddings: pipeline.MakeEmbeddings(b, dim), Labels: make([]int32, b)}
	for i := range b {
		in.Labels[i] = r.Int32N(int32(b/3+2)) - 1
		row := in.Embeddings.Row(i)
		size := 1.0
		switch kind {
		case "huge":
			size = 1e37
		case "tiny":
			size = 1e-40
		case "mixed":
			size = math.Ldexp(1, r.IntN(60)-30)
		}
		for k := range row {
			x := r.NormFloat64()
			switch kind {
			case "far":
				x = 1000 + x/1000
			case "clustered":
				x = float64(k%7-3) + float64(in.Labels[i]) + x/1000
			case "grid":
				x = math.Round(2 * x)
			}
			row[k] = float32(size * x)
		}
		if i > 0 && r.IntN(8) == 0 { // a duplicate
			copy(row, in.Embeddings.Row(r.IntN(i)))
		}
	}
	return in
}

var scatterKinds = []string{"normal", "huge", "tiny", "mixed", "far", "clustered", "grid"}

// TestPanelDistances holds the squared distances of panels to those in float64,
// within the slack of their rows.
func TestPanelDistances(t *testing.T) {
	for _, kind := range scatterKinds {
		var used float64 // largest share of a slack
		for _, dim := range []int{1, 2, 7, 32, 130} {
			r := rand.New(rand.NewPCG(uint64(dim), 3))
			in := scatter(r, kind, 70, dim)
			var ws Workspace
			if err := ws.load(pipeline.Embeddings{}, in); err != nil {
				t.Fatal(err)
			}
			p := &ws.panels
			p.load(&ws, in, false)
			n := len(p.order)
			for lane := 0; lane < n; lane += laneCount {
				values, skip := p.fill(&ws, lane, 0, n)
				for j := range skip {
					for i := range min(laneCount, n-lane) {
						a, b := int(p.order[lane+i]), int(p.order[j])
						if got, want := skip[j]>>i&1 == 1, in.Labels[a] == in.Labels[b]; got != want {
							t.Fatalf("%s: rows %d and %d of labels %d and %d: left out is %v", kind, a, b, in.Labels[a], in.Labels[b], got)
						}
						want := ws.distance(SqEuclidean, a, b) / p.unit / p.unit
						slack := float64(p.slack[lane+i]) + float64(p.slack[j])
						if off := math.Abs(float64(values[j*laneCount+i]+p.norm[j]) - want); off > slack {
							t.Fatalf("%s dim=%d: %d, %d: off by %g of %g, more than %g", kind, dim, a, b, off, want, slack)
						} else if slack > 0 {
							used = max(used, off/slack)
						}
					}
				}
			}
		}
		if used < 0.02 && kind != "grid" {
			t.Errorf("%s: errors reach %.3f of the slack at most: it says nothing", kind, used)
		}
	}
}

// problems is how many random problems a test takes: 10,000 in a long run, and
// few in a short one, under emulation.
func problems() int {
	switch {
	case os.Getenv("TERCET_LONG") != "":
		return 10000
	case testing.Short():
		return 150
	default:
		return 1000
	}
}

// TestPanelsAgainstFloat64 sends random batches, with ties, duplicates, images
// that are there twice and unknown labels, through panels and through float64
// (which the other tests hold to the definition). What was counted is equal;
// loss and gradient are within the bounds of the comments.
func TestPanelsAgainstFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var decided, active int
	for i := range problems() {
		kind := scatterKinds[i%len(scatterKinds)]
		b, dim := 2+r.IntN(40), 1+r.IntN(20)
		if i%200 == 0 {
			b = 550 + r.IntN(60) // more than a stretch
		}
		in := scatter(r, kind, b, dim)
		in.IDs = make([]int64, b)
		for i := range b {
			in.IDs[i] = r.Int64N(int64(4 * b))
		}
		d := Distance(r.IntN(3))
		normalise := kind == "normal" && r.IntN(2) == 0
		margin := medianDistance(in, d) / float64(1+r.IntN(4))
		if kind == "grid" {
			margin = float64(1 + r.IntN(3))
		}
		for _, l := range []Loss{
			BatchAll{Loss: TripletMargin{Margin: margin, Distance: d}, Reduction: Reduction(r.IntN(3)), Normalise: normalise},
			BatchAll{Loss: TripletSoftMargin{Distance: d}, Reduction: Reduction(r.IntN(3)), Normalise: normalise},
			BatchHard{Loss: TripletMargin{Margin: margin, Distance: d}, Reduction: Reduction(r.IntN(4)), Normalise: normalise},
			BatchHard{Loss: TripletSoftMargin{Distance: d}, Normalise: normalise},
			Contrastive{Margin: margin, Distance: d, Reduction: Reduction(r.IntN(3)), NoHalf: r.IntN(2) == 0, Normalise: normalise},
		} {
			name := fmt.Sprintf("problem %d, %s: %+v of %d×%d", i, kind, l, b, dim)
			panels, exact := Workspace{least: 1}, Workspace{least: math.MaxInt}
			got, want := pipeline.MakeEmbeddings(b, dim), pipeline.MakeEmbeddings(b, dim)
			s, err := l.Compute(&panels, got, in)
			ref, err2 := l.Compute(&exact, want, in)
			if (err == nil) != (err2 == nil) {
				t.Fatalf("%s: %v by panels, %v in float64", name, err, err2)
			}
			if err != nil {
				continue
			}
			if _, ok := l.(BatchHard); ok {
				if s != ref || !slices.Equal(got.Data, want.Data) || !slices.Equal(panels.Losses, exact.Losses) {
					t.Fatalf("%s:\n%+v by panels\n%+v in float64", name, s, ref)
				}
				continue
			}
			checkAgainstFloat64(t, name, l, in, &panels, &exact, s, ref)
			active += s.Active
			decided++
		}
	}
	if active < 100*decided {
		t.Errorf("%d active items in %d problems: too few", active, decided)
	}
}

func medianDistance(in Input, d Distance) float64 {
	var all []float64
	for i := range min(20, in.Embeddings.Len()) {
		for j := range i {
			x, y := in.Embeddings.Row(i), in.Embeddings.Row(j)
			v := d.Mining(x, y)
			if d == Cosine {
				v = 1
			}
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return max(all[len(all)/2], 1e-30)
}

// checkAgainstFloat64 bounds how far results by panels may be from those in
// float64. A distance is off by the slack of its rows, which under Euclidean is
// at most √slack/32 since the square is at least 1,024 times the slack. In the
// gradient, each pair whose weight is w adds w·γ·(|e|+|f|) for the chain of the
// product (γ = (stretch+8)·2⁻²⁴, which covers what rounding e, f and w adds), and
// where w depends on the distance what that is off by.
func checkAgainstFloat64(t *testing.T, name string, l Loss, in Input, panels, exact *Workspace, got, want pipeline.LossStats) {
	t.Helper()
	p := &panels.panels
	var slack float64
	for _, s := range p.slack {
		slack = max(slack, 2*float64(s))
	}
	contrastive, isContrastive := l.(Contrastive)
	d := contrastive.Distance
	if !isContrastive {
		d = tripletLossOf(l).metric()
	}
	off := p.distance(d, slack)
	if d == Euclidean {
		off = p.unit * math.Sqrt(slack) / 32
	}
	items := float64(want.Active) / reductionOf(l).divisor(want.Count, want.Active)
	lossOff := items * off
	if isContrastive {
		lossOff = items * 2 * (contrastive.Margin + off) * (off + contrastive.Margin*0x1p-22) // margin − d is rounded, too
	}
	rounding := float64(want.Count+10) * 0x1p-52 // of the sums in float64
	if math.Abs(got.Loss-want.Loss) > lossOff+rounding*want.Loss {
		t.Fatalf("%s: loss %v by panels, %v in float64, apart by more than %g", name, got.Loss, want.Loss, lossOff)
	}
	if math.Abs(got.MeanAP-want.MeanAP) > rounding*want.MeanAP || math.Abs(got.MeanAN-want.MeanAN) > off+rounding*want.MeanAN {
		t.Fatalf("%s:\n%+v by panels\n%+v in float64", name, got, want)
	}
	got.Loss, got.MeanAP, got.MeanAN = want.Loss, want.MeanAP, want.MeanAN
	if got != want {
		t.Fatalf("%s:\n%+v by panels\n%+v in float64", name, got, want)
	}
	bound := gradientBound(l, in, panels, want)
	for k, x := range panels.grad {
		if math.Abs(x-exact.grad[k]) > bound[k]+rounding*math.Abs(x) {
			t.Fatalf("%s: value %d of the gradient is %v by panels, %v in float64, apart by more than %g", name, k, x, exact.grad[k], bound[k])
		}
	}
}

// gradientBound is what checkAgainstFloat64 says, pair by pair.
func gradientBound(l Loss, in Input, ws *Workspace, stats pipeline.LossStats) []float64 {
	const gamma = (stretch + 8) * 0x1p-24
	p := &ws.panels
	bound := make([]float64, len(ws.grad))
	divisor := reductionOf(l).divisor(stats.Count, stats.Active)
	positives := make([][]float64, len(p.order))
	if l, ok := l.(BatchAll); ok {
		p.positives(in, func(i, j int) {
			ap := ws.distance(l.Loss.metric(), int(p.order[i]), int(p.order[j]))
			positives[i], positives[j] = append(positives[i], ap), append(positives[j], ap)
		})
	}
	for i, a := range p.order {
		for j, n := range p.order {
			if !in.negative(int(a), int(n)) {
				continue
			}
			slack := float64(p.slack[i]) + float64(p.slack[j])
			x := ws.distance(SqEuclidean, int(a), int(n)) / p.unit / p.unit
			var weight, change float64 // of the pair, and what slack may change
			switch l := l.(type) {
			case BatchAll:
				d := l.Loss.metric()
				dist := d.of(x * p.unit * p.unit)
				for _, side := range [][]float64{positives[i], positives[j]} {
					for _, ap := range side {
						weight += l.Loss.Slope(ap, dist)
					}
				}
				weight = ws.weight(d, dist, weight)
				if d == Euclidean && x > 0 {
					change = weight * slack / x
				}
				if _, soft := l.Loss.(TripletSoftMargin); soft { // whose slope changes by a quarter at most
					off := p.distance(d, slack)
					if d == Euclidean {
						off = p.unit * min(slack/math.Sqrt(x), math.Sqrt(slack)/32)
					}
					change += ws.weight(d, dist, off*float64(len(positives[i])+len(positives[j]))/4)
				}
			case Contrastive:
				dist := l.Distance.of(x * p.unit * p.unit)
				slope := -l.slope(dist, false)
				weight = ws.weight(l.Distance, dist, slope)
				if slope > 0 {
					change = ws.weight(l.Distance, dist, 2*p.distance(l.Distance, slack))
					if l.Distance == Euclidean && x > 0 {
						change = 2 * l.Margin / dist * slack / x
					}
				}
			}
			for k := range ws.dim {
				e, f := float64(p.rows[i*ws.dim+k]), float64(p.rows[j*ws.dim+k])
				size := math.Abs(e) + math.Abs(f) + 0x1p-148
				bound[int(a)*ws.dim+k] += p.unit * (weight*gamma*size + change*(math.Abs(e-f)+gamma*size)) / divisor
			}
		}
	}
	for i, norm := range ws.norm { // back through the normalisation, which lengthens nothing
		row := bound[i*ws.dim:][:ws.dim]
		var sum float64
		for _, b := range row {
			sum += b * b
		}
		for k := range row {
			row[k] = math.Sqrt(sum) / norm
		}
	}
	return bound
}
