package stages

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"

	"github.com/tercet-ml/tercet/pipeline"
)

// rows writes row y of an image of width w to dst, as C planes of w values
// each, in [0, 1].
type rows func(dst []float32, y int)

// unit8 is v/255 for the 256 values of a byte.
var unit8 = func() (t [256]float32) {
	for v := range t {
		t[v] = float32(v) / 255
	}
	return t
}()

// rowsOf reads img. All ways give the values of [image/color.Color.RGBA], to
// the 16 bits that has, laid over white; the first three are faster.
func rowsOf(img image.Image, channels int) rows {
	w := img.Bounds().Dx()
	switch m := img.(type) {
	case *image.Gray:
		return func(dst []float32, y int) {
			for x, v := range m.Pix[y*m.Stride:][:w] {
				dst[x] = unit8[v]
			}
			replicate(dst, w)
		}
	case *image.YCbCr:
		return func(dst []float32, y int) { ycbcrRow(dst, m, y) }
	case *image.Paletted:
		var table [256][3]float32
		for i, c := range m.Palette[:min(len(m.Palette), 256)] {
			r, g, b := overWhite(c.RGBA())
			put(table[i][:channels], 0, 1, r, g, b)
		}
		return func(dst []float32, y int) {
			for x, i := range m.Pix[y*m.Stride:][:w] {
				for c := range channels {
					dst[c*w+x] = table[i][c]
				}
			}
		}
	case image.RGBA64Image:
		return func(dst []float32, y int) {
			for x := range w {
				r, g, b := overWhite(m.RGBA64At(x, y).RGBA())
				put(dst, x, w, r, g, b)
			}
		}
	default:
		return func(dst []float32, y int) {
			for x := range w {
				r, g, b := overWhite(m.At(x, y).RGBA())
				put(dst, x, w, r, g, b)
			}
		}
	}
}

// ycbcrRow is a row of a JPEG. The colours are those of [color.YCbCr.RGBA],
// written out for whole rows: what the chroma adds is worked out once for the
// pixels that share it.
func ycbcrRow(dst []float32, m *image.YCbCr, y int) {
	shift := uint(0) // of pixels to chroma, across
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420:
		shift = 1
	case image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410:
		shift = 2
	}
	x0, y0 := m.Rect.Min.X, m.Rect.Min.Y
	w := m.Rect.Dx()
	first := x0 &^ (1<<shift - 1) // where the chroma of the first pixel begins
	at := m.COffset(x0, y0+y)
	cbs, crs := m.Cb[at:], m.Cr[at:]
	lumas := m.Y[m.YOffset(x0, y0+y):][:w]
	grey := len(dst) == w
	for x, next := 0, 0; x < w; x = next {
		i := (x + x0 - first) >> shift
		cb, cr := int32(cbs[i])-128, int32(crs[i])-128
		red, green, blue := 91881*cr, -22554*cb-46802*cr, 116130*cb
		for next = min(first+(i+1)<<shift-x0, w); x < next; x++ {
			yy := int32(lumas[x]) * 0x10101
			r, g, b := clip16(yy+red), clip16(yy+green), clip16(yy+blue)
			if grey {
				dst[x] = unit16(luma(r, g, b))
				continue
			}
			dst[x], dst[w+x], dst[2*w+x] = unit16(r), unit16(g), unit16(b)
		}
	}
}

// clip16 drops eight fractional bits and keeps to 16 bits.
func clip16(v int32) uint32 {
	if uint32(v)&0xff000000 == 0 {
		return uint32(v) >> 8
	}
	return uint32(^(v >> 31)) & 0xffff
}

// unit16 is float32(v)/0xffff for all 16 bits, without dividing: the product
// has 53 bits, and no quotient is so near to the middle between two float32.
func unit16(v uint32) float32 { return float32(float64(int32(v)) * (1.0 / 0xffff)) }

// video is a lossy WebP image. Its luma goes from 16 to 235 and its chroma from
// 16 to 240 (RFC 6386, section 9.2, by way of Rec. 601), while the colour model of
// [image.YCbCr] is JPEG's, in which both go from 0 to 255. Without A it is opaque.
type video struct{ *image.NYCbCrA }

// RGBA64At implements [image.RGBA64Image], in the fixed-point arithmetic of libwebp.
func (m video) RGBA64At(x, y int) color.RGBA64 {
	c := m.COffset(x, y)
	luma, cb, cr := int32(m.Y[m.YOffset(x, y)])*19077>>8, int32(m.Cb[c]), int32(m.Cr[c])
	rgb := color.NRGBA{
		R: clip6(luma + cr*26149>>8 - 14234),
		G: clip6(luma - cb*6419>>8 - cr*13320>>8 + 8708),
		B: clip6(luma + cb*33050>>8 - 17685),
		A: 0xff,
	}
	if m.A != nil {
		rgb.A = m.A[m.AOffset(x, y)]
	}
	r, g, b, a := rgb.RGBA()
	return color.RGBA64{uint16(r), uint16(g), uint16(b), uint16(a)}
}

// clip6 drops six fractional bits and keeps to a byte.
func clip6(v int32) uint8 { return uint8(min(max(v>>6, 0), 255)) }

// overWhite lays a colour over white. r, g and b are multiplied by a already.
func overWhite(r, g, b, a uint32) (uint32, uint32, uint32) {
	return r + 0xffff - a, g + 0xffff - a, b + 0xffff - a
}

// put stores a colour of 16 bits a channel at x of the len(dst)/w planes of dst.
func put(dst []float32, x, w int, r, g, b uint32) {
	if len(dst) == w {
		dst[x] = unit16(luma(r, g, b))
		return
	}
	dst[x] = unit16(r)
	dst[x+w] = unit16(g)
	dst[x+2*w] = unit16(b)
}

// luma is Rec. 601 as in [image/color.Gray16Model].
func luma(r, g, b uint32) uint32 { return (19595*r + 38470*g + 7471*b + 1<<15) >> 16 }

// replicate copies the first plane of dst to the others.
func replicate(dst []float32, w int) {
	for at := w; at < len(dst); at += w {
		copy(dst[at:at+w], dst[:w])
	}
}

// rawHeader checks what a record says of its raw pixels against their bytes.
func rawHeader(rec pipeline.Record) (header, error) {
	s, size := rec.Raw.Shape, int64(1)
	if rec.Raw.Float {
		size = 4
	}
	if s.C != 1 && s.C != 3 || s.H < 1 || s.W < 1 {
		return header{}, fmt.Errorf("raw pixels have %d channels of %d×%d, want 1 or 3 channels and a size", s.C, s.H, s.W)
	}
	have := int64(len(rec.Image))
	if int64(s.H) > have/int64(s.W) || have != size*int64(s.Len()) {
		return header{}, fmt.Errorf("raw pixels take %d bytes, want %d for each of %d×%d×%d values", have, size, s.C, s.H, s.W)
	}
	return header{height: s.H, width: s.W, orientation: 1}, nil
}

// rawRows reads raw pixels where they are. A float outside [0, 1] is an error.
func rawRows(rec pipeline.Record, channels int) (rows, error) {
	s, data := rec.Raw.Shape, rec.Image
	value := func(i int) float32 { return unit8[data[i]] }
	if rec.Raw.Float {
		value = func(i int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])) }
		for i := range s.Len() {
			if v := value(i); !(v >= 0 && v <= 1) {
				return nil, fmt.Errorf("raw pixel value %d is %v, want 0 to 1", i, v)
			}
		}
	}
	at := func(c, y, x int) float32 { return value((c*s.H+y)*s.W + x) }
	if rec.Raw.Interleaved {
		at = func(c, y, x int) float32 { return value((y*s.W+x)*s.C + c) }
	}
	switch {
	case s.C == channels && !rec.Raw.Float: // what prepared data sets hold: nothing but a table between bytes and pixels
		return func(dst []float32, y int) {
			step, plane := 1, s.H*s.W // from one pixel, and from one channel, to the next
			row := y * s.W
			if rec.Raw.Interleaved {
				step, plane, row = s.C, 1, y*s.W*s.C
			}
			for c := range channels {
				out, in := dst[c*s.W:(c+1)*s.W], data[row+c*plane:]
				for x, i := 0, 0; x < len(out); x, i = x+1, i+step {
					out[x] = unit8[in[i]]
				}
			}
		}, nil
	case s.C == channels:
		return func(dst []float32, y int) {
			for c := range channels {
				for x := range s.W {
					dst[c*s.W+x] = at(c, y, x)
				}
			}
		}, nil
	case s.C == 1:
		return func(dst []float32, y int) {
			for x := range s.W {
				dst[x] = at(0, y, x)
			}
			replicate(dst, s.W)
		}, nil
	default:
		return func(dst []float32, y int) {
			for x := range s.W {
				dst[x] = grey(at(0, y, x), at(1, y, x), at(2, y, x))
			}
		}, nil
	}
}

// grey is luma without rounding to 16 bits, for pixels that are not of 16 bits.
// The conversions forbid fused multiply-adds.
func grey(r, g, b float32) float32 {
	sum := float64(19595*float64(r)) + float64(38470*float64(g))
	return float32((sum + float64(7471*float64(b))) / 65536)
}
