package loss

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func TestReductionNames(t *testing.T) {
	for _, r := range []Reduction{Mean, MeanNonZero, Sum, None} {
		if got, err := ParseReduction(r.String()); got != r || err != nil {
			t.Errorf("ParseReduction(%q) = %v, %v", r, got, err)
		}
	}
	if r, err := ParseReduction("average"); err == nil {
		t.Errorf("ParseReduction(average) = %v", r)
	}
}

// pk is a batch of b rows of length 1, four of a class, with a triplet for
// each anchor and each of its positives.
func pk(b, dim int) Input {
	r := rand.New(rand.NewPCG(uint64(b), uint64(dim)))
	in := Input{Embeddings: pipeline.MakeEmbeddings(b, dim), Labels: make([]int32, b), IDs: make([]int64, b)}
	for i := range b {
		in.Labels[i], in.IDs[i] = int32(i/4), int64(i)
		for k := range dim {
			in.Embeddings.Row(i)[k] = float32(r.NormFloat64() / math.Sqrt(float64(dim)))
		}
		for j := i / 4 * 4; j < min(b, i/4*4+4); j++ {
			if j != i {
				in.Triplets = append(in.Triplets, pipeline.Triplet{Anchor: int32(i), Positive: int32(j), Negative: int32((i + 4 + r.IntN(b-4)) % b)})
			}
		}
	}
	return in
}

func TestNoAllocation(t *testing.T) {
	in := pk(32, 16)
	grad := pipeline.MakeEmbeddings(32, 16)
	everyLoss(0.2, func(name string, l Loss) {
		for ws := range bothPaths {
			for _, grad := range []pipeline.Embeddings{grad, {}} {
				if n := testing.AllocsPerRun(5, func() {
					if _, err := l.Compute(ws, grad, in); err != nil {
						t.Fatal(err)
					}
				}); n != 0 {
					t.Errorf("%s %s: %v allocations", name, ws.path(), n)
				}
			}
		}
	})
	concrete := BatchAll{Loss: TripletMargin{Margin: 0.2}}
	var ws Workspace
	if n := testing.AllocsPerRun(5, func() { concrete.Compute(&ws, grad, in) }); n != 0 {
		t.Errorf("without the interface: %v allocations", n)
	}
}

// TestWorkspaceReuse: what a workspace was used for before does not matter.
func TestWorkspaceReuse(t *testing.T) {
	for used := range bothPaths {
		r := rand.New(rand.NewPCG(5, 5))
		everyLoss(0.5, func(name string, l Loss) {
			in := pk(8+4*r.IntN(20), 1+r.IntN(6))
			size := []float32{1, 1e-20}[r.IntN(2)]
			for k := range in.Embeddings.Data {
				in.Embeddings.Data[k] *= size
			}
			got := pipeline.MakeEmbeddings(in.Embeddings.Len(), in.Embeddings.Dim)
			want := pipeline.MakeEmbeddings(in.Embeddings.Len(), in.Embeddings.Dim)
			for k := range got.Data {
				got.Data[k] = float32(math.NaN()) // is overwritten
			}
			s, err := l.Compute(used, got, in)
			fresh, err2 := l.Compute(&Workspace{least: used.least}, want, in)
			if s != fresh || err != nil || err2 != nil {
				t.Fatalf("%s: %+v, %v in a used workspace, %+v, %v in a fresh one", name, s, err, fresh, err2)
			}
			for k := range got.Data {
				if got.Data[k] != want.Data[k] {
					t.Fatalf("%s: gradient %v in a used workspace, %v in a fresh one", name, got.Data, want.Data)
				}
			}
		})
	}
}

// FuzzLosses: finite rows give finite results, or an error that names a row;
// and a gradient that moves all rows alike is none.
func FuzzLosses(f *testing.F) {
	batch := func(dim byte, values ...float32) []byte {
		data := []byte{dim}
		for i, v := range values {
			data = append(data, byte(i/3))
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		return data
	}
	f.Add(batch(1, 0, 1, 1.5, 4, -1, 2), 1.0)
	f.Add(batch(2, 1, 0, 0, 1, 0.6, 0.8, -1, 1e-45, 1e-40, 3e38, 3e38, -3e38), 0.2)
	f.Add(batch(3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), 1e-300)
	f.Add(batch(1, 0, 0, float32(math.NaN()), 3, float32(math.Inf(1))), 1e300)
	f.Fuzz(func(t *testing.T, data []byte, margin float64) {
		if len(data) == 0 || len(data) > 400 || !(margin > 0) || margin > 1e100 {
			return
		}
		dim := 1 + int(data[0]%5)
		in := Input{Embeddings: pipeline.Embeddings{Dim: dim}}
		for data = data[1:]; len(data) >= 1+4*dim; data = data[1+4*dim:] {
			in.Labels = append(in.Labels, int32(data[0]%4)-1)
			for k := range dim {
				in.Embeddings.Data = append(in.Embeddings.Data, math.Float32frombits(binary.LittleEndian.Uint32(data[1+4*k:])))
			}
		}
		in.Triplets = valid(in)
		grad := pipeline.MakeEmbeddings(in.Embeddings.Len(), dim)
		test := func(name string, l Loss, ws *Workspace) {
			stats, err := l.Compute(ws, grad, in)
			if err != nil {
				var row *RowError
				if !errors.As(err, &row) {
					t.Errorf("%s: %v, want a RowError", name, err)
				}
				return
			}
			for _, v := range append([]float64{stats.Loss, stats.MeanAP, stats.MeanAN}, ws.Losses...) {
				if !(v >= 0) || math.IsInf(v, 0) {
					t.Errorf("%s: %+v, %v", name, stats, ws.Losses)
				}
			}
			if sum := stats.Hard + stats.SemiHard + stats.Easy; tripletLossOf(l) != nil && sum != stats.Count || stats.Active > stats.Count {
				t.Errorf("%s: %+v", name, stats)
			}
			for k := range dim {
				var sum, size float64
				low, high := math.Inf(1), math.Inf(-1)
				for i := range in.Labels {
					g, x := float64(grad.Row(i)[k]), float64(in.Embeddings.Row(i)[k])
					low, high = min(low, x), max(high, x)
					if math.IsNaN(g) || math.IsInf(g, 0) {
						t.Fatalf("%s: gradient %v", name, grad.Data)
					}
					sum += g
					size += math.Abs(g)
				}
				// What is left where the pulls of the items cancel is their rounding.
				pulls := float64(stats.Count) * (2*(high-low) + 1 + margin)
				if ws.least == 1 {
					pulls *= 1e10 // it is that of float32
				}
				if len(ws.norm) == 0 && math.Abs(sum) > 1e-6*size+1e-15*pulls+1e-44 {
					t.Errorf("%s: gradient of value %d sums to %g, its size to %g", name, k, sum, size)
				}
			}
		}
		everyLoss(margin, func(name string, l Loss) {
			for ws := range bothPaths {
				test(name+" "+ws.path(), l, ws)
			}
		})
	})
}
