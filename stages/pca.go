package stages

import (
	"context"
	"fmt"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// A PCA is the [Embedder] that needs no model: the coordinates of an image
// along the D directions in which a sample of the data set varies most (Pearson
// 1901; Hotelling 1933). Value k of an embedding is
//
//	component_k · (pixels − mean)
//
// in float32, with the same bits on every machine and any number of workers.
// [FitPCA] makes one, [PCA.MarshalBinary] keeps it.
type PCA struct {
	decode     string         // fingerprint of the decoder whose pixels it was fitted to
	shape      pipeline.Shape // of those pixels; L = C·H·W
	mean       []float32      // L
	components []float32      // D×L: rows of length 1 at right angles, by falling variance
	variance   []float32      // D: of the sample, along each component
	digest     string         // of all of the above
	workers    int
}

// Dim implements [Embedder].
func (p *PCA) Dim() int { return len(p.variance) }

// Fingerprint implements [Embedder]: a digest of the fit and of the decoder.
func (p *PCA) Fingerprint() string { return p.digest }

// Shape is that of the images p embeds.
func (p *PCA) Shape() pipeline.Shape { return p.shape }

// Preprocessing is the fingerprint of the decoder p was fitted with.
func (p *PCA) Preprocessing() string { return p.decode }

// Variance is that of the fitted sample along each of the D components,
// falling; shared, read-only.
func (p *PCA) Variance() []float32 { return p.variance }

// SetWorkers sets how many goroutines Embed uses; 0 is GOMAXPROCS. It changes
// nothing else.
func (p *PCA) SetWorkers(n int) { p.workers = n }

// Embed implements [Embedder].
func (p *PCA) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	n, size := dst.Len(), len(p.mean)
	if dst.Dim != p.Dim() || len(pixels) != n*size {
		return fmt.Errorf("embed %d values to %d rows of %d: want rows of %d, and %d×%d×%d values an image",
			len(pixels), n, dst.Dim, p.Dim(), p.shape.C, p.shape.H, p.shape.W)
	}
	const chunk = 16 // images a worker takes at a time
	centred := make([][]float32, pipeline.Workers(p.workers))
	return pipeline.ForEachWorker(ctx, p.workers, (n+chunk-1)/chunk, func(_ context.Context, w, i int) error {
		for row := i * chunk; row < min((i+1)*chunk, n); row++ {
			x := append(centred[w][:0], pixels[row*size:(row+1)*size]...)
			f32.Axpy(x, -1, p.mean)
			f32.Dots(dst.Row(row), x, p.components)
			centred[w] = x
		}
		return nil
	})
}
