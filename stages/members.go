package stages

import (
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// A SampleError says which sample's embedding or label cannot be mined.
type SampleError struct {
	ID  int64
	Err error
}

func (e *SampleError) Error() string { return fmt.Sprintf("sample %d: %v", e.ID, e.Err) }

// Unwrap returns the cause.
func (e *SampleError) Unwrap() error { return e.Err }

// A census is the rows of a pool by class. Its memory is used again by the
// next take.
type census struct {
	known  int64     // rows of known class
	rows   []int32   // of known class, a class side by side, each ascending
	starts []int32   // of each class in rows, by class number; one more at the end
	fill   []int32   // scratch
	mean   []float64 // scratch
}

// take counts the rows of p and adds what it finds to r.
func (c *census) take(p *pool, r *MineReport) error {
	n := int64(len(p.labels))
	top := int32(-1)
	for row, l := range p.labels {
		if l < pipeline.Unknown {
			return &SampleError{p.id(row), fmt.Errorf("label is %d, want a class number or %d for unknown", l, pipeline.Unknown)}
		}
		top = max(top, l)
	}
	c.starts = resize(c.starts, int(top)+2)
	clear(c.starts)
	for _, l := range p.labels {
		if l != pipeline.Unknown {
			c.starts[l+1]++
		}
	}
	for l, count := range c.starts[1:] {
		if count > 0 {
			r.Classes++
		}
		if count == 1 {
			r.Singles++
		}
		c.starts[l+1] += c.starts[l]
	}
	c.known = int64(c.starts[top+1])
	c.rows, c.fill = resize(c.rows, int(c.known)), append(c.fill[:0], c.starts...)
	for row, l := range p.labels {
		if l != pipeline.Unknown {
			c.rows[c.fill[l]] = int32(row)
			c.fill[l]++
		}
	}
	r.Samples += n
	r.Unknown += n - c.known
	r.Conflicting += c.conflicting(p)
	return nil
}

// of is the rows of class l, which is known.
func (c *census) of(l int32) []int32 { return c.rows[c.starts[l]:c.starts[l+1]] }

// conflicting is the number of rows whose image bytes another class has as well.
func (c *census) conflicting(p *pool) (n int64) {
	if p.same == nil {
		return 0
	}
	const several = math.MaxInt32
	class := map[int32]int32{} // of an image number; several for more than one
	each := func(f func(number, label int32)) {
		for row, l := range p.labels {
			if s := p.same[p.id(row)]; s >= 0 && l != pipeline.Unknown {
				f(s, l)
			}
		}
	}
	each(func(s, l int32) {
		if other, seen := class[s]; seen && other != l {
			l = several
		}
		class[s] = l
	})
	each(func(s, _ int32) {
		if class[s] == several {
			n++
		}
	})
	return n
}

// resize is s with length n; what is in it is of no interest.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// check returns an error for the first row that has no distance to others,
// and counts a pool whose rows are all nearly equal: within 10⁻⁶ of their mean
// squared length of their mean, on average.
func (c *census) check(p *pool, dist loss.Distance, r *MineReport) error {
	if p.emb.Dim < 1 && len(p.labels) > 0 || len(p.emb.Data) != len(p.labels)*p.emb.Dim {
		return fmt.Errorf("stages: %d values are not %d embeddings of %d", len(p.emb.Data), len(p.labels), p.emb.Dim)
	}
	c.mean = resize(c.mean, p.emb.Dim)
	clear(c.mean)
	var squares float64
	for row := range p.labels {
		var sum float64
		for k, v := range p.emb.Row(row) {
			x := float64(v)
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return &SampleError{p.id(row), fmt.Errorf("value %d of its embedding is %v", k, v)}
			}
			sum += float64(x * x)
			c.mean[k] += x
		}
		if dist == loss.Cosine {
			switch {
			case sum == 0:
				return &SampleError{p.id(row), fmt.Errorf("its embedding is 0 everywhere and has no cosine distance")}
			case math.Abs(sum-1) > maxUnit:
				return &SampleError{p.id(row), fmt.Errorf("its embedding has length %.6g, and mining by cosine expects 1", math.Sqrt(sum))}
			}
		}
		squares += sum
	}
	n := float64(len(p.labels))
	spread := squares // n times the mean squared distance from the mean
	for _, m := range c.mean {
		spread -= float64(m*m) / n
	}
	if len(p.labels) > 1 && spread <= 1e-6*squares {
		r.Collapsed++
	}
	return nil
}
