package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"sync"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gobolditalic"
	"golang.org/x/image/font/gofont/goitalic"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/gomediumitalic"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/gofont/gomonoitalic"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/f64"
	"golang.org/x/image/math/fixed"
)

// fonts are the faces of the Go fonts: what a group is, in data with groups.
var fonts = []struct {
	name string
	ttf  []byte
}{
	{"regular", goregular.TTF}, {"bold", gobold.TTF}, {"italic", goitalic.TTF}, {"bold-italic", gobolditalic.TTF},
	{"medium", gomedium.TTF}, {"medium-italic", gomediumitalic.TTF},
	{"mono", gomono.TTF}, {"mono-bold", gomonobold.TTF}, {"mono-italic", gomonoitalic.TTF},
}

const (
	side   = 32  // of a finished image, in pixels
	canvas = 128 // of the square a glyph is first drawn in
)

// faces are the fonts at the size of the canvas.
var faces = sync.OnceValues(func() ([]font.Face, error) {
	var all []font.Face
	for _, f := range fonts {
		parsed, err := opentype.Parse(f.ttf)
		if err != nil {
			return nil, fmt.Errorf("parse font %s: %w", f.name, err)
		}
		face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: canvas * 0.8, DPI: 72})
		if err != nil {
			return nil, fmt.Errorf("make face of font %s: %w", f.name, err)
		}
		all = append(all, face)
	}
	return all, nil
})

// A glyph is an image of one character.
type glyph struct {
	char  string
	font  int // index in fonts
	pixel *image.Gray
}

// drawGlyph draws char, white on black, in a font, a pose and noise of rng's choice.
func drawGlyph(rng *rand.Rand, char string) (glyph, error) {
	all, err := faces()
	if err != nil {
		return glyph{}, err
	}
	which := rng.IntN(len(all))
	flat := image.NewGray(image.Rect(0, 0, canvas, canvas))
	bounds, _ := font.BoundString(all[which], char)
	d := font.Drawer{Dst: flat, Src: image.White, Face: all[which]}
	d.Dot = fixed.Point26_6{
		X: fixed.I(canvas/2) - (bounds.Min.X+bounds.Max.X)/2,
		Y: fixed.I(canvas/2) - (bounds.Min.Y+bounds.Max.Y)/2,
	}
	d.DrawString(char)

	posed := image.NewGray(image.Rect(0, 0, side, side))
	draw.CatmullRom.Transform(posed, pose(rng), flat, flat.Bounds(), draw.Src, nil)
	gain, floor, noise := between(rng, 0.75, 1), between(rng, 0, 24), between(rng, 1, 5)
	for i, v := range posed.Pix {
		x := floor + gain*float64(v)*(255-floor)/255 + noise*rng.NormFloat64()
		posed.Pix[i] = uint8(min(max(math.Round(x), 0), 255))
	}
	return glyph{char, which, posed}, nil
}

// pose is a random affine map from the canvas to the finished image: rotated by
// up to 12°, sheared by up to 0.15, scaled by 0.8 to 1.1, moved by up to 2 pixels.
func pose(rng *rand.Rand) f64.Aff3 {
	sin, cos := math.Sincos(between(rng, -12, 12) * math.Pi / 180)
	shear := between(rng, -0.15, 0.15)
	scale := between(rng, 0.8, 1.1) * side / canvas
	a, b := scale*cos, scale*(shear*cos-sin)
	c, d := scale*sin, scale*(shear*sin+cos)
	x, y := side/2+between(rng, -2, 2), side/2+between(rng, -2, 2)
	return f64.Aff3{
		a, b, x - (a+b)*canvas/2,
		c, d, y - (c+d)*canvas/2,
	}
}

func between(rng *rand.Rand, low, high float64) float64 { return low + (high-low)*rng.Float64() }

// tinted is the glyph in colour, in a picture wider than high.
func (g glyph) tinted(rng *rand.Rand) *image.RGBA {
	ink := [3]float64{between(rng, 0.3, 1), between(rng, 0.3, 1), between(rng, 0.3, 1)}
	out := image.NewRGBA(image.Rect(0, 0, side+side/4, side))
	for y := range side {
		for x := range out.Rect.Dx() {
			v := float64(g.pixel.GrayAt(min(x, side-1), y).Y)
			out.SetRGBA(x, y, color.RGBA{uint8(v * ink[0]), uint8(v * ink[1]), uint8(v * ink[2]), 255})
		}
	}
	return out
}

func encodePNG(m image.Image) ([]byte, error) {
	var out bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, m)
	return out.Bytes(), err
}
