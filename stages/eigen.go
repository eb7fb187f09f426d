package stages

import (
	"context"
	"errors"
	"math"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// topEigen are the k greatest eigenvalues of a symmetric positive semi-definite
// matrix a of m rows, falling, and their eigenvectors, m×k: see [FitPCA]. The
// products with a are float32; the small matrices are gonum's, in float64.
func topEigen(ctx context.Context, workers int, a []float32, k int, seed uint64) ([]float64, mat.Matrix, error) {
	m := int(math.Sqrt(float64(len(a))))
	wide := min(m, k+max(k/4, 16)) // oversampling
	q := mat.NewDense(m, wide, nil)
	dice := newDice(newPlanKey("pca start", seed))
	for i := range m {
		for j := range wide {
			q.Set(i, j, float64(int64(dice.next()))/(1<<63))
		}
	}
	orthonormalise(q)
	const (
		rounds    = 20   // at the most: where the spectrum is so flat that these do not settle it, no direction is better than another
		precision = 1e-6 // of the greatest eigenvalue: what the wanted ones may still move by
	)
	values := make([]float64, wide)
	for round := 1; ; round++ {
		z, err := product(ctx, workers, a, q)
		if err != nil {
			return nil, nil, err
		}
		var small mat.Dense
		small.Mul(q.T(), z) // Rayleigh–Ritz: a as the subspace sees it
		ritz, vectors, err := eigen(&small)
		if err != nil {
			return nil, nil, err
		}
		var moved float64
		for i := range k {
			moved = max(moved, math.Abs(ritz[i]-values[i]))
		}
		values = ritz
		if moved <= precision*ritz[0] || round == rounds {
			var top mat.Dense
			top.Mul(q, vectors.Slice(0, wide, 0, k))
			return values[:k], &top, nil
		}
		q.Mul(z, vectors)
		orthonormalise(q)
	}
}

// product is a·q.
func product(ctx context.Context, workers int, a []float32, q *mat.Dense) (*mat.Dense, error) {
	m, wide := q.Dims()
	columns := make([]float32, wide*m) // of q, side by side
	for j := range wide {
		for i := range m {
			columns[j*m+i] = float32(q.At(i, j))
		}
	}
	z := mat.NewDense(m, wide, nil)
	const block = 16
	err := pipeline.ForEach(ctx, workers, (m+block-1)/block, func(_ context.Context, b int) error {
		dots := make([]float32, wide)
		for i := b * block; i < min((b+1)*block, m); i++ {
			f32.Dots(dots, a[i*m:(i+1)*m], columns)
			for j, v := range dots {
				z.Set(i, j, float64(v))
			}
		}
		return nil
	})
	return z, err
}

// eigen are all eigenvalues of a small symmetric matrix, falling, and its
// eigenvectors by column.
func eigen(a *mat.Dense) ([]float64, *mat.Dense, error) {
	n, _ := a.Dims()
	sym := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			sym.SetSym(i, j, (a.At(i, j)+a.At(j, i))/2)
		}
	}
	var e mat.EigenSym
	if !e.Factorize(sym, true) {
		return nil, nil, errors.New("eigenvalues of the subspace did not converge: a pixel may be out of range")
	}
	var rising mat.Dense
	e.VectorsTo(&rising)
	rise := e.Values(nil)
	values, vectors := make([]float64, n), mat.NewDense(n, n, nil)
	for j := range n {
		values[j] = rise[n-1-j]
		for i := range n {
			vectors.Set(i, j, rising.At(i, n-1-j))
		}
	}
	return values, vectors, nil
}

// orthonormalise makes the columns of q an orthonormal basis of their span, by
// Householder reflections: safe where they are nearly or wholly dependent.
func orthonormalise(q *mat.Dense) {
	a := q.RawMatrix()
	tau := make([]float64, a.Cols)
	work := make([]float64, 1)
	lapack64.Geqrf(a, tau, work, -1) // asks for the size of work
	work = make([]float64, max(int(work[0]), a.Cols*32))
	lapack64.Geqrf(a, tau, work, len(work))
	lapack64.Orgqr(a, tau, work, len(work))
}
