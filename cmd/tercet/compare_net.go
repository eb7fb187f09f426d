package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
)

// A network has two layers, small enough to be trained while somebody
// waits: z = W₂·max(0, W₁·x + b₁) + b₂. It is a [stages.Freezer].
type network struct {
	in, hidden, out int
	params          []float32 // W₁ (hidden×in), b₁, W₂ (out×hidden), b₂
	grad            []float32 // of the last backward
	moments         [2][]float32
	steps           int
	h, dh           []float32 // rows×hidden: activations, and their gradient
}

// newNet draws the weights of a net (He et al. 2015).
func newNet(in, hidden, out int, seed uint64) *network {
	n := &network{in: in, hidden: hidden, out: out, params: make([]float32, hidden*in+hidden+out*hidden+out)}
	dice := rand.New(rand.NewPCG(seed, 1))
	w1, _, w2, _ := n.parts(n.params)
	for i := range w1 {
		w1[i] = float32(dice.NormFloat64() * math.Sqrt(2/float64(in)))
	}
	for i := range w2 {
		w2[i] = float32(dice.NormFloat64() * math.Sqrt(1/float64(hidden)))
	}
	return n
}

// parts are the weights and offsets in p.
func (n *network) parts(p []float32) (w1, b1, w2, b2 []float32) {
	w1, p = p[:n.hidden*n.in], p[n.hidden*n.in:]
	b1, p = p[:n.hidden], p[n.hidden:]
	w2, b2 = p[:n.out*n.hidden], p[n.out*n.hidden:]
	return w1, b1, w2, b2
}

func matrix(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// Dim implements [stages.Embedder].
func (n *network) Dim() int { return n.out }

// Fingerprint implements [stages.Embedder].
func (n *network) Fingerprint() string {
	h := sha256.New()
	binary.Write(h, binary.LittleEndian, n.params)
	return hex.EncodeToString(h.Sum(nil))
}

// Freeze implements [stages.Freezer].
func (n *network) Freeze() (stages.Embedder, error) {
	return &network{in: n.in, hidden: n.hidden, out: n.out, params: slices.Clone(n.params)}, nil
}

// Embed implements [stages.Embedder], and keeps what backward needs.
func (n *network) Embed(_ context.Context, dst pipeline.Embeddings, x []float32) error {
	rows := dst.Len()
	if rows == 0 {
		return nil
	}
	w1, b1, w2, b2 := n.parts(n.params)
	n.h = slices.Grow(n.h[:0], rows*n.hidden)[:rows*n.hidden]
	for i := range rows {
		copy(n.h[i*n.hidden:], b1)
		copy(dst.Row(i), b2)
	}
	h := matrix(rows, n.hidden, n.h)
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, matrix(rows, n.in, x), matrix(n.hidden, n.in, w1), 1, h)
	for i, v := range n.h {
		n.h[i] = max(v, 0)
	}
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, h, matrix(n.out, n.hidden, w2), 1, matrix(rows, n.out, dst.Data))
	return nil
}

// backward computes the gradient of the weights, from that of the embeddings
// that Embed has just made of x.
func (n *network) backward(dz pipeline.Embeddings, x []float32) {
	rows := dz.Len()
	if n.grad == nil {
		n.grad = make([]float32, len(n.params))
	}
	_, _, w2, _ := n.parts(n.params)
	g1, gb1, g2, gb2 := n.parts(n.grad)
	n.dh = slices.Grow(n.dh[:0], rows*n.hidden)[:rows*n.hidden]
	z, h, dh := matrix(rows, n.out, dz.Data), matrix(rows, n.hidden, n.h), matrix(rows, n.hidden, n.dh)
	blas32.Gemm(blas.Trans, blas.NoTrans, 1, z, h, 0, matrix(n.out, n.hidden, g2))
	blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, z, matrix(n.out, n.hidden, w2), 0, dh)
	for i, v := range n.h {
		if v <= 0 {
			n.dh[i] = 0
		}
	}
	blas32.Gemm(blas.Trans, blas.NoTrans, 1, dh, matrix(rows, n.in, x), 0, matrix(n.hidden, n.in, g1))
	sumRows(gb1, n.dh)
	sumRows(gb2, dz.Data)
}

// sumRows sets dst to the sum of the rows of its length in data.
func sumRows(dst, data []float32) {
	clear(dst)
	for row := range slices.Chunk(data, len(dst)) {
		for i, v := range row {
			dst[i] += v
		}
	}
}

// step follows the gradient by Adam (Kingma and Ba 2015, arXiv:1412.6980).
func (n *network) step(rate float64) {
	const beta1, beta2, epsilon = 0.9, 0.999, 1e-8
	if n.moments[0] == nil {
		n.moments = [2][]float32{make([]float32, len(n.params)), make([]float32, len(n.params))}
	}
	n.steps++
	c1 := 1 - math.Pow(beta1, float64(n.steps))
	c2 := 1 - math.Pow(beta2, float64(n.steps))
	scale, root := float32(rate/c1), float32(1/math.Sqrt(c2))
	first, second := n.moments[0], n.moments[1]
	for i, g := range n.grad {
		first[i] += (1 - beta1) * (g - first[i])
		second[i] += (1 - beta2) * (g*g - second[i])
		n.params[i] -= scale * first[i] / (float32(math.Sqrt(float64(second[i])))*root + epsilon)
	}
}
