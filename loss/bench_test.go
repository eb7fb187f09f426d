package loss

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// BenchmarkLoss is loss and gradient of a batch of unit rows of 128 values, four
// of a class, that have not learned anything yet: most triplets are active.
// Product is the baseline: the distances of the batch by the bare tile product,
// of which a loss with a gradient needs two, and best/2products the ratio to
// that. best-ms is the shortest of all runs, for machines that others use, too.
// Float64 is the loss without panels.
func BenchmarkLoss(b *testing.B) {
	const dim = 128
	margin, soft := TripletMargin{Margin: 0.2}, TripletSoftMargin{}
	for _, rows := range []int{128, 512, 1024, 2048, 4096} {
		in := pk(rows, dim)
		grad := pipeline.MakeEmbeddings(rows, dim)
		var product float64 // its best time
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/B=%d/dim=%d", name, rows, dim), func(b *testing.B) {
				if err := f(); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				best := math.Inf(1)
				for b.Loop() {
					start := time.Now()
					if err := f(); err != nil {
						b.Fatal(err)
					}
					best = min(best, time.Since(start).Seconds()*1e3)
				}
				b.ReportMetric(best, "best-ms")
				b.ReportMetric(best*1e6/float64(rows)/float64(rows), "best-ns/pair")
				if name == "Product" {
					product = best
				} else if product > 0 {
					b.ReportMetric(best/2/product, "best/2products")
				}
			})
		}
		compute := func(l Loss, ws *Workspace) func() error {
			return func() error {
				_, err := l.Compute(ws, grad, in)
				return err
			}
		}
		run("Product", bareProduct(in))
		run("BatchAll", compute(BatchAll{Loss: margin, Normalise: true}, new(Workspace)))
		run("BatchAllEuclidean", compute(BatchAll{Loss: TripletMargin{Margin: 0.2, Distance: Euclidean}, Normalise: true}, new(Workspace)))
		run("BatchAllSoft", compute(BatchAll{Loss: soft, Normalise: true}, new(Workspace)))
		run("BatchHard", compute(BatchHard{Loss: margin, Normalise: true}, new(Workspace)))
		run("Contrastive", compute(Contrastive{Margin: 1, Distance: Euclidean, Normalise: true}, new(Workspace)))
		run("Triplets", compute(Triplets{Loss: margin, Normalise: true}, new(Workspace)))
		if rows <= 1024 {
			float64s := &Workspace{least: math.MaxInt}
			run("Float64/BatchAll", compute(BatchAll{Loss: margin, Normalise: true}, float64s))
			run("Float64/BatchHard", compute(BatchHard{Loss: margin, Normalise: true}, float64s))
			run("Float64/Contrastive", compute(Contrastive{Margin: 1, Distance: Euclidean, Normalise: true}, float64s))
		}
	}
}

// bareProduct is every panel of the batch, and nothing made of it.
func bareProduct(in Input) func() error {
	n, dim := in.Embeddings.Len(), in.Embeddings.Dim
	tiles := make([]float32, (n+f32.TileRows-1)/f32.TileRows*f32.TileRows*dim)
	columns := make([]float32, (n+laneCount-1)/laneCount*laneCount*dim)
	f32.PackRows(tiles, -2, in.Embeddings.Data, dim)
	f32.PackColumns(columns, in.Embeddings.Data, dim)
	init, values := make([]float32, laneCount), make([]float32, stretch*laneCount)
	return func() error {
		for lane := 0; lane < n; lane += laneCount {
			for from := 0; from < n; from += stretch {
				for i := from; i < min(from+stretch, n); i += f32.TileRows {
					f32.Product(values[(i-from)*laneCount:][:f32.TileRows*laneCount], init,
						tiles[i*dim:][:f32.TileRows*dim], columns[lane*dim:][:laneCount*dim], dim)
				}
			}
		}
		return nil
	}
}
