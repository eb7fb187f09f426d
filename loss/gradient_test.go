package loss

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// everyLoss yields each loss × distance × reduction × normalisation.
func everyLoss(margin float64, yield func(name string, l Loss)) {
	for _, d := range []Distance{SqEuclidean, Euclidean, Cosine} {
		for _, r := range []Reduction{Mean, MeanNonZero, Sum, None} {
			for _, norm := range []bool{false, true} {
				settings := fmt.Sprintf("%v/%v/normalise=%v", d, r, norm)
				for name, t := range map[string]TripletLoss{
					"margin": TripletMargin{Margin: margin, Distance: d},
					"soft":   TripletSoftMargin{Distance: d},
				} {
					yield("triplets/"+name+"/"+settings, Triplets{Loss: t, Reduction: r, Normalise: norm})
					yield("batch-all/"+name+"/"+settings, BatchAll{Loss: t, Reduction: r, Normalise: norm})
					yield("batch-hard/"+name+"/"+settings, BatchHard{Loss: t, Reduction: r, Normalise: norm})
				}
				yield("contrastive/half/"+settings, Contrastive{Margin: margin, Distance: d, Reduction: r, Normalise: norm})
				yield("contrastive/whole/"+settings, Contrastive{Margin: margin, Distance: d, Labels: OneSame, NoHalf: true, Reduction: r, Normalise: norm})
			}
		}
	}
}

// randomBatch has 9 rows: classes of 3, 2, 2 and 1, and one of unknown class.
func randomBatch(r *rand.Rand, dim int) Input {
	in := Input{Labels: []int32{0, 0, 0, 1, 1, 2, 2, 3, pipeline.Unknown}}
	in.Embeddings = pipeline.MakeEmbeddings(len(in.Labels), dim)
	for k := range in.Embeddings.Data {
		in.Embeddings.Data[k] = float32(r.NormFloat64())
	}
	all := valid(in)
	for range 12 {
		in.Triplets = append(in.Triplets, all[r.IntN(len(all))])
	}
	return in
}

func rowsOf(e pipeline.Embeddings) [][]float64 {
	rows := make([][]float64, e.Len())
	for i := range rows {
		for _, v := range e.Row(i) {
			rows[i] = append(rows[i], float64(v))
		}
	}
	return rows
}

// smooth reports whether no distance or edge is so near another that a step
// of a difference quotient changes a choice.
func smooth(l Loss, rows [][]float64, in Input) bool {
	near := func(x, y float64) bool { return math.Abs(x-y) < 2e-3 }
	all := in
	all.Triplets = valid(in)
	switch l := l.(type) {
	case Contrastive:
		for _, it := range reference(l, rows, in) {
			if near(it.an, l.Margin) {
				return false
			}
		}
	case BatchHard:
		items := reference(Triplets{Loss: l.Loss, Normalise: l.Normalise}, rows, all)
		for i, x := range items {
			for j, y := range items[:i] {
				s, t := all.Triplets[i], all.Triplets[j]
				if s.Anchor == t.Anchor && (s.Positive != t.Positive && near(x.ap, y.ap) || s.Negative != t.Negative && near(x.an, y.an)) {
					return false
				}
			}
		}
	}
	if m, ok := tripletLossOf(l).(TripletMargin); ok {
		norm := func() bool {
			switch l := l.(type) {
			case Triplets:
				return l.Normalise
			case BatchAll:
				return l.Normalise
			default:
				return l.(BatchHard).Normalise
			}
		}()
		for _, it := range reference(Triplets{Loss: m, Normalise: norm}, rows, all) {
			if near(it.an, m.Edge(it.ap)) {
				return false
			}
		}
	}
	return true
}

// TestGradients holds loss, statistics and gradient to the definition and its
// central differences, all in float64.
func TestGradients(t *testing.T) {
	everyLoss(0.7, func(name string, l Loss) {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			done := 0
			for range 60 {
				in := randomBatch(r, 4)
				rows := rowsOf(in.Embeddings)
				if !smooth(l, rows, in) {
					continue
				}
				done++
				for ws := range bothPaths {
					checkBatch(t, ws, l, in, rows)
				}
				if c, ok := l.(Contrastive); ok {
					in.Pairs = allPairs(in, c.Labels)[3:20]
					for ws := range bothPaths {
						checkBatch(t, ws, l, in, rows)
					}
				}
				if t.Failed() || done == 4 {
					break
				}
			}
			if done < 2 {
				t.Fatalf("only %d batches were smooth", done)
			}
		})
	})
}

// checkBatch allows by panels what float32 is off by: a gradient of 9 rows adds up
// hundreds of pulls, each right to 2⁻²¹.
func checkBatch(t *testing.T, ws *Workspace, l Loss, in Input, rows [][]float64) {
	t.Helper()
	off, tolerance := ws.tolerance(), 2e-7
	if ws.least == 1 {
		tolerance = 5e-6
	}
	grad := pipeline.MakeEmbeddings(in.Embeddings.Len(), in.Embeddings.Dim)
	stats, err := l.Compute(ws, grad, in)
	if err != nil {
		t.Fatal(err)
	}
	r := reductionOf(l)
	items := reference(l, rows, in)
	want := refStats(l, items)
	for _, f := range []struct {
		name      string
		got, want float64
	}{
		{"loss", stats.Loss, want.Loss}, {"mean d_ap", stats.MeanAP, want.MeanAP}, {"mean d_an", stats.MeanAN, want.MeanAN},
	} {
		if math.Abs(f.got-f.want) > off*(1+math.Abs(f.want)) {
			t.Errorf("%s is %v, want %v", f.name, f.got, f.want)
		}
	}
	want.Loss, want.MeanAP, want.MeanAN = stats.Loss, stats.MeanAP, stats.MeanAN
	if stats != want {
		t.Errorf("stats are %+v, want %+v", stats, want)
	}
	if r == None {
		if len(ws.Losses) != len(items) {
			t.Fatalf("%d losses, want %d", len(ws.Losses), len(items))
		}
		for i, got := range ws.Losses {
			if math.Abs(got-items[i].loss) > 1e-12*(1+got) {
				t.Errorf("loss %d is %v, want %v", i, got, items[i].loss)
			}
		}
	}

	const h = 1e-5
	for i, row := range rows {
		for k, v := range row {
			row[k] = v + h
			up := reduce(r, reference(l, rows, in))
			row[k] = v - h
			down := reduce(r, reference(l, rows, in))
			row[k] = v
			want := (up - down) / (2 * h)
			exact := ws.gradRow(i)[k]
			if math.Abs(exact-want) > tolerance*(1+math.Abs(want)) {
				t.Errorf("gradient of row %d, value %d is %v, central difference %v", i, k, exact, want)
			}
			if got := grad.Row(i)[k]; got != float32(exact) {
				t.Errorf("gradient of row %d, value %d is stored as %v, want %v rounded", i, k, got, exact)
			}
		}
	}
}
