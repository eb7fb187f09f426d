package stages

import (
	"cmp"
	"fmt"
	"math"
	"slices"

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
// next take, and grows with the rows, not with the class numbers.
type census struct {
	known   int64     // rows of known class
	rows    []int32   // of known class, a class side by side, each ascending
	classes []int32   // that have rows, ascending
	starts  []int32   // of each of classes in rows; one more at the end
	mean    []float64 // scratch
}

// take counts the rows of p and adds what it finds to r.
func (c *census) take(p *pool, r *MineReport) error {
	c.rows, c.classes, c.starts = c.rows[:0], c.classes[:0], c.starts[:0]
	for row, l := range p.labels {
		if l < pipeline.Unknown {
			return &SampleError{p.id(row), fmt.Errorf("label is %d, want a class number or %d for unknown", l, pipeline.Unknown)}
		}
		if l != pipeline.Unknown {
			c.rows = append(c.rows, int32(row))
		}
	}
	slices.SortFunc(c.rows, func(i, j int32) int {
		return cmp.Or(cmp.Compare(p.labels[i], p.labels[j]), cmp.Compare(i, j))
	})
	for at, row := range c.rows {
		if l := p.labels[row]; at == 0 || l != c.classes[len(c.classes)-1] {
			c.classes, c.starts = append(c.classes, l), append(c.starts, int32(at))
		}
	}
	c.starts = append(c.starts, int32(len(c.rows)))
	c.known = int64(len(c.rows))
	for class := range c.classes {
		if c.size(class) == 1 {
			r.Singles++
		}
	}
	r.Classes += int64(len(c.classes))
	r.Samples += int64(len(p.labels))
	r.Unknown += int64(len(p.labels)) - c.known
	r.Conflicting += c.conflicting(p)
	return nil
}

// size is the number of rows of the class at an index of classes.
func (c *census) size(class int) int64 { return int64(c.starts[class+1] - c.starts[class]) }

// of is the rows of class l, which is known; none where no row is of it.
func (c *census) of(l int32) []int32 {
	class, there := slices.BinarySearch(c.classes, l)
	if !there {
		return nil
	}
	return c.rows[c.starts[class]:c.starts[class+1]]
}

// others is the number of rows of known classes other than l.
func (c *census) others(l int32) int64 { return c.known - int64(len(c.of(l))) }

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
	p.norms, p.squares, p.scale = resize(p.norms, len(p.labels)), resize(p.squares, len(p.labels)), 1
	var squares float64
	var peak uint32 // bits of the greatest |value|: they have its order
	for row := range p.labels {
		var sum float64
		mean := c.mean
		for k, v := range p.emb.Row(row) {
			x := float64(v)
			sum += float64(x * x)
			mean[k] += x
			peak = max(peak, math.Float32bits(v)&^(1<<31))
		}
		if math.IsNaN(sum) || math.IsInf(sum, 0) { // squares of float32 do not overflow
			for k, v := range p.emb.Row(row) {
				if x := float64(v); math.IsNaN(x) || math.IsInf(x, 0) {
					return &SampleError{p.id(row), fmt.Errorf("value %d of its embedding is %v", k, x)}
				}
			}
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
		p.squares[row] = sum
		switch {
		case p.labels[row] == pipeline.Unknown:
			p.norms[row] = float32(math.Inf(1))
		case dist == loss.Cosine:
			p.norms[row] = 0
		default:
			p.norms[row] = float32(sum)
		}
	}
	p.peak = math.Float32frombits(peak)
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

// fit makes the rows of candidates, which were checked, and those of anchors of
// a size whose products float32 holds: it sets the scale and the norms of the
// candidates. Almost always the scale is 1.
func fit(anchors, candidates *pool, dist loss.Distance) {
	const ordinary = 1 << 30
	scale, peak := 1.0, max(anchors.peak, candidates.peak)
	if peak > ordinary || peak < 1.0/ordinary && peak > 0 {
		_, exponent := math.Frexp(float64(peak))
		scale = math.Ldexp(1, -exponent)
	}
	if candidates.scale == scale {
		return
	}
	candidates.scale = scale
	for row, l := range candidates.labels {
		if l == pipeline.Unknown || dist == loss.Cosine {
			continue
		}
		candidates.norms[row] = float32(candidates.squares[row] * scale * scale)
	}
}
