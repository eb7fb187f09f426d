//go:build (linux || darwin || windows) && (amd64 || arm64)

package onnx

import (
	"context"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// An Embedder runs a [Model] on images of one shape. It is a stages.Embedder.
type Embedder struct {
	*Model
	image pipeline.Shape
	batch int // images of one run: the model's, where it is fixed
	dim   int
}

// imagesAtOnce is how many images a run has where the model takes any number: a
// constant, since the order in which a runtime sums may depend on it.
const imagesAtOnce = 32

// Dim implements stages.Embedder.
func (e *Embedder) Dim() int { return e.dim }

// scratch is a worker's memory for one run.
type scratch struct{ values []float32 }

// Embed implements stages.Embedder: runs of a constant number of images, Workers at a time.
func (e *Embedder) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	n, size := dst.Len(), e.image.Len()
	if dst.Dim != e.dim || len(pixels) != n*size {
		return fmt.Errorf("embed %d values to %d rows of %d: want rows of %d, and %d×%d×%d values an image",
			len(pixels), n, dst.Dim, e.dim, e.image.C, e.image.H, e.image.W)
	}
	memory := make([]scratch, pipeline.Workers(e.cfg.Workers))
	return pipeline.ForEachWorker(ctx, e.cfg.Workers, (n+e.batch-1)/e.batch, func(_ context.Context, w, i int) error {
		from, to := i*e.batch, min((i+1)*e.batch, n)
		err := e.part(&memory[w], to-from, pixels[from*size:to*size], func(values []float32) error {
			if len(values) != (to-from)*e.dim {
				return fmt.Errorf("output %q has %d values for %d images, and had %d for one", e.out.name, len(values), to-from, e.dim)
			}
			copy(dst.Slice(from, to).Data, values)
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", e.cfg.Model, err)
		}
		return nil
	})
}

// part runs n images, at most e.batch, and calls use with their rows.
func (e *Embedder) part(s *scratch, n int, pixels []float32, use func([]float32) error) error {
	run := n
	if e.in.dims[0] > 0 {
		run = e.batch // what is missing is filled with zeros
	}
	dims := []int64{int64(run), int64(e.image.C), int64(e.image.H), int64(e.image.W)}
	if e.cfg.Layout == nhwc {
		dims = []int64{int64(run), int64(e.image.H), int64(e.image.W), int64(e.image.C)}
	}
	if values := run * e.image.Len(); values > len(pixels) || e.cfg.Layout == nhwc && e.image.C > 1 {
		if len(s.values) != values {
			s.values = make([]float32, values)
		}
		clear(s.values[copy(s.values, pixels):])
		if e.cfg.Layout == nhwc {
			interleave(s.values, pixels, e.image)
		}
		pixels = s.values
	}
	return e.session.run(e.in.name, e.out.name, pixels, dims, func(got []int64, values []float32) error {
		long := 0 // dimensions that are not of length 1, beside that of the images
		for _, d := range got[min(1, len(got)):] {
			if d != 1 {
				long++
			}
		}
		if len(got) < 2 || got[0] != int64(run) || long > 1 {
			return &PortError{"output", fmt.Sprintf("output %q has the dimensions %v for %d images, want one vector for each", e.out.name, got, run)}
		}
		return use(values[:len(values)/run*n])
	})
}

// interleave turns C×H×W images to H×W×C.
func interleave(dst, src []float32, s pipeline.Shape) {
	plane := s.H * s.W
	for at := 0; at < len(src); at += s.Len() {
		for c := range s.C {
			for i, v := range src[at+c*plane : at+(c+1)*plane] {
				dst[at+i*s.C+c] = v
			}
		}
	}
}
