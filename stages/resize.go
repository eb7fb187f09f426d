package stages

import (
	"fmt"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
	"golang.org/x/image/draw"
)

// Filter is how an image is brought to another size.
type Filter uint8

const (
	CatmullRom   Filter = iota // cubic; when shrinking, every source pixel counts by its area
	BiLinear                   // the tent; likewise
	NearestPixel               // the pixel at the centre; shrinking skips pixels
)

var filterNames = [...]string{"catmull-rom", "bilinear", "nearest"}

// String is the name that flags and fingerprints use.
func (f Filter) String() string {
	if int(f) < len(filterNames) {
		return filterNames[f]
	}
	return fmt.Sprintf("Filter(%d)", f)
}

// ParseFilter is the inverse of [Filter.String].
func ParseFilter(s string) (Filter, error) {
	if i := slices.Index(filterNames[:], s); i >= 0 {
		return Filter(i), nil
	}
	return 0, fmt.Errorf("unknown filter %q, want catmull-rom, bilinear or nearest", s)
}

// taps are the weights of the source positions from first on that make one
// destination position; they add up to 1.
type taps struct {
	first   int
	weights []float32
}

func (t taps) end() int { return t.first + len(t.weights) }

// tapsOf are the taps of n destination positions over size source positions:
// the kernels of golang.org/x/image/draw, widened when shrinking as there.
func (f Filter) tapsOf(n, size int) []taps {
	all := make([]taps, n)
	kernel := draw.CatmullRom
	switch f {
	case NearestPixel:
		for i := range all {
			all[i] = taps{(2*i + 1) * size / (2 * n), []float32{1}}
		}
		return all
	case BiLinear:
		kernel = draw.BiLinear
	}
	scale := float64(size) / float64(n)
	stretch := max(scale, 1)
	for i := range all {
		centre := float64((float64(i)+0.5)*scale) - 0.5
		first := max(int(math.Floor(centre-float64(kernel.Support*stretch))), 0)
		end := min(int(math.Ceil(centre+float64(kernel.Support*stretch))), size)
		weights := make([]float64, end-first)
		var sum float64
		for k := range weights {
			if t := math.Abs(float64(first+k)-centre) / stretch; t < kernel.Support {
				weights[k] = kernel.At(t)
				sum += weights[k]
			}
		}
		all[i] = taps{first, make([]float32, len(weights))}
		for k, w := range weights {
			all[i].weights[k] = float32(w / sum)
		}
	}
	return all
}

// A resampler brings images to one shape. It needs memory for one source row
// and one image of that shape, whatever the size of the source, and rounds
// every product and sum alike on all machines. It keeps the taps of the last
// size. One goroutine uses it at a time.
type resampler struct {
	filter     Filter
	size       [4]int // what across and down were made for
	across     []taps // per destination column
	down       []taps // per destination row
	line, thin []float32
	turned     []float32
}

// draw draws the image that h describes and source reads to dst, upright, as
// shape says.
func (r *resampler) draw(dst []float32, shape pipeline.Shape, source rows, h header) {
	if h.orientation == 1 {
		r.scale(dst, shape, source, h)
		return
	}
	stored := shape
	if h.orientation >= 5 {
		stored.H, stored.W = shape.W, shape.H
	}
	r.turned = slices.Grow(r.turned[:0], shape.Len())[:shape.Len()]
	r.scale(r.turned, stored, source, h)
	turn(dst, r.turned, stored, h.orientation)
}

// scale draws to dst, of shape to, in one pass over the source rows: each is
// made as narrow as dst, and added to the rows of dst that it is a part of.
func (r *resampler) scale(dst []float32, to pipeline.Shape, source rows, h header) {
	r.line = slices.Grow(r.line[:0], to.C*h.width)[:to.C*h.width]
	if to.H == h.height && to.W == h.width {
		for y := range to.H {
			if to.C == 1 {
				source(dst[y*to.W:][:to.W], y)
				continue
			}
			source(r.line, y)
			for c := range to.C {
				copy(dst[(c*to.H+y)*to.W:][:to.W], r.line[c*to.W:])
			}
		}
		return
	}
	if size := [4]int{to.H, to.W, h.height, h.width}; size != r.size {
		r.size = size
		r.across = r.filter.tapsOf(to.W, h.width)
		r.down = r.filter.tapsOf(to.H, h.height)
	}
	r.thin = slices.Grow(r.thin[:0], to.C*to.W)[:to.C*to.W]
	clear(dst)
	low := 0 // the rows of dst before it are complete
	for y := range h.height {
		for low < to.H && r.down[low].end() <= y {
			low++
		}
		if low == to.H {
			break
		}
		if r.down[low].first > y {
			continue
		}
		source(r.line, y)
		for c := range to.C {
			plane := r.line[c*h.width : (c+1)*h.width]
			for x, t := range r.across {
				r.thin[c*to.W+x] = f32.Dot(t.weights, plane[t.first:t.end()])
			}
		}
		for i := low; i < to.H && r.down[i].first <= y; i++ {
			weight := r.down[i].weights[y-r.down[i].first]
			for c := range to.C {
				f32.Axpy(dst[(c*to.H+i)*to.W:][:to.W], weight, r.thin[c*to.W:][:to.W])
			}
		}
	}
	for i, v := range dst {
		dst[i] = min(max(v, 0), 1) // Catmull-Rom overshoots at edges
	}
}

// turn writes the stored image src, of shape s, to dst as EXIF orientation o
// says it is shown.
func turn(dst, src []float32, s pipeline.Shape, o int) {
	h, w := s.H, s.W
	if o >= 5 {
		h, w = w, h
	}
	for c := range s.C {
		plane := src[c*s.H*s.W : (c+1)*s.H*s.W]
		for y := range h {
			for x := range w {
				sy, sx := y, x
				if o >= 5 {
					sy, sx = x, y
				}
				if o == 3 || o == 4 || o == 6 || o == 7 {
					sy = s.H - 1 - sy
				}
				if o == 2 || o == 3 || o == 7 || o == 8 {
					sx = s.W - 1 - sx
				}
				dst[(c*h+y)*w+x] = plane[sy*s.W+sx]
			}
		}
	}
}
