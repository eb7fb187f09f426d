// Package loss says what a batch of embeddings is worth: contrastive and
// triplet losses, their gradients, and the distances they are made of.
package loss
