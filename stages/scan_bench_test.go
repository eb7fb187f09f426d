package stages

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// spheres is n rows of length 1 around the centres of so many classes, a class
// side by side. The squares of distances within a class are about
// 2·noise²/(1+noise²), those between classes 2.
func spheres(n, dim, classes int, noise float64) (pipeline.Embeddings, []int32) {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(dim)))
	emb, labels := pipeline.MakeEmbeddings(n, dim), make([]int32, n)
	centre := make([]float64, dim)
	for i := range n {
		label := i * classes / n
		if i == 0 || label != (i-1)*classes/n {
			for k := range centre {
				centre[k] = rng.NormFloat64()
			}
		}
		labels[i] = int32(label)
		row := emb.Row(i)
		for k := range row {
			row[k] = float32(centre[k] + noise*rng.NormFloat64())
		}
		if err := finish(row, true); err != nil {
			panic(err)
		}
	}
	return emb, labels
}

// marginFor is a margin with so large a share of the negatives inside the
// semi-hard bands of a few hundred pairs.
func marginFor(emb pipeline.Embeddings, labels []int32, share float64) float64 {
	rng := rand.New(rand.NewPCG(5, 6))
	var gaps []float64 // d_an − d_ap where it is positive
	total := 0
	for range 200 {
		a := rng.IntN(emb.Len())
		p := a
		for p == a || labels[p] != labels[a] {
			p = max(0, min(emb.Len()-1, a+rng.IntN(201)-100))
		}
		ap := loss.SqEuclidean.Mining(emb.Row(a), emb.Row(p))
		for range 500 {
			if n := rng.IntN(emb.Len()); labels[n] != labels[a] {
				total++
				if an := loss.SqEuclidean.Mining(emb.Row(a), emb.Row(n)); an > ap {
					gaps = append(gaps, an-ap)
				}
			}
		}
	}
	slices.Sort(gaps)
	at := int(share * float64(total))
	if at >= len(gaps) {
		return math.Inf(1)
	}
	return gaps[at]
}

// bare multiplies every row with every other and looks at nothing: what a scan
// cannot be faster than.
func bare(emb pipeline.Embeddings) {
	dim, n := emb.Dim, emb.Len()/f32.TileRows*f32.TileRows
	rows := slabRows(dim)
	tiles, columns := make([]float32, n*dim), make([]float32, rows*dim)
	f32.PackRows(tiles, -2, emb.Data[:n*dim], dim)
	init, values := make([]float32, rows), make([]float32, f32.TileRows*rows)
	for from := 0; from+rows <= emb.Len(); from += rows {
		f32.PackColumns(columns, emb.Slice(from, from+rows).Data, dim)
		for at := 0; at < n; at += f32.TileRows {
			f32.Product(values, init, tiles[at*dim:][:f32.TileRows*dim], columns, dim)
		}
	}
}

// peakRate is the most operations a nanosecond that a few tries of f32.Peak reach.
func peakRate() float64 {
	best := 0.0
	for range 20 {
		start := time.Now()
		n := f32.Peak(2_000_000)
		best = max(best, float64(n)/float64(time.Since(start).Nanoseconds()))
	}
	return best
}

// BenchmarkScan mines semi-hard negatives at random, for 4 positives an anchor,
// on one core. Its rate is 2·N²·D operations, whatever was done; beside it the
// time over that of the bare products, measured in turn.
func BenchmarkScan(b *testing.B) {
	for _, n := range []int{20_000, 100_000} {
		for _, noise := range []float64{0.6, 1.2} {
			emb, labels := spheres(n, 128, max(10, n/100), noise)
			for _, share := range []float64{0.01, 0.05, 0.10} {
				margin := marginFor(emb, labels, share)
				for _, by := range []ScreenBy{ScreenFloat32, ScreenInt8, ScreenAuto} {
					b.Run(fmt.Sprintf("%s/n=%d/dim=128/noise=%.1f/band=%.0f%%/screen=%v", f32.Body(), n, noise, 100*share, by), func(b *testing.B) {
						s, err := NewScan(ScanConfig{
							Mine:       MineConfig{Loss: loss.TripletMargin{Margin: margin}, Seed: 1},
							Embeddings: emb, Labels: labels, Workers: 1, Screen: by,
						})
						if err != nil {
							b.Fatal(err)
						}
						peak := peakRate()
						var mining, product time.Duration
						triplets := 0
						for b.Loop() {
							start := time.Now()
							triplets = 0
							for _, err := range pipeline.From(s).All(b.Context()) {
								if err != nil {
									b.Fatal(err)
								}
								triplets++
							}
							middle := time.Now()
							bare(emb)
							mining, product = mining+middle.Sub(start), product+time.Since(middle)
						}
						rate := 2 * float64(n) * float64(n) * 128 * float64(b.N) / float64(mining.Nanoseconds())
						b.ReportMetric(rate, "GFLOP/s")
						b.ReportMetric(100*rate/peak, "%peak")
						b.ReportMetric(float64(mining)/float64(product), "x-bare")
						b.ReportMetric(float64(triplets), "triplets")
					})
				}
			}
		}
	}
}
