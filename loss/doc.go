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
// Everything is computed in float64 from float32 rows and rounded once.
package loss
