package loss

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Workspace is memory that losses use again from call to call. The zero
// value is ready. One call at a time uses it.
type Workspace struct {
	// Losses holds the loss of each item in order, after a call of a loss whose
	// Reduction is None. It is valid until the next call.
	Losses []float64

	dim  int
	rows []float64 // B×D; of length 1 after normalise
	norm []float64 // B lengths before that; empty when rows are as given
	grad []float64 // B×D, with respect to rows; empty when nobody asks
	top  float64   // no value of rows is greater
	tiny float64   // a distance that is nothing but the rounding of normalise

	dist []float64 // B, from the anchor
	coef []float64 // B, ∂loss/∂dist
	band bands

	panels    panels
	edges     edges
	extremes  extremes
	repulsion repulsion
	least     int // rows from which panels are used; 0: panelRows
}

// large reports whether a batch goes through panels.
func (ws *Workspace) large(in Input) bool {
	return in.Embeddings.Len() >= cmp.Or(ws.least, panelRows)
}

// compute is a loss between float32 embeddings and a float32 gradient. eval
// finds ws.rows loaded and leaves their gradient in ws.grad.
func (ws *Workspace) compute(grad pipeline.Embeddings, in Input, eval func(*Workspace, Input) (pipeline.LossStats, error)) (pipeline.LossStats, error) {
	if err := ws.load(grad, in); err != nil {
		return pipeline.LossStats{}, err
	}
	stats, err := eval(ws, in)
	if err != nil {
		return pipeline.LossStats{}, err
	}
	if err := ws.store(grad, in); err != nil {
		return pipeline.LossStats{}, err
	}
	return stats, nil
}

// load checks the shapes of in and grad and takes over in's embeddings.
func (ws *Workspace) load(grad pipeline.Embeddings, in Input) error {
	emb := in.Embeddings
	b := emb.Len()
	switch {
	case b*emb.Dim != len(emb.Data):
		return fmt.Errorf("loss: %d embedding values are no rows of %d", len(emb.Data), emb.Dim)
	case grad.Data != nil && (grad.Dim != emb.Dim || len(grad.Data) != len(emb.Data)):
		return fmt.Errorf("loss: gradient of %d×%d values for embeddings of %d×%d", grad.Len(), grad.Dim, b, emb.Dim)
	case in.Labels != nil && len(in.Labels) != b:
		return fmt.Errorf("loss: %d labels for %d embeddings", len(in.Labels), b)
	case in.IDs != nil && len(in.IDs) != b:
		return fmt.Errorf("loss: %d sample ids for %d embeddings", len(in.IDs), b)
	}
	ws.Losses = ws.Losses[:0]
	ws.dim = emb.Dim
	ws.rows = resize(ws.rows, len(emb.Data))
	var top uint32 // of the magnitudes, whose bits are in their order
	for k, v := range emb.Data {
		ws.rows[k] = float64(v)
		top = max(top, math.Float32bits(v)&^(1<<31))
	}
	if k := unfinite(emb.Data, top); k >= 0 {
		return rowError(in, k/emb.Dim, fmt.Sprintf("value %d is %v", k%emb.Dim, emb.Data[k]))
	}
	ws.top = float64(math.Float32frombits(top))
	ws.norm, ws.tiny = ws.norm[:0], 0
	ws.grad = ws.grad[:0]
	if grad.Data != nil {
		ws.grad = resize(ws.grad, len(emb.Data))
		clear(ws.grad)
	}
	ws.dist = resize(ws.dist, b)
	ws.coef = resize(ws.coef, b)
	return nil
}

// normalise scales every row to length 1.
func (ws *Workspace) normalise(in Input) error {
	ws.norm = resize(ws.norm, in.Embeddings.Len())
	for i := range ws.norm {
		row := ws.row(i)
		sum := dot(row, row)
		if sum == 0 {
			return rowError(in, i, "zero vector, which has no direction to normalise")
		}
		ws.norm[i] = math.Sqrt(sum)
		for k := range row {
			row[k] /= ws.norm[i]
		}
	}
	ws.top = 1
	ws.tiny = float64(ws.dim) * 0x1p-52
	return nil
}

// finish divides the gradient by divisor and takes it back through
// normalise: ∂x = (∂z − z(z·∂z))/‖x‖ for z = x/‖x‖.
func (ws *Workspace) finish(divisor float64) {
	if len(ws.grad) == 0 {
		return
	}
	if len(ws.norm) == 0 {
		for k := range ws.grad {
			ws.grad[k] /= divisor
		}
	}
	for i, norm := range ws.norm {
		z, g := ws.row(i), ws.gradRow(i)
		along, scale := dot(z, g), 1/(norm*divisor)
		for k, v := range z {
			g[k] = float64((g[k] - float64(v*along)) * scale)
		}
	}
}

// store rounds the gradient into dst, which may be the zero value.
func (ws *Workspace) store(dst pipeline.Embeddings, in Input) error {
	var top uint32
	for k, g := range ws.grad {
		v := float32(g)
		top = max(top, math.Float32bits(v)&^(1<<31))
		dst.Data[k] = v
	}
	if k := unfinite(dst.Data, top); k >= 0 {
		return rowError(in, k/ws.dim, fmt.Sprintf("gradient %g of value %d is beyond float32", ws.grad[k], k%ws.dim))
	}
	return nil
}

// unfinite is the index of the first NaN or infinite value of data, whose
// largest magnitude has the bits top; −1 where there is none.
func unfinite(data []float32, top uint32) int {
	if top < 0x7f800000 {
		return -1
	}
	return slices.IndexFunc(data, func(v float32) bool { return v-v != 0 })
}

// dot is x·y in four sums side by side, for speed.
func dot(x, y []float64) float64 {
	y = y[:len(x)]
	var s [4]float64
	k := 0
	for ; k+4 <= len(x); k += 4 {
		s[0] += float64(x[k] * y[k])
		s[1] += float64(x[k+1] * y[k+1])
		s[2] += float64(x[k+2] * y[k+2])
		s[3] += float64(x[k+3] * y[k+3])
	}
	for ; k < len(x); k++ {
		s[0] += float64(x[k] * y[k])
	}
	return (s[0] + s[2]) + (s[1] + s[3])
}

func (ws *Workspace) row(i int) []float64 { return ws.rows[i*ws.dim:][:ws.dim] }

func (ws *Workspace) gradRow(i int) []float64 { return ws.grad[i*ws.dim:][:ws.dim] }

// resize is s with n values, which are whatever they were.
func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

func rowError(in Input, row int, reason string) error {
	err := &RowError{Row: row, ID: -1, Reason: reason}
	if in.IDs != nil {
		err.ID = in.IDs[row]
	}
	return err
}

// needLabels is the check of losses over a whole batch.
func needLabels(in Input) error {
	if in.Labels == nil && in.Embeddings.Len() > 0 {
		return errors.New("loss: a loss over a whole batch needs its labels")
	}
	return nil
}
