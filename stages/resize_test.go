package stages

import (
	"image"
	"math"
	"testing"

	"golang.org/x/image/draw"
)

// The definition is golang.org/x/image/draw, which rounds to 16 bits on its way.
func TestResizeAgreesWithDraw(t *testing.T) {
	for _, tt := range []struct {
		filter Filter
		ref    draw.Scaler
		bound  float64
	}{
		{CatmullRom, draw.CatmullRom, 2.0 / 255}, {BiLinear, draw.BiLinear, 2.0 / 255}, {NearestPixel, draw.NearestNeighbor, 0},
	} {
		for _, size := range [][4]int{{200, 131, 32, 24}, {20, 13, 64, 50}, {100, 40, 40, 100}, {33, 33, 33, 7}, {1, 9, 5, 5}, {9, 9, 1, 1}} {
			src := picture(size[0], size[1])
			want := image.NewRGBA(image.Rect(0, 0, size[2], size[3]))
			tt.ref.Scale(want, want.Bounds(), src, src.Bounds(), draw.Src, nil)
			d := newDecode(t, DecodeConfig{Width: size[2], Height: size[3], Filter: tt.filter})
			shape, got, err := decodeOne(d, encodePNG(src))
			if err != nil {
				t.Fatal(err)
			}
			for y := range shape.H {
				for x := range shape.W {
					p := want.RGBAAt(x, y)
					for c, v := range []uint8{p.R, p.G, p.B} {
						g := got[(c*shape.H+y)*shape.W+x]
						if diff := math.Abs(float64(g) - float64(float32(v)/255)); diff > tt.bound {
							t.Fatalf("%v %v: pixel (%d, %d) of channel %d is %v, want %v", tt.filter, size, x, y, c, g, float32(v)/255)
						}
					}
				}
			}
		}
	}
}

func TestTapsAddUpToOne(t *testing.T) {
	for f := range Filter(len(filterNames)) {
		for _, size := range [][2]int{{1, 1}, {1, 1000}, {1000, 1}, {7, 1000}, {1000, 7}, {64, 64}} {
			last := 0
			for i, tap := range f.tapsOf(size[0], size[1]) {
				var sum float64
				for _, w := range tap.weights {
					sum += float64(w)
				}
				if math.Abs(sum-1) > 1e-5 || tap.first < last || tap.end() > size[1] {
					t.Fatalf("%v %v: the taps of %d begin at %d, end at %d and add up to %v", f, size, i, tap.first, tap.end(), sum)
				}
				last = tap.first
			}
		}
	}
}

// A checkerboard has no level but grey once its squares are too small to see.
func TestShrinkingIsAreaCorrect(t *testing.T) {
	src := image.NewGray(image.Rect(0, 0, 512, 512))
	for i := range src.Pix {
		if (i+i/512)%2 == 0 {
			src.Pix[i] = 255
		}
	}
	for _, f := range []Filter{CatmullRom, BiLinear} {
		_, got, err := decodeOne(newDecode(t, DecodeConfig{Height: 31, Width: 31, Channels: 1, Filter: f}), encodePNG(src))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if math.Abs(float64(v)-0.5) > 0.01 {
				t.Fatalf("%v: pixel %d is %v, want 0.5", f, i, v)
			}
		}
	}
}

func TestParseFilter(t *testing.T) {
	for f := range Filter(len(filterNames)) {
		if got, err := ParseFilter(f.String()); got != f || err != nil {
			t.Errorf("ParseFilter(%q) = %v, %v", f, got, err)
		}
	}
	if _, err := ParseFilter("lanczos"); err == nil {
		t.Error("an unknown filter gave no error")
	}
}
