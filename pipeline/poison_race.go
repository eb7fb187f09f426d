//go:build race

package pipeline

import "math"

// poison spoils a returned batch in race builds, so that a test that keeps one
// past its loan fails at once.
func poison(b *Batch) {
	nan := float32(math.NaN())
	for _, s := range [][]float32{b.Pixels, b.Embeddings.Data, b.Gradients.Data} {
		for i := range s {
			s[i] = nan
		}
	}
	for i := range b.IDs {
		b.IDs[i] = math.MinInt64
	}
	for i := range b.Labels {
		b.Labels[i] = math.MinInt32
	}
	for i := range b.Triplets {
		b.Triplets[i] = Triplet{Anchor: -1, Positive: -1, Negative: -1}
	}
}
