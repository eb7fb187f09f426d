package stages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func encodePNG(img image.Image) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func encodeJPEG(img image.Image) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func encodeGIF(img image.Image) []byte {
	var b bytes.Buffer
	if err := gif.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// encodeWebP writes a lossless WebP whose pixels are grey levels low and high:
// one bit each, by the simplest prefix codes of VP8L.
func encodeWebP(w, h int, low, high byte, isHigh func(x, y int) bool) []byte {
	var body []byte
	var acc uint64
	var have uint
	bits := func(v uint64, n uint) {
		acc |= v << have
		for have += n; have >= 8; have -= 8 {
			body = append(body, byte(acc))
			acc >>= 8
		}
	}
	bits(0x2f, 8)
	bits(uint64(w-1), 14)
	bits(uint64(h-1), 14)
	bits(0, 1+3) // no alpha, version 0
	bits(0, 3)   // no transform, no colour cache, one group of codes
	two := func(a, b byte) {
		bits(1|1<<1|1<<2, 3)
		bits(uint64(a), 8)
		bits(uint64(b), 8)
	}
	one := func(a byte) {
		bits(1|0<<1|1<<2, 3)
		bits(uint64(a), 8)
	}
	two(low, high) // green
	one(0)         // red
	one(0)         // blue
	one(255)       // alpha
	one(0)         // distance
	if isHigh != nil {
		for y := range h {
			for x := range w {
				if isHigh(x, y) {
					bits(1, 1)
				} else {
					bits(0, 1)
				}
			}
		}
	}
	bits(0, 7)
	if len(body)%2 == 1 {
		body = append(body, 0)
	}
	return riff("VP8L", body)
}

func riff(id string, body []byte) []byte {
	out := append([]byte("RIFF\x00\x00\x00\x00WEBP"), chunk(id, body)...)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out
}

func chunk(id string, body []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte(id), uint32(len(body))), body...)
}

// exifOf is an EXIF block that says orientation o.
func exifOf(o uint16, order binary.AppendByteOrder, mark string) []byte {
	b := []byte(mark)
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, 2) // entries
	b = order.AppendUint16(b, 0x0110)
	b = order.AppendUint16(b, 2)
	b = order.AppendUint32(b, 4)
	b = append(b, "cam\x00"...)
	b = order.AppendUint16(b, 0x0112)
	b = order.AppendUint16(b, 3)
	b = order.AppendUint32(b, 1)
	b = order.AppendUint16(b, o)
	b = order.AppendUint16(b, 0)
	return order.AppendUint32(b, 0)
}

func withEXIF(data, exif []byte) []byte {
	switch FormatOf(data) {
	case "JPEG":
		body := append([]byte("Exif\x00\x00"), exif...)
		head := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(body)+2))
		return slices.Concat(data[:2], head, body, data[2:])
	case "PNG":
		body := append([]byte("eXIf"), exif...)
		c := binary.BigEndian.AppendUint32(nil, uint32(len(exif)))
		c = binary.BigEndian.AppendUint32(append(c, body...), crc32.ChecksumIEEE(body))
		return slices.Concat(data[:33], c, data[33:])
	default:
		out := append(slices.Clone(data), chunk("EXIF", exif)...)
		binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
		return out
	}
}

// pngHeader is a PNG that says w×h and holds no pixels.
func pngHeader(w, h uint32, depth, kind, interlaced byte) []byte {
	ihdr := []byte("IHDR")
	ihdr = binary.BigEndian.AppendUint32(ihdr, w)
	ihdr = binary.BigEndian.AppendUint32(ihdr, h)
	ihdr = append(ihdr, depth, kind, 0, 0, interlaced)
	out := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d")
	out = append(out, ihdr...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(ihdr))
	return append(out, "\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e"...)
}

// jpegOfSize is a JPEG whose frame header says w×h, progressive or not.
func jpegOfSize(w, h uint16, progressive bool) []byte {
	data := encodeJPEG(image.NewRGBA(image.Rect(0, 0, 8, 8)))
	at := bytes.Index(data, []byte{0xff, 0xc0})
	if progressive {
		data[at+1] = 0xc2
	}
	binary.BigEndian.PutUint16(data[at+5:], h)
	binary.BigEndian.PutUint16(data[at+7:], w)
	return data
}

// behindStrayByte puts a byte before the frame header of a progressive JPEG,
// which decoders pass over.
func behindStrayByte(data []byte) []byte {
	return slices.Insert(data, bytes.Index(data, []byte{0xff, 0xc2}), 0)
}

func newDecode(t testing.TB, cfg DecodeConfig) *Decode {
	t.Helper()
	d, err := NewDecode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var somewhere = pipeline.Location{File: "train-003.parquet", RowGroup: 4, Row: 1187}

// decodeOne decodes one encoded image.
func decodeOne(d *Decode, data []byte) (pipeline.Shape, []float32, error) {
	return d.Images(testContext, nil, []pipeline.Record{{Image: data, Where: somewhere}})
}

func TestBombsAreRefusedBeforeAllocating(t *testing.T) {
	padding := make([]byte, 1<<17) // as many bytes as pixels of that number can have
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"PNG 2^31−1 square", pngHeader(1<<31-1, 1<<31-1, 8, 2, 0), "PNG"},
		{"PNG 2^31−1 by 1", pngHeader(1<<31-1, 1, 8, 0, 0), "more than the 64000000 pixels"},
		{"PNG 2^20 × 2^10 interlaced", pngHeader(1<<20, 1<<10, 8, 6, 1), "more than the 64000000 pixels"},
		{"PNG 16384² 16-bit RGBA", pngHeader(1<<14, 1<<14, 16, 6, 0), "more than the 64000000 pixels"},
		{"PNG 40000² 1-bit grey", pngHeader(40000, 40000, 1, 0, 0), "more than the 64000000 pixels"},
		{"PNG 0 × 5", pngHeader(0, 5, 8, 0, 0), "PNG"},
		{"GIF 65535²", []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02"), "more than the 64000000 pixels"},
		{"WebP 16384²", encodeWebP(1<<14, 1<<14, 0, 255, nil), "more than the 64000000 pixels"},
		{"WebP 2^24 square canvas", riff("VP8X", []byte("\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff")), "WebP"},
		{"JPEG 65535²", jpegOfSize(65535, 65535, false), "more than the 64000000 pixels"},
		{"JPEG 16384²", jpegOfSize(16384, 16384, false), "more than the 64000000 pixels"},
		{"progressive JPEG 65535²", jpegOfSize(65535, 65535, true), "more than the 64000000 pixels"},
		{"progressive JPEG within the pixels", append(jpegOfSize(7999, 7999, true), padding...), "DecodeConfig.Memory is 1024 MiB"},
		{"progressive JPEG behind a stray byte", append(behindStrayByte(jpegOfSize(7999, 7999, true)), padding...), "DecodeConfig.Memory is 1024 MiB"},
		{"JPEG of few bytes within the pixels", jpegOfSize(7999, 7999, false), "more than its 597 bytes can hold"},
		{"PNG of few bytes within the pixels", pngHeader(7999, 7999, 1, 0, 1), "more than its 45 bytes can hold"},
		{"GIF of few bytes within the pixels", []byte("GIF89a\x00\x10\x00\x10\x00\x00\x00,\x00\x00\x00\x00\x00\x10\x00\x10\x00\x02"), "bytes can hold"},
		{"WebP of few bytes within the pixels", encodeWebP(4096, 4096, 0, 255, nil), "bytes can hold"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDecode(t, DecodeConfig{Height: 8, Width: 8, Workers: 1})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := decodeOne(d, tt.data)
			runtime.ReadMemStats(&after)
			if extra := after.TotalAlloc - before.TotalAlloc; extra > 1<<20 {
				t.Errorf("allocated %d bytes, want at most 1 MiB", extra)
			}
			wantRowError(t, err, tt.want)
		})
	}
}

// A small canvas around a large frame is the way around a check of the canvas.
func TestFrameLargerThanItsCanvas(t *testing.T) {
	small := []byte("\x00\x00\x00\x00\x07\x00\x00\x07\x00\x00") // VP8X, 8×8
	large := encodeWebP(1<<14, 1<<14, 0, 255, nil)[12:]
	data := riff("VP8X", small)
	data = append(data, large...)
	binary.LittleEndian.PutUint32(data[4:], uint32(len(data)-8))
	_, _, err := decodeOne(newDecode(t, DecodeConfig{Height: 8, Width: 8}), data)
	wantRowError(t, err, "WebP")

	gif := []byte("GIF89a\x08\x00\x08\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x00;")
	_, _, err = decodeOne(newDecode(t, DecodeConfig{Height: 8, Width: 8}), gif)
	wantRowError(t, err, "decode GIF")
}

func TestWhatIsNoImage(t *testing.T) {
	whole := encodePNG(image.NewGray(image.Rect(0, 0, 9, 9)))
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"text", []byte("hello, this is no image"), `image begins with "hello, this ": want PNG, JPEG, GIF or WebP`},
		{"empty", nil, "image is empty"},
		{"TIFF", []byte("II*\x00\x08\x00\x00\x00"), "want PNG, JPEG, GIF or WebP"},
		{"BMP", []byte("BM\x00\x00"), "want PNG, JPEG, GIF or WebP"},
		{"WAV in RIFF", []byte("RIFF\x00\x00\x00\x00WAVE"), "want PNG, JPEG, GIF or WebP"},
		{"PNG cut off", whole[:len(whole)/2], "PNG"},
		{"PNG's magic alone", whole[:8], "read PNG header"},
		{"JPEG's magic alone", []byte{0xff, 0xd8, 0xff}, "read JPEG header"},
	} {
		_, _, err := decodeOne(newDecode(t, DecodeConfig{Height: 8, Width: 8}), tt.data)
		t.Log(err)
		wantRowError(t, err, tt.want)
	}
}

func TestOrientation(t *testing.T) {
	// A stored image of 2 rows of 3 pixels, and how it is to be shown: EXIF 2.3,
	// section 4.6.4, where the 0th row and column of each value lie.
	stored := []byte{
		10, 20, 30,
		40, 50, 60,
	}
	shown := [...]string{
		1: "10 20 30 / 40 50 60",
		2: "30 20 10 / 60 50 40",
		3: "60 50 40 / 30 20 10",
		4: "40 50 60 / 10 20 30",
		5: "10 40 / 20 50 / 30 60",
		6: "40 10 / 50 20 / 60 30",
		7: "60 30 / 50 20 / 40 10",
		8: "30 60 / 20 50 / 10 40",
	}
	const side = 16 // a pixel is a square of this many, so that JPEG keeps its level
	big := image.NewGray(image.Rect(0, 0, 3*side, 2*side))
	for y := range 2 * side {
		for x := range 3 * side {
			big.SetGray(x, y, color.Gray{stored[y/side*3+x/side] * 4})
		}
	}
	files := map[string][]byte{"PNG": encodePNG(big), "JPEG": encodeJPEG(big)}
	for o := uint16(1); o <= 8; o++ {
		for name, data := range files {
			for _, exif := range [][]byte{exifOf(o, binary.LittleEndian, "II*\x00"), exifOf(o, binary.BigEndian, "MM\x00*")} {
				shape, pixels, err := decodeOne(newDecode(t, DecodeConfig{Channels: 1}), withEXIF(data, exif))
				if err != nil {
					t.Fatal(err)
				}
				var got strings.Builder
				for y := side / 2; y < shape.H; y += side {
					if y > side {
						got.WriteString(" /")
					}
					for x := side / 2; x < shape.W; x += side {
						level := int(pixels[y*shape.W+x]*255/4 + 0.5)
						if got.Len() > 0 {
							got.WriteByte(' ')
						}
						got.WriteString(string('0'+rune((level+5)/10)) + "0")
					}
				}
				if got.String() != shown[o] {
					t.Errorf("%s, orientation %d: got %s, want %s", name, o, got.String(), shown[o])
				}
			}
		}
		corner := func(x, y int) bool { return x == 0 && y == 0 }
		data := withEXIF(encodeWebP(3, 2, 0, 200, corner), exifOf(o, binary.LittleEndian, "Exif\x00\x00II*\x00"))
		shape, pixels, err := decodeOne(newDecode(t, DecodeConfig{}), data)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(pixels, func(v float32) bool { return v > 0.5 })
		want := strings.Index(strings.ReplaceAll(strings.ReplaceAll(shown[o], "/ ", ""), " ", ""), "10") / 2
		if at != shape.H*shape.W+want { // the green plane
			t.Errorf("WebP, orientation %d: the first pixel is shown at %d, want %d", o, at-shape.H*shape.W, want)
		}
	}
}

func TestOrientationOfMalformedBlocks(t *testing.T) {
	good := exifOf(6, binary.LittleEndian, "II*\x00")
	if got := orientation(good); got != 6 {
		t.Fatalf("orientation is %d, want 6", got)
	}
	for i := range good {
		if got := orientation(good[:i]); got != 1 && got != 6 {
			t.Errorf("%d bytes: orientation is %d", i, got)
		}
	}
	far := slices.Clone(good)
	binary.LittleEndian.PutUint32(far[4:], 1<<32-1)
	for name, block := range map[string][]byte{
		"offset past the end": far, "out of range": exifOf(9, binary.LittleEndian, "II*\x00"),
		"zero": exifOf(0, binary.BigEndian, "MM\x00*"), "no byte order": exifOf(6, binary.BigEndian, "MI\x00*"),
	} {
		if got := orientation(block); got != 1 {
			t.Errorf("%s: orientation is %d, want 1", name, got)
		}
	}
}

// TestConfigPNG: a header says what the decoder's own reading of it says,
// whichever bit of it is changed, with its checksum and without.
func TestConfigPNG(t *testing.T) {
	whole := image.Rect(0, 0, 5, 3)
	for _, img := range []image.Image{image.NewGray(whole), image.NewRGBA(whole), image.NewNRGBA(whole), image.NewGray16(whole), image.NewPaletted(whole, color.Palette{color.Black, color.White})} {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		for bit := 63; bit < 8*34; bit++ { // behind the signature; 63 for none
			for _, mend := range []bool{false, true} {
				data := bytes.Clone(b.Bytes())
				if bit > 63 {
					data[bit/8] ^= 1 << (bit % 8)
				}
				if mend {
					binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(data[12:29]))
				}
				got, err := configPNG(data)
				want, wantErr := png.DecodeConfig(bytes.NewReader(data))
				if fmt.Sprint(got.Width, got.Height, err) != fmt.Sprint(want.Width, want.Height, wantErr) || err == nil && !sameModel(got.ColorModel, want.ColorModel) {
					t.Fatalf("%T, bit %d: %v, %v, want %v, %v", img, bit, got, err, want, wantErr)
				}
			}
		}
	}
}

// sameModel compares by what the models make of a colour: models are functions.
func sameModel(a, b color.Model) bool {
	c := color.NRGBA64{0x1234, 0x5678, 0x9abc, 0x8def}
	return reflect.DeepEqual(a.Convert(c), b.Convert(c))
}
