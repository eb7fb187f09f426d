package stages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

var testContext = context.Background()

// wantRowError checks that err says where, with a column, and contains want.
func wantRowError(t *testing.T, err error, want string) {
	t.Helper()
	var row *pipeline.RowError
	switch {
	case err == nil:
		t.Errorf("no error, want one with %q", want)
	case !errors.As(err, &row):
		t.Errorf("error is %T (%v), want a RowError", err, err)
	case row.File != somewhere.File || row.RowGroup != somewhere.RowGroup || row.Row != somewhere.Row || row.Column != "image":
		t.Errorf("error is at %v", row.Location)
	case !strings.Contains(err.Error(), want):
		t.Errorf("error is %q, want it to contain %q", err, want)
	}
}

// picture is an image of waves of three frequencies, with an edge in it.
func picture(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.NRGBA{uint8(x * 255 / w), uint8(y * 255 / h), uint8((x*y*7 + x) % 256), 255}
			if x > w/2 && y < h/3 {
				c = color.NRGBA{255, 250, 5, 255}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img
}

func pixelDigest(pixels []float32) string {
	h := sha256.New()
	hashFloats(h, pixels)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func TestDecodeFormats(t *testing.T) {
	src := picture(21, 13)
	rgb := func(x, y int) color.Color { return src.At(x, y) }
	convert := func(dst interface {
		image.Image
		Set(x, y int, c color.Color)
	}, at func(x, y int) color.Color) image.Image {
		for y := range 13 {
			for x := range 21 {
				dst.Set(x, y, at(x, y))
			}
		}
		return dst
	}
	r := image.Rect(0, 0, 21, 13)
	see := func(x, y int) color.Color { c := src.NRGBAAt(x, y); c.A = uint8(x * 12); return c }
	palette := make(color.Palette, 200)
	for i := range palette {
		palette[i] = color.NRGBA{uint8(i), uint8(255 - i), uint8(i / 2), uint8(55 + i)}
	}
	for _, tt := range []struct {
		name string
		img  image.Image
	}{
		{"RGB", convert(image.NewRGBA(r), rgb)},
		{"RGB with alpha", convert(image.NewNRGBA(r), see)},
		{"16 bits with alpha", convert(image.NewNRGBA64(r), see)},
		{"16 bits", convert(image.NewRGBA64(r), rgb)},
		{"grey", convert(image.NewGray(r), rgb)},
		{"16-bit grey", convert(image.NewGray16(r), rgb)},
		{"palette with alpha", convert(image.NewPaletted(r, palette), rgb)},
	} {
		for _, channels := range []int{1, 3} {
			shape, pixels, err := decodeOne(newDecode(t, DecodeConfig{Channels: channels}), encodePNG(tt.img))
			if err != nil {
				t.Fatal(err)
			}
			if shape != (pipeline.Shape{C: channels, H: 13, W: 21}) {
				t.Fatalf("%s: shape is %v", tt.name, shape)
			}
			for y := range 13 {
				for x := range 21 {
					// The definition: over white, then grey as the image package does it.
					r, g, b, a := tt.img.At(x, y).RGBA()
					want := color.RGBA64{uint16(r + 0xffff - a), uint16(g + 0xffff - a), uint16(b + 0xffff - a), 0xffff}
					wants := []uint16{want.R, want.G, want.B}
					if channels == 1 {
						wants = []uint16{color.Gray16Model.Convert(want).(color.Gray16).Y}
					}
					for c, v := range wants {
						if got := pixels[(c*13+y)*21+x]; got != float32(v)/0xffff {
							t.Fatalf("%s, %d channels: pixel (%d, %d) of channel %d is %v, want %v", tt.name, channels, x, y, c, got, float32(v)/0xffff)
						}
					}
				}
			}
		}
	}
}

func TestDecodeJPEGGIFAndWebP(t *testing.T) {
	src := picture(64, 48)
	data := encodeJPEG(src)
	ref, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	_, pixels, err := decodeOne(newDecode(t, DecodeConfig{}), data)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]int{{0, 0}, {63, 47}, {40, 3}, {31, 31}} {
		r, g, b, _ := ref.At(at[0], at[1]).RGBA()
		for ch, v := range []uint32{r, g, b} {
			if got := pixels[(ch*48+at[1])*64+at[0]]; got != float32(v)/0xffff {
				t.Errorf("JPEG pixel %v of channel %d is %v, want %v", at, ch, got, float32(v)/0xffff)
			}
		}
	}
	checker := func(x, y int) bool { return (x+y)%3 == 0 }
	_, pixels, err = decodeOne(newDecode(t, DecodeConfig{}), encodeWebP(7, 5, 51, 204, checker))
	if err != nil {
		t.Fatal(err)
	}
	for y := range 5 {
		for x := range 7 {
			want := float32(51) / 255
			if checker(x, y) {
				want = float32(204) / 255
			}
			if got := pixels[(5+y)*7+x]; got != want {
				t.Fatalf("WebP pixel (%d, %d) is %v, want %v", x, y, got, want)
			}
		}
	}
	// Lossy, as libwebp writes them: black, white, red and blue, the second with alpha 0 above row 8.
	for _, text := range []string{
		"UklGRmQAAABXRUJQVlA4IFgAAADwAwCdASpAABAAAAAAJQMUAFOHcF8A/AD9QP4ByAXYD9Vf4ABNz/gAAP7/328R/74Ni/rih///lfX/jSUX///xPMuRjUo8V+DclunT8MNj53q+gcZegAAA",
		"UklGRowAAABXRUJQVlA4WAoAAAAQAAAAPwAADwAAQUxQSA4AAAABEAsm+UvHsC8iMv75AVZQOCBYAAAA8AMAnQEqQAAQAAAAACUDFABTh3BfAPwA/UD+AcgF2A/VX+AATc/4AAD+/99vEf++DYv64of//5X1/40lF///8TzLkY1KPFfg3Jbp0/DDY+d6voHGXoAAAA==",
	} {
		lossy, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		_, pixels, err = decodeOne(newDecode(t, DecodeConfig{}), lossy)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range [][3]float32{{0, 0, 0}, {1, 1, 1}, {1, 1. / 255, 0}, {0, 0, 1}} {
			at := 12*64 + 8 + 16*i
			if got := [3]float32{pixels[at], pixels[16*64+at], pixels[2*16*64+at]}; got != want {
				t.Errorf("lossy WebP patch %d is %v, want %v as libwebp has it", i, got, want)
			}
		}
	}
	// A first frame that covers the right half of the screen: the rest is white.
	frame := image.NewPaletted(image.Rect(4, 0, 8, 6), color.Palette{color.Black, color.Gray{102}})
	for i := range frame.Pix {
		frame.Pix[i] = 1
	}
	var file bytes.Buffer
	if err := gif.EncodeAll(&file, &gif.GIF{Image: []*image.Paletted{frame}, Delay: []int{0}, Config: image.Config{Width: 8, Height: 6}}); err != nil {
		t.Fatal(err)
	}
	_, pixels, err = decodeOne(newDecode(t, DecodeConfig{Channels: 1}), file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(pixels) != 48 || pixels[0] != 1 || pixels[7] != float32(102)/255 {
		t.Errorf("GIF has %d pixels, %v on the left and %v on the right", len(pixels), pixels[0], pixels[7])
	}
}

func TestDecodeGolden(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  DecodeConfig
		data []byte
		want string
	}{
		{"PNG shrunk by Catmull-Rom", DecodeConfig{Height: 24, Width: 32}, encodePNG(picture(200, 131)), "7de5c9c2d33787d9"},
		{"PNG enlarged by Catmull-Rom", DecodeConfig{Height: 64, Width: 64, Channels: 1}, encodePNG(picture(20, 13)), "c7fa990fc6079d95"},
		{"PNG shrunk by bilinear", DecodeConfig{Height: 7, Width: 9, Filter: BiLinear}, encodePNG(picture(200, 131)), "43086b36f0e10188"},
		{"PNG by nearest", DecodeConfig{Height: 7, Width: 9, Filter: NearestPixel}, encodePNG(picture(200, 131)), "e156c98d8d2325ee"},
		{"JPEG, normalised", DecodeConfig{Height: 28, Width: 28, Mean: []float32{0.485, 0.456, 0.406}, Std: []float32{0.229, 0.224, 0.225}}, encodeJPEG(picture(100, 100)), "730726293c54efef"},
	} {
		_, pixels, err := decodeOne(newDecode(t, tt.cfg), tt.data)
		if err != nil {
			t.Fatal(err)
		}
		if got := pixelDigest(pixels); got != tt.want {
			t.Errorf("%s: pixels have digest %s, want %s", tt.name, got, tt.want)
		}
	}
}

func records(n int) []pipeline.Record {
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([]pipeline.Record, n)
	for i := range all {
		img := picture(10+rng.IntN(50), 10+rng.IntN(50))
		data := encodePNG(img)
		if i%3 == 1 {
			data = encodeJPEG(img)
		}
		where := somewhere
		where.Row = int64(i)
		all[i] = pipeline.Record{ID: int64(i), Label: int32(i % 5), Image: data, Where: where}
	}
	return all
}

func TestDecodeIsTheSameForAnyWorkersAndMemory(t *testing.T) {
	all := records(60)
	var want []float32
	for _, cfg := range []DecodeConfig{
		{Workers: 1}, {Workers: 2}, {Workers: 7}, {Workers: 7, Memory: 240_000}, // a few at a time
	} {
		cfg.Height, cfg.Width = 16, 20
		d := newDecode(t, cfg)
		_, pixels, err := d.Images(testContext, nil, all)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = pixels
		}
		if !slices.Equal(pixels, want) {
			t.Errorf("%d workers: other pixels", cfg.Workers)
		}
		i := 0
		for img, err := range pipeline.Via(pipeline.From(pipeline.Slice(all)), d.Records()).All(testContext) {
			if err != nil {
				t.Fatal(err)
			}
			size := 3 * 16 * 20
			sum := sha256.Sum256(all[i].Image)
			switch {
			case img.ID != int64(i) || img.Label != all[i].Label:
				t.Fatalf("image %d has id %d and label %d", i, img.ID, img.Label)
			case !bytes.Equal(img.Digest[:], sum[:16]):
				t.Fatalf("image %d has another digest than its bytes", i)
			case !slices.Equal(img.Pixels, want[i*size:(i+1)*size]):
				t.Fatalf("%d workers: image %d differs from the batch's", cfg.Workers, i)
			}
			i++
		}
		if i != len(all) {
			t.Fatalf("got %d images, want %d", i, len(all))
		}
	}
}

// batchesOf is a source of batches of 4 records.
type batchesOf []pipeline.Record

func (s batchesOf) Run(ctx context.Context, out chan<- *pipeline.Batch) error {
	for n := range len(s) / 4 {
		b := pipeline.NewBatch()
		b.Number, b.P, b.K = int64(n), 2, 2
		for _, r := range s[4*n : 4*n+4] {
			b.IDs, b.Labels = append(b.IDs, r.ID), append(b.Labels, r.Label)
			b.Records = append(b.Records, r)
		}
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

func TestDecodeBatches(t *testing.T) {
	all := records(20)
	d := newDecode(t, DecodeConfig{Height: 8, Width: 8, Workers: 3})
	_, want, err := d.Images(testContext, nil, all)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for b, err := range pipeline.From(batchesOf(all)).Then(d).All(testContext) {
		if err != nil {
			t.Fatal(err)
		}
		size := 4 * b.Shape.Len()
		if len(b.Records) != 0 || !slices.Equal(b.Pixels, want[n*size:(n+1)*size]) {
			t.Errorf("batch %d holds %d records, or other pixels", n, len(b.Records))
		}
		n++
	}
	if n != 5 {
		t.Errorf("got %d batches, want 5", n)
	}

	all[9].Image = all[9].Image[:30]
	for b, err := range pipeline.From(batchesOf(all)).Then(d).All(testContext) {
		if b == nil {
			where := all[9].Where
			where.Column = "image"
			var row *pipeline.RowError
			if !errors.As(err, &row) || row.Location != where {
				t.Errorf("error is %v, want one at %v", err, where)
			}
			return
		}
	}
	t.Error("a broken image gave no error")
}

func TestDecodeSizeOfTheData(t *testing.T) {
	d := newDecode(t, DecodeConfig{})
	if d.Shape() != (pipeline.Shape{}) {
		t.Errorf("shape is %v before the first image", d.Shape())
	}
	a := pipeline.Record{Image: encodePNG(picture(12, 9))}
	b := pipeline.Record{Image: encodePNG(picture(9, 12)), Where: somewhere}
	if _, _, err := d.Images(testContext, nil, []pipeline.Record{a, a}); err != nil {
		t.Fatal(err)
	}
	_, _, err := d.Images(testContext, nil, []pipeline.Record{a, b, a})
	wantRowError(t, err, "image is 12×9 (height × width) and others are 9×12: give a size")
	b.Image = withEXIF(b.Image, exifOf(6, binary.BigEndian, "MM\x00*"))
	if _, _, err := d.Images(testContext, nil, []pipeline.Record{a, b, a}); err != nil {
		t.Errorf("an image turned to the size of the others: %v", err)
	}
}

func floats(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func TestDecodeRaw(t *testing.T) {
	// Two pixels side by side.
	wide := func(c int) pipeline.Shape { return pipeline.Shape{C: c, H: 1, W: 2} }
	luma := func(r, g, b float64) float32 { return float32((19595*r + 38470*g + 7471*b) / 65536) }
	for _, tt := range []struct {
		name     string
		raw      pipeline.Raw
		data     []byte
		channels int
		want     []float32
	}{
		{"grey bytes", pipeline.Raw{Shape: wide(1)}, []byte{51, 255}, 1, []float32{0.2, 1}},
		{"grey bytes to RGB", pipeline.Raw{Shape: wide(1)}, []byte{51, 255}, 3, []float32{0.2, 1, 0.2, 1, 0.2, 1}},
		{"planes", pipeline.Raw{Shape: wide(3)}, []byte{0, 51, 102, 153, 204, 255}, 3, []float32{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{"interleaved", pipeline.Raw{Shape: wide(3), Interleaved: true}, []byte{0, 102, 204, 51, 153, 255}, 3, []float32{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{"planes to grey", pipeline.Raw{Shape: wide(3)}, []byte{0, 51, 102, 153, 204, 255}, 1, []float32{luma(0, 0.4, 0.8), luma(0.2, 0.6, 1)}},
		{"float planes", pipeline.Raw{Shape: wide(3), Float: true}, floats(0, 0.1, 0.2, 0.3, 0.5, 1), 3, []float32{0, 0.1, 0.2, 0.3, 0.5, 1}},
		{"floats interleaved", pipeline.Raw{Shape: wide(3), Float: true, Interleaved: true}, floats(0, 0.2, 0.5, 0.1, 0.3, 1), 3, []float32{0, 0.1, 0.2, 0.3, 0.5, 1}},
	} {
		_, got, err := newDecode(t, DecodeConfig{Channels: tt.channels}).Images(testContext, nil, []pipeline.Record{{Raw: tt.raw, Image: tt.data}})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		near := func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-7 }
		if !slices.EqualFunc(got, tt.want, near) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	nan := float32(math.NaN())
	for _, tt := range []struct {
		raw  pipeline.Raw
		data []byte
		want string
	}{
		{pipeline.Raw{Shape: wide(1)}, []byte{1, 2, 3}, "raw pixels take 3 bytes, want 1 for each of 1×1×2 values"},
		{pipeline.Raw{Shape: wide(1), Float: true}, []byte{1, 2}, "want 4 for each"},
		{pipeline.Raw{Shape: wide(2)}, []byte{1, 2, 3, 4}, "2 channels"},
		{pipeline.Raw{Shape: pipeline.Shape{C: 1, H: math.MaxInt, W: math.MaxInt}}, []byte{1}, "raw pixels take 1 bytes"},
		{pipeline.Raw{Shape: pipeline.Shape{C: 1, H: -1, W: -2}}, []byte{1, 2}, "want 1 or 3 channels and a size"},
		{pipeline.Raw{Shape: wide(1), Float: true}, floats(0, nan), "raw pixel value 1 is NaN, want 0 to 1"},
		{pipeline.Raw{Shape: wide(1), Float: true}, floats(1.5, 0), "raw pixel value 0 is 1.5, want 0 to 1"},
		{pipeline.Raw{Shape: wide(1), Float: true}, floats(0, -0.5), "raw pixel value 1 is -0.5"},
	} {
		d := newDecode(t, DecodeConfig{Height: 1, Width: 2})
		_, _, err := d.Images(testContext, nil, []pipeline.Record{{Raw: tt.raw, Image: tt.data, Where: somewhere}})
		wantRowError(t, err, tt.want)
	}
}

// A decoder that panics must end neither the process nor the report of where.
func TestDecodePanicSaysWhere(t *testing.T) {
	defer func(f func([]byte) (image.Image, error)) { formats[2].decode = f }(formats[2].decode)
	formats[2].decode = func([]byte) (image.Image, error) { panic("index out of range") }
	_, _, err := decodeOne(newDecode(t, DecodeConfig{}), encodeGIF(picture(4, 4)))
	wantRowError(t, err, "image decoder panicked: index out of range")
	var p *pipeline.PanicError
	if !errors.As(err, &p) || len(p.Stack) == 0 {
		t.Errorf("error is %v, want a PanicError with a stack", err)
	}
}

// Goal B5: images being decoded never take more than Memory together.
func TestDecodeKeepsItsMemory(t *testing.T) {
	one := encodePNG(greyPicture(100))
	h, err := readHeader(pipeline.Record{Image: one}, 1e6)
	if err != nil {
		t.Fatal(err)
	}
	var now, peak atomic.Int64
	defer func(f func([]byte) (image.Image, error)) { formats[0].decode = f }(formats[0].decode)
	plain := formats[0].decode
	formats[0].decode = func(data []byte) (image.Image, error) {
		at := now.Add(h.bytes)
		for old := peak.Load(); at > old && !peak.CompareAndSwap(old, at); old = peak.Load() {
		}
		defer now.Add(-h.bytes)
		time.Sleep(time.Millisecond)
		return plain(data)
	}
	d := newDecode(t, DecodeConfig{Height: 4, Width: 4, Workers: 16, Memory: 3 * h.bytes})
	all := slices.Repeat([]pipeline.Record{{Image: one}}, 100)
	if _, _, err := d.Images(testContext, nil, all); err != nil {
		t.Fatal(err)
	}
	if peak.Load() > 3*h.bytes || peak.Load() < 2*h.bytes {
		t.Errorf("%d bytes were in use at a time, want up to %d", peak.Load(), 3*h.bytes)
	}

	_, _, err = newDecode(t, DecodeConfig{Memory: 1 << 20}).Images(testContext, nil, all)
	if err == nil || !strings.Contains(err.Error(), "100 images of 100×100 come to 11 MiB of pixels, and DecodeConfig.Memory is 1 MiB: give a smaller size") {
		t.Errorf("a batch larger than the memory: error is %v", err)
	}
}

func TestDecodeConfigIsChecked(t *testing.T) {
	for _, tt := range []struct {
		cfg  DecodeConfig
		want string
	}{
		{DecodeConfig{Height: 8}, "size is 8×0"},
		{DecodeConfig{Height: -8, Width: 8}, "size is -8×8"},
		{DecodeConfig{Channels: 4}, "Channels is 4"},
		{DecodeConfig{Filter: 9}, "Filter(9)"},
		{DecodeConfig{Mean: []float32{0, 0, 0}}, "3 means and 0 deviations"},
		{DecodeConfig{Channels: 1, Mean: []float32{0, 0, 0}, Std: []float32{1, 1, 1}}, "want 1 of each"},
		{DecodeConfig{Channels: 1, Mean: []float32{0}, Std: []float32{0}}, "positive deviation"},
		{DecodeConfig{Channels: 1, Mean: []float32{float32(math.Inf(1))}, Std: []float32{1}}, "finite"},
		{DecodeConfig{MaxPixels: -1}, "MaxPixels is -1"},
		{DecodeConfig{Memory: -1}, "Memory is -1"},
	} {
		if _, err := NewDecode(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error is %v, want one with %q", err, tt.want)
		}
	}
}

func TestDecodeFingerprint(t *testing.T) {
	base := DecodeConfig{Height: 8, Width: 8, Channels: 1}
	print := func(change func(*DecodeConfig)) string {
		cfg := base
		change(&cfg)
		return newDecode(t, cfg).Fingerprint()
	}
	same := print(func(*DecodeConfig) {})
	if same != print(func(c *DecodeConfig) { c.Workers, c.Memory, c.MaxPixels = 3, 1<<20, 1e6 }) {
		t.Error("workers and limits change the fingerprint")
	}
	seen := map[string]bool{same: true}
	for i, change := range []func(*DecodeConfig){
		func(c *DecodeConfig) { c.Height = 9 },
		func(c *DecodeConfig) { c.Width = 9 },
		func(c *DecodeConfig) { c.Channels = 3 },
		func(c *DecodeConfig) { c.Filter = BiLinear },
		func(c *DecodeConfig) { c.Mean, c.Std = []float32{0}, []float32{1} },
		func(c *DecodeConfig) { c.Mean, c.Std = []float32{0}, []float32{2} },
	} {
		if p := print(change); seen[p] {
			t.Errorf("change %d keeps the fingerprint", i)
		} else {
			seen[p] = true
		}
	}
}

func FuzzDecode(f *testing.F) {
	img := picture(9, 7)
	for _, data := range [][]byte{
		encodePNG(img), encodeJPEG(img), encodeGIF(img), encodeWebP(9, 7, 1, 200, func(x, y int) bool { return x > y }),
		withEXIF(encodeJPEG(img), exifOf(6, binary.BigEndian, "MM\x00*")), pngHeader(1<<14, 1<<14, 16, 6, 1), jpegOfSize(400, 300, true),
	} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDecode(t, DecodeConfig{Height: 5, Width: 6, MaxPixels: 1 << 16, Memory: 4 << 20})
		_, pixels, err := decodeOne(d, data)
		if err != nil {
			wantRowError(t, err, "")
			return
		}
		for i, v := range pixels {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("pixel %d is %v", i, v)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, bb := range []struct {
		name string
		data []byte
		cfg  DecodeConfig
	}{
		{"png=28x28", encodePNG(greyPicture(28)), DecodeConfig{Channels: 1}},
		{"jpeg=100x100", encodeJPEG(picture(100, 100)), DecodeConfig{}},
		{"jpeg=100x100/to=64x64", encodeJPEG(picture(100, 100)), DecodeConfig{Height: 64, Width: 64}},
		{"jpeg=500x375/to=224x224", encodeJPEG(picture(500, 375)), DecodeConfig{Height: 224, Width: 224}},
	} {
		const n = 64
		all := slices.Repeat([]pipeline.Record{{Image: bb.data}}, n)
		b.Run(bb.name, func(b *testing.B) {
			d := newDecode(b, bb.cfg)
			var dst []float32
			for b.Loop() {
				var err error
				if _, dst, err = d.Images(testContext, dst, all); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "images/s")
		})
		b.Run(fmt.Sprintf("%s/bare", bb.name), func(b *testing.B) { // one core, no resizing, no conversion
			for b.Loop() {
				for range n {
					if _, _, err := image.Decode(bytes.NewReader(bb.data)); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}

func greyPicture(side int) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * i / 7)
	}
	return img
}
