package stages

import (
	"crypto/sha256"
	"encoding/binary"
	"image"
	"image/color"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// A recoder is scratch memory for one image at a time.
type recoder struct {
	resampler
	values []float32 // C×H×W in [0, 1]; empty where show had no need of it
	bytes  []byte    // H×W×C
	sum    []byte
}

// show draws an image to bytes, 8 bits a channel. img is nil for raw pixels.
func (w *recoder) show(s pipeline.Shape, img image.Image, rec pipeline.Record, h header) error {
	n := s.Len()
	w.bytes = slices.Grow(w.bytes[:0], n)[:n]
	w.values = w.values[:0]
	if h.orientation == 1 && s.H == h.height && s.W == h.width && w.copy(s, img) {
		return nil
	}
	var source rows
	if img != nil {
		source = rowsOf(img, s.C)
	} else {
		var err error
		if source, err = rawRows(rec, s.C); err != nil {
			return err
		}
	}
	w.values = slices.Grow(w.values, n)[:n]
	w.draw(w.values, s, source, h)
	plane := s.H * s.W
	for c := range s.C {
		at := c
		for _, v := range w.values[c*plane : (c+1)*plane] {
			w.bytes[at] = byte(v*255 + 0.5)
			at += s.C
		}
	}
	return nil
}

// copy does the same for images of the two commonest kinds, of the size they
// have, to the same bytes. It is false for all others.
func (w *recoder) copy(s pipeline.Shape, img image.Image) bool {
	switch m := img.(type) {
	case *image.Gray:
		if s.C != 1 {
			return false
		}
		for y := range s.H {
			copy(w.bytes[y*s.W:(y+1)*s.W], m.Pix[y*m.Stride:])
		}
		return true
	case *image.YCbCr:
		if s.C != 3 {
			return false
		}
		at := 0
		for y := range s.H {
			for x := range s.W {
				c := m.COffset(x, y)
				r, g, b, _ := color.YCbCr{Y: m.Y[m.YOffset(x, y)], Cb: m.Cb[c], Cr: m.Cr[c]}.RGBA()
				w.bytes[at], w.bytes[at+1], w.bytes[at+2] = round8(r), round8(g), round8(b)
				at += 3
			}
		}
		return true
	}
	return false
}

// round8 is the nearest of 8 bits to a value of 16: 257 steps of one are one of the other.
func round8(v uint32) byte { return byte((v + 128) / 257) }

// digest sums up what show drew: its shape and its pixels, in all their bits
// where they have more than 8. A picture in colours that has none is grey.
func (w *recoder) digest(s pipeline.Shape, deep bool) [16]byte {
	pixels := w.bytes
	if deep {
		w.sum = w.sum[:0]
		for _, v := range w.values {
			w.sum = binary.LittleEndian.AppendUint32(w.sum, math.Float32bits(v))
		}
		pixels = w.sum
	} else if s.C == 3 && isGrey(w.bytes) {
		s.C = 1
		w.sum = w.sum[:0]
		for i := 0; i < len(w.bytes); i += 3 {
			w.sum = append(w.sum, w.bytes[i])
		}
		pixels = w.sum
	}
	return sumOf([]int{s.C, s.H, s.W}, pixels)
}

// isGrey reports whether pixels of three channels have no colour.
func isGrey(rgb []byte) bool {
	for i := 0; i+2 < len(rgb); i += 3 {
		if rgb[i] != rgb[i+1] || rgb[i] != rgb[i+2] {
			return false
		}
	}
	return true
}

// planes sums up a JPEG in colours: what it decodes to is luma and chroma, and
// how they are turned and spread.
func (w *recoder) planes(m *image.YCbCr, orientation int) [16]byte {
	w.sum = w.sum[:0]
	width, height := m.Rect.Dx(), m.Rect.Dy()
	for y := range height {
		w.sum = append(w.sum, m.Y[y*m.YStride:][:width]...)
	}
	last := m.COffset(m.Rect.Max.X-1, m.Rect.Max.Y-1)
	rows, columns := last/m.CStride+1, last%m.CStride+1
	for _, plane := range [][]byte{m.Cb, m.Cr} {
		for y := range rows {
			w.sum = append(w.sum, plane[y*m.CStride:][:columns]...)
		}
	}
	return sumOf([]int{3, height, width, orientation, int(m.SubsampleRatio)}, w.sum)
}

// sumOf is the first half of the SHA-256 of some numbers and bytes.
func sumOf(numbers []int, data []byte) (d [16]byte) {
	h := sha256.New()
	for _, n := range numbers {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	h.Write(data)
	copy(d[:], h.Sum(nil))
	return d
}
