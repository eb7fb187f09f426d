// Package loss says what a batch of embeddings is worth: contrastive and
// triplet losses, their gradients, and the distances they are made of.
//
// A loss is its settings and has one method, Compute; see [Loss]:
//
//	l := loss.BatchHard{Loss: loss.TripletSoftMargin{Distance: loss.Euclidean}, Normalise: true}
//	var ws loss.Workspace
//	stats, err := l.Compute(&ws, grad, loss.Input{Embeddings: emb, Labels: labels})
//
// [TripletMargin] and [TripletSoftMargin] say what one triplet costs;
// [Triplets], [BatchAll] and [BatchHard] say which triplets of a batch count;
// [Contrastive] works on pairs. Which triplets are chosen is never
// differentiated: gradients flow through the chosen distances alone.
//
// Losses over listed triplets and pairs, and over batches of fewer than 64 rows,
// are computed in float64 from float32 rows and rounded once. Over larger
// batches, [BatchAll], [BatchHard] and [Contrastive] take their distances, and
// the first and the last their gradients, from the tile product of package f32, in
// float32. Which triplets are active, of which kind they are and which are the
// hardest is decided as in float64 all the same, and bits are the same on every
// machine (but for the soft margin, see [TripletSoftMargin]). A distance d² among the rows is then within
//
//	(2·D + 18)·2⁻²⁴·(‖x−c‖² + ‖y−c‖²)
//
// of the exact one, c the mean of the rows, and never wrong by more than a
// 1,024th part: smaller ones, and those of positives, stay in float64. Observed
// errors of losses and gradients are about 10⁻⁷.
package loss
