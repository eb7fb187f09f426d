package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// clusters are n unit vectors around the centres of classes of 100, a class side by side.
func clusters(n, dim int, noise float64) (pipeline.Embeddings, []int32) {
	dice := rand.New(rand.NewPCG(uint64(n), uint64(dim)))
	emb, labels := pipeline.MakeEmbeddings(n, dim), make([]int32, n)
	centre := make([]float64, dim)
	for i := range n {
		if labels[i] = int32(i / 100); i%100 == 0 {
			for k := range centre {
				centre[k] = dice.NormFloat64()
			}
		}
		row, sum := emb.Row(i), 0.0
		for k := range row {
			x := centre[k] + noise*dice.NormFloat64()
			row[k], sum = float32(x), sum+float64(x*x)
		}
		for k := range row {
			row[k] = float32(float64(row[k]) / math.Sqrt(sum))
		}
	}
	return emb, labels
}

// marginFor is a margin with about that share of the negatives inside the
// semi-hard bands: a quantile of d_an − d_ap over pairs and negatives by chance.
func marginFor(emb pipeline.Embeddings, labels []int32, share float64) float64 {
	dice := rand.New(rand.NewPCG(5, 6))
	var gaps []float64
	total := 0
	for tries := 0; tries < 200_000 && total < 50_000; tries++ {
		a := dice.IntN(emb.Len())
		p := max(0, min(emb.Len()-1, a+dice.IntN(199)-99))
		if p == a || labels[p] != labels[a] {
			continue
		}
		ap := loss.SqEuclidean.Mining(emb.Row(a), emb.Row(p))
		for range 100 {
			if n := dice.IntN(emb.Len()); labels[n] != labels[a] {
				total++
				if an := loss.SqEuclidean.Mining(emb.Row(a), emb.Row(n)); an > ap {
					gaps = append(gaps, an-ap)
				}
			}
		}
	}
	slices.Sort(gaps)
	if len(gaps) == 0 {
		return 1
	}
	return gaps[min(int(share*float64(total)), len(gaps)-1)]
}

// bareProducts multiplies every row with every other and looks at nothing.
func bareProducts(ctx context.Context, emb pipeline.Embeddings, cores int) error {
	const atOnce = 170 * f32.TileRows
	dim, n := emb.Dim, emb.Len()
	columns := max(f32.PanelColumns, min(512, 1<<16/dim)&^(f32.PanelColumns-1))
	return pipeline.ForEach(ctx, cores, (n+atOnce-1)/atOnce, func(_ context.Context, i int) error {
		rows := emb.Slice(i*atOnce, min((i+1)*atOnce, n)).Data
		m := len(rows) / dim
		tiles := make([]float32, (m+f32.TileRows-1)/f32.TileRows*f32.TileRows*dim)
		f32.PackRows(tiles, -2, rows, dim)
		panels, init, values := make([]float32, columns*dim), make([]float32, columns), make([]float32, f32.TileRows*columns)
		for from := 0; from < n; from += columns {
			to := min(from+columns, n)
			wide := (to - from + f32.PanelColumns - 1) &^ (f32.PanelColumns - 1)
			f32.PackColumns(panels[:wide*dim], emb.Slice(from, to).Data, dim)
			for at := 0; at < len(tiles); at += f32.TileRows * dim {
				f32.Product(values[:f32.TileRows*wide], init[:wide], tiles[at:][:f32.TileRows*dim], panels[:wide*dim], dim)
			}
		}
		return nil
	})
}
