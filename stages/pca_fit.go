package stages

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// PCAConfig configures [FitPCA].
type PCAConfig struct {
	Dim     int             // D; default 64
	AtMost  bool            // Dim is the most: D is smaller where the images are too few, or vary in fewer directions; default an error
	Sample  int             // images the fit looks at, at most; default 2048. Fewer where their pixels would pass 256 MiB
	Seed    uint64          // draws the sample, and the start of the iteration
	Workers int             // default GOMAXPROCS; changes nothing that comes out
	Meter   *pipeline.Meter // counts images under "fit"; may be nil
}

const maxFitBytes = 256 << 20

// FitPCA fits a PCA to a seeded sample of the n samples that r reads, decoded
// by d. Memory depends neither on n nor on the size of the images: it is the
// sample's pixels, at most 256 MiB, and the Gram matrix of its m images, m×m,
// whose eigenvectors give the components (Sirovich and Kirby 1987). They come
// from subspace iteration with oversampling from a seeded random start (Halko,
// Martinsson and Tropp, SIAM Review 53(2), 2011, algorithm 4.4), then
// Rayleigh–Ritz. Each component's greatest value is positive.
//
// The fit is the same for any number of workers and processors. Across
// architectures it may differ in the last bits: keep the fit, not the seed.
//
// Fewer than D+1 images, or a sample that varies in fewer than D directions, is
// an error that says the greatest D.
func FitPCA(ctx context.Context, cfg PCAConfig, r Reader, d *Decode, n int64) (*PCA, error) {
	if cfg.Dim == 0 {
		cfg.Dim = 64
	}
	if cfg.Sample == 0 {
		cfg.Sample = 2048
	}
	if cfg.Dim < 1 || cfg.Sample < 2 {
		return nil, fmt.Errorf("stages: PCAConfig.Dim is %d and Sample %d, want at least 1 and 2", cfg.Dim, cfg.Sample)
	}
	if n < 1 {
		return nil, errors.New("fit PCA: the data set is empty")
	}
	x, m, err := sample(ctx, cfg, r, d, n)
	if err != nil {
		return nil, fmt.Errorf("fit PCA: %w", err)
	}
	p := &PCA{decode: d.Fingerprint(), shape: d.Shape(), workers: cfg.Workers}
	if err := p.fit(ctx, cfg, x, m); err != nil {
		return nil, fmt.Errorf("fit PCA: %w", err)
	}
	return p.seal(), nil
}

// sample reads and decodes m images drawn without replacement, in id order:
// m×L values.
func sample(ctx context.Context, cfg PCAConfig, r Reader, d *Decode, n int64) (x []float32, m int, err error) {
	// read appends the pixels of ids to x: of all of them, unless d keeps bad ones.
	read := func(x []float32, ids []int64) ([]float32, error) {
		records := make([]pipeline.Record, len(ids))
		if err := r.Read(ctx, ids, records); err != nil {
			return nil, err
		}
		shape, pixels, err := d.Images(ctx, x[len(x):], records)
		for i, size := 0, shape.Len(); i < len(records) && err == nil; i++ {
			if records[i].Err == nil {
				x = append(x, pixels[i*size:(i+1)*size]...) // onto itself, or over one that was left out
			}
		}
		return x, err
	}
	for id := int64(0); id < n && d.Shape().Len() == 0; id++ { // sets the size that all images must have
		if _, err := read(nil, []int64{id}); err != nil {
			return nil, 0, err
		}
	}
	size := d.Shape().Len()
	if size == 0 {
		return nil, 0, errors.New("no image can be decoded")
	}
	m = int(min(int64(cfg.Sample), n, int64(maxFitBytes/(4*size))))
	if cfg.AtMost {
		cfg.Dim = max(1, min(cfg.Dim, m-1))
	}
	if m < cfg.Dim+1 {
		return nil, 0, fmt.Errorf("%d images of %d values can be looked at, and %d dimensions take %d: give at most %d dimensions, or smaller images",
			m, size, cfg.Dim, cfg.Dim+1, max(m-1, 0))
	}
	ids := drawIDs(cfg.Seed, m, n)
	x = make([]float32, 0, m*size)
	timer := cfg.Meter.Timer("fit")
	for lo := 0; lo < m; lo += 64 {
		hi, start := min(lo+64, m), time.Now()
		if err := ctx.Err(); err != nil {
			return nil, 0, context.Cause(ctx)
		}
		if x, err = read(x, ids[lo:hi]); err != nil {
			return nil, 0, err
		}
		timer.Add(hi-lo, start)
	}
	if got := len(x) / size; got < m {
		m = got
		if m < 2 || !cfg.AtMost && m < cfg.Dim+1 {
			return nil, 0, fmt.Errorf("only %d of the %d images of the sample can be decoded", m, len(ids))
		}
	}
	return x, m, nil
}

// drawIDs draws m of 0 … n−1 without replacement, ascending: Floyd's algorithm
// (Bentley and Floyd, "A sample of brilliance", CACM 30(9), 1987).
func drawIDs(seed uint64, m int, n int64) []int64 {
	dice := newDice(newPlanKey("pca sample", seed))
	drawn := make(map[int64]bool, m)
	ids := make([]int64, 0, m)
	for j := n - int64(m); j < n; j++ {
		id := int64(dice.below(uint64(j) + 1))
		if drawn[id] {
			id = j
		}
		drawn[id] = true
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// fit fits p to the m rows of x, which it centres.
func (p *PCA) fit(ctx context.Context, cfg PCAConfig, x []float32, m int) error {
	size := len(x) / m
	p.mean = columnMeans(x, m)
	row := func(i int) []float32 { return x[i*size : (i+1)*size] }
	err := pipeline.ForEach(ctx, cfg.Workers, m, func(_ context.Context, i int) error {
		f32.Axpy(row(i), -1, p.mean)
		return nil
	})
	if err != nil {
		return err
	}
	gram, err := gramMatrix(ctx, cfg.Workers, x, m)
	if err != nil {
		return err
	}
	if cfg.AtMost {
		cfg.Dim = max(1, min(cfg.Dim, m-1))
	}
	values, vectors, err := topEigen(ctx, cfg.Workers, gram, cfg.Dim, cfg.Seed)
	if err != nil {
		return err
	}
	// Float32 sums leave an error of about 1e-6 of the greatest value, so less
	// than this is no direction of the data.
	rank := 0
	for rank < cfg.Dim && values[rank] > 1e-5*values[0] && values[0] > 0 {
		rank++
	}
	if cfg.AtMost && rank > 0 {
		cfg.Dim = rank
	}
	if rank < cfg.Dim {
		return fmt.Errorf("the %d images looked at vary in %d directions, want %d: give at most %d dimensions", m, rank, cfg.Dim, rank)
	}

	// Component k is Xᵀu_k, scaled to length 1: a stripe of columns at a time.
	p.components = make([]float32, cfg.Dim*size)
	err = pipeline.ForEach(ctx, cfg.Workers, (size+stripe-1)/stripe, func(_ context.Context, b int) error {
		lo, hi := b*stripe, min((b+1)*stripe, size)
		for i := range m {
			for k := range cfg.Dim {
				f32.Axpy(p.components[k*size+lo:k*size+hi], float32(vectors.At(i, k)), row(i)[lo:hi])
			}
		}
		return nil
	})
	p.variance = make([]float32, cfg.Dim)
	for k := range cfg.Dim {
		direct(p.components[k*size : (k+1)*size])
		p.variance[k] = float32(values[k] / float64(m-1))
	}
	return err
}

// stripe is how many columns are worked on at a time: few enough for the cache.
const stripe = 1024

// columnMeans are the means of the columns of the m rows of x.
func columnMeans(x []float32, m int) []float32 {
	size := len(x) / m
	sum := make([]float64, size)
	for i := range m {
		for j, v := range x[i*size : (i+1)*size] {
			sum[j] += float64(v)
		}
	}
	mean := make([]float32, size)
	for j, s := range sum {
		mean[j] = float32(s / float64(m))
	}
	return mean
}

// gramMatrix is X·Xᵀ, m×m. Sums of a stripe are float32, and those are added up
// in float64.
func gramMatrix(ctx context.Context, workers int, x []float32, m int) ([]float32, error) {
	size := len(x) / m
	gram := make([]float32, m*m)
	const block = 32 // rows that stay in the cache while the others pass
	err := pipeline.ForEach(ctx, workers, (m+block-1)/block, func(ctx context.Context, b int) error {
		lo, hi := b*block, min((b+1)*block, m)
		n := hi - lo
		sums := make([]float64, hi*n)
		dots := make([]float32, n)
		packed := make([]float32, n*stripe)
		for from := 0; from < size; from += stripe {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			wide := min(stripe, size-from)
			for k := range n {
				copy(packed[k*wide:(k+1)*wide], x[(lo+k)*size+from:])
			}
			for i := range hi {
				f32.Dots(dots, x[i*size+from:][:wide], packed[:n*wide])
				for k, v := range dots {
					sums[i*n+k] += float64(v)
				}
			}
		}
		for i := range hi {
			for k := range n {
				v := float32(sums[i*n+k])
				gram[i*m+lo+k] = v
				if i < lo {
					gram[(lo+k)*m+i] = v
				}
			}
		}
		return nil
	})
	return gram, err
}

// direct scales v to length 1 and turns it so that its greatest value is
// positive, the first of those where there are several.
func direct(v []float32) {
	var sum float64
	top := 0
	for j, x := range v {
		sum += float64(float64(x) * float64(x))
		if max(x, -x) > max(v[top], -v[top]) {
			top = j
		}
	}
	length := math.Copysign(math.Sqrt(sum), float64(v[top]))
	for j, x := range v {
		v[j] = float32(float64(x) / length)
	}
}
