package stages

import (
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"testing"
)

func TestUnit16IsTheQuotient(t *testing.T) {
	for v := range uint32(1 << 16) {
		if got, want := unit16(v), float32(v)/0xffff; math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("unit16(%d) is %v, want %v", v, got, want)
		}
	}
}

// TestPixelsOfYCbCr: whole rows are what single colours are, for every way of
// sharing chroma, odd sizes and rectangles that begin within a shared one.
func TestPixelsOfYCbCr(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for ratio := image.YCbCrSubsampleRatio444; ratio <= image.YCbCrSubsampleRatio410; ratio++ {
		for range 40 {
			whole := image.NewYCbCr(image.Rect(0, 0, 5+rnd.IntN(30), 5+rnd.IntN(9)), ratio)
			for _, plane := range [][]byte{whole.Y, whole.Cb, whole.Cr} {
				for i := range plane {
					plane[i] = byte(rnd.Uint32())
				}
			}
			part := whole.Rect
			part.Min.X, part.Min.Y = rnd.IntN(5), rnd.IntN(5)
			m := whole.SubImage(part).(*image.YCbCr)
			w, h := part.Dx(), part.Dy()
			for _, channels := range []int{1, 3} {
				got, want := make([]float32, channels*w), make([]float32, channels*w)
				source := rowsOf(m, channels)
				for y := range h {
					source(got, y)
					for x := range w {
						r, g, b, _ := m.At(part.Min.X+x, part.Min.Y+y).RGBA()
						if channels == 1 {
							r = uint32(color.Gray16Model.Convert(m.At(part.Min.X+x, part.Min.Y+y)).(color.Gray16).Y)
						}
						for c, v := range []uint32{r, g, b}[:channels] {
							want[c*w+x] = float32(v) / 0xffff
						}
					}
					for i := range want {
						if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
							t.Fatalf("%v, %v, %d channels, row %d: value %d is %v, want %v", ratio, part, channels, y, i, got[i], want[i])
						}
					}
				}
			}
		}
	}
}
