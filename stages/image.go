package stages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"github.com/tercet-ml/tercet/pipeline"
	"golang.org/x/image/webp"
)

// A format is one of those this package reads. There are no others: nothing is
// guessed from a name, and no decoder runs because some package registered it.
type format struct {
	name   string
	magic  string // its first bytes; '?' is any byte
	config func(data []byte) (image.Config, error)
	decode func(data []byte) (image.Image, error)
	// facts are what decoding takes per pixel at its peak, in bytes, and the
	// EXIF block, or nil. The sums are rounded up.
	facts func(data []byte, cfg image.Config) (perPixel int64, exif []byte)
	// most is how many pixels so many bytes can hold: decoders take memory for
	// what a header says before they find out that there is no more.
	most func(data []byte, cfg image.Config) int64
}

var formats = []format{
	{"PNG", "\x89PNG\r\n\x1a\n", configPNG, pixels(png.Decode), pngFacts, mostPNG},
	{"JPEG", "\xff\xd8\xff", config(jpeg.DecodeConfig), pixels(jpeg.Decode), jpegFacts, mostJPEG},
	{"GIF", "GIF8?a", config(gif.DecodeConfig), pixels(gif.Decode), gifFacts, mostGIF},
	{"WebP", "RIFF????WEBP", config(webp.DecodeConfig), pixels(decodeWebP), webpFacts, mostWebP},
}

type header struct {
	format        *format // nil for raw pixels
	height, width int     // as stored
	orientation   int     // EXIF: 1 to 8
	bytes         int64   // what decoding takes at its peak
	model         color.Model
}

// shown is the size of the image turned as its orientation says.
func (h header) shown() (height, width int) {
	if h.orientation >= 5 {
		return h.width, h.height
	}
	return h.height, h.width
}

// readHeader tells the format and reads the size, without decoding a pixel or
// allocating by what the image says.
func readHeader(rec pipeline.Record, maxPixels int64) (header, error) {
	if rec.Raw != (pipeline.Raw{}) {
		return rawHeader(rec)
	}
	f := formatOf(rec.Image)
	if f == nil {
		if len(rec.Image) == 0 {
			return header{}, errors.New("image is empty")
		}
		return header{}, fmt.Errorf("image begins with %q: want PNG, JPEG, GIF or WebP", rec.Image[:min(len(rec.Image), 12)])
	}
	cfg, err := f.config(rec.Image)
	if err != nil {
		return header{}, fmt.Errorf("read %s header: %w", f.name, err)
	}
	h, w := int64(cfg.Height), int64(cfg.Width)
	if h < 1 || w < 1 {
		return header{}, fmt.Errorf("%s image is %d×%d", f.name, h, w)
	}
	if h > maxPixels/w {
		return header{}, fmt.Errorf("%s image is %d×%d: more than the %d pixels an image may have (DecodeConfig.MaxPixels)", f.name, h, w, maxPixels)
	}
	if most := f.most(rec.Image, cfg); h > most/w {
		return header{}, fmt.Errorf("%s image says it is %d×%d, more than its %d bytes can hold: cut short or forged", f.name, h, w, len(rec.Image))
	}
	perPixel, exif := f.facts(rec.Image, cfg)
	return header{
		format:      f,
		height:      cfg.Height,
		width:       cfg.Width,
		orientation: orientation(exif),
		bytes:       perPixel * (h + 32) * (w + 32), // JPEG and WebP work in blocks of up to 32
		model:       cfg.ColorModel,
	}, nil
}

// formatOf is the format whose magic data begins with; nil for none.
func formatOf(data []byte) *format {
	for i := range formats {
		if matches(data, formats[i].magic) {
			return &formats[i]
		}
	}
	return nil
}

func matches(data []byte, magic string) bool {
	if len(data) < len(magic) {
		return false
	}
	for i := range len(magic) {
		if magic[i] != '?' && data[i] != magic[i] {
			return false
		}
	}
	return true
}

// FormatOf names the format of an encoded image by its first bytes: "PNG",
// "JPEG", "GIF" or "WebP"; "" for anything else, which cannot be decoded.
func FormatOf(image []byte) string {
	if f := formatOf(image); f != nil {
		return f.name
	}
	return ""
}

// decode decodes the image that h was read from to rows of C planes.
func (h header) decode(rec pipeline.Record, channels int) (rows, error) {
	if h.format == nil {
		return rawRows(rec, channels)
	}
	img, err := h.image(rec)
	if err != nil {
		return nil, err
	}
	return rowsOf(img, channels), nil
}

// image decodes the encoded image that h was read from.
func (h header) image(rec pipeline.Record) (image.Image, error) {
	img, err := h.format.decode(rec.Image)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", h.format.name, err)
	}
	whole := image.Rect(0, 0, h.width, h.height)
	if frame := img.Bounds(); frame != whole {
		if h.format.name != "GIF" || !frame.In(whole) {
			return nil, fmt.Errorf("decode %s: its header says %d×%d, and it is %d×%d", h.format.name, h.height, h.width, frame.Dy(), frame.Dx())
		}
		canvas := image.NewNRGBA(whole) // a first frame may leave parts of the screen empty
		draw.Draw(canvas, frame, img, frame.Min, draw.Src)
		img = canvas
	}
	return img, nil
}

func config(f func(io.Reader) (image.Config, error)) func([]byte) (image.Config, error) {
	return func(data []byte) (image.Config, error) { return f(bytes.NewReader(data)) }
}

// configPNG is [png.DecodeConfig], which takes longer than reading all else of a
// small image's header. The commonest whole headers are read here: 8 bits a
// sample, no palette, not interlaced.
func configPNG(data []byte) (image.Config, error) {
	if len(data) >= 33 && string(data[8:16]) == "\x00\x00\x00\x0dIHDR" && data[24] == 8 && string(data[26:29]) == "\x00\x00\x00" &&
		crc32.ChecksumIEEE(data[12:29]) == binary.BigEndian.Uint32(data[29:]) {
		var model color.Model
		switch data[25] {
		case 0:
			model = color.GrayModel
		case 2:
			model = color.RGBAModel
		case 6:
			model = color.NRGBAModel
		}
		w, h := binary.BigEndian.Uint32(data[16:]), binary.BigEndian.Uint32(data[20:])
		if model != nil && w-1 < 1<<24 && h-1 < 1<<24 { // others, 0 among them, are for the decoder to judge
			return image.Config{ColorModel: model, Width: int(w), Height: int(h)}, nil
		}
	}
	return png.DecodeConfig(bytes.NewReader(data))
}

func pixels(f func(io.Reader) (image.Image, error)) func([]byte) (image.Image, error) {
	return func(data []byte) (image.Image, error) { return f(bytes.NewReader(data)) }
}

// decodeWebP is [webp.Decode] with the colours of lossy images put right.
func decodeWebP(r io.Reader) (image.Image, error) {
	img, err := webp.Decode(r)
	switch m := img.(type) {
	case *image.YCbCr:
		return video{&image.NYCbCrA{YCbCr: *m}}, err
	case *image.NYCbCrA:
		return video{m}, err
	}
	return img, err
}

func pngFacts(data []byte, cfg image.Config) (int64, []byte) {
	perPixel := int64(8)
	switch m := cfg.ColorModel; m.(type) {
	case color.Palette:
		perPixel = 1
	default:
		switch m {
		case color.GrayModel:
			perPixel = 1
		case color.Gray16Model:
			perPixel = 2
		case color.RGBAModel, color.NRGBAModel:
			perPixel = 4
		}
	}
	if len(data) > 28 && data[28] != 0 {
		perPixel *= 2 // interlaced: the passes are images of their own
	}
	return perPixel, pngEXIF(data)
}

func jpegFacts(data []byte, cfg image.Config) (int64, []byte) {
	planes := int64(3)
	switch cfg.ColorModel {
	case color.GrayModel:
		planes = 1
	case color.CMYKModel:
		planes = 4
	}
	perPixel := planes
	if planes > 1 {
		perPixel += 4 // for a copy, where the planes are not YCbCr
	}
	progressive, exif := jpegSegments(data)
	if progressive {
		perPixel += 4 * planes // all coefficients are kept until the last scan
	}
	return perPixel, exif
}

func gifFacts([]byte, image.Config) (int64, []byte) { return 1 + 4, nil } // frame and canvas

func webpFacts(data []byte, _ image.Config) (int64, []byte) { return 12, webpEXIF(data) }

// samplesPNG is how many samples a pixel has, by colour type.
var samplesPNG = [256]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

// mostPNG: deflate makes at most 1,032 bytes of one.
func mostPNG(data []byte, _ image.Config) int64 {
	bits := int64(8)
	if len(data) > 25 {
		bits = int64(data[24]) * samplesPNG[data[25]]
	}
	return (1032*8*int64(len(data)) + 1<<16) / max(bits, 1)
}

// mostJPEG: every block of 8×8 takes a bit of the first scan at least.
func mostJPEG(data []byte, _ image.Config) int64 { return 8 * 64 * (int64(len(data)) + 64) }

// mostGIF: a code of LZW, of up to 12 bits, stands for at most 4,096 pixels.
func mostGIF(data []byte, _ image.Config) int64 { return 4096 * int64(len(data)) }

// mostWebP: an image of one colour takes no bits at all, so this is no limit of
// the format. One so plain that has more pixels teaches nothing.
func mostWebP(data []byte, _ image.Config) int64 { return 1<<16 + 4096*int64(len(data)) }
