package stages

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"strconv"
	"strings"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// Encoding is how prepared images are stored: "keep" as they are (pixels that
// have no format become PNG), "png", "jpeg:90" or "raw". All but keep have 8
// bits a channel. The zero value is keep.
type Encoding struct {
	format  string // "", "png", "jpeg" or "raw"
	quality int    // of JPEG, 1 to 100
}

// ParseEncoding reads the names above; "jpeg" alone is "jpeg:90".
func ParseEncoding(s string) (Encoding, error) {
	switch s {
	case "keep":
		return Encoding{}, nil
	case "png", "raw":
		return Encoding{format: s}, nil
	case "jpeg":
		return Encoding{"jpeg", 90}, nil
	}
	if text, ok := strings.CutPrefix(s, "jpeg:"); ok {
		if q, err := strconv.Atoi(text); err == nil && q >= 1 && q <= 100 {
			return Encoding{"jpeg", q}, nil
		}
		return Encoding{}, fmt.Errorf("quality of %q, want jpeg:1 to jpeg:100", s)
	}
	return Encoding{}, fmt.Errorf("unknown encoding %q, want keep, png, jpeg:QUALITY or raw", s)
}

// String is what [ParseEncoding] reads.
func (e Encoding) String() string {
	switch e.format {
	case "":
		return "keep"
	case "jpeg":
		return "jpeg:" + strconv.Itoa(e.quality)
	}
	return e.format
}

// IsRaw reports whether images are stored as pixels, all of one shape.
func (e Encoding) IsRaw() bool { return e.format == "raw" }

// encode stores pixels of shape s, H×W×C. Raw keeps them.
func (e Encoding) encode(pixels []byte, s pipeline.Shape) ([]byte, error) {
	if e.format == "raw" {
		return pixels, nil
	}
	var img image.Image
	rect := image.Rect(0, 0, s.W, s.H)
	if s.C == 1 {
		img = &image.Gray{Pix: pixels, Stride: s.W, Rect: rect}
	} else {
		rgba := image.NewRGBA(rect)
		for i := range s.H * s.W {
			copy(rgba.Pix[4*i:4*i+3], pixels[3*i:3*i+3])
			rgba.Pix[4*i+3] = 0xff
		}
		img = rgba
	}
	var out bytes.Buffer
	var err error
	if e.format == "jpeg" {
		err = jpeg.Encode(&out, img, &jpeg.Options{Quality: e.quality})
	} else {
		err = pngEncoder.Encode(&out, img)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e, err)
	}
	return out.Bytes(), nil
}

// pngEncoder uses its buffers again.
var pngEncoder = png.Encoder{BufferPool: new(pngBuffers)}

type pngBuffers struct{ pool sync.Pool }

// Get implements [png.EncoderBufferPool].
func (p *pngBuffers) Get() *png.EncoderBuffer {
	b, _ := p.pool.Get().(*png.EncoderBuffer)
	return b
}

// Put implements [png.EncoderBufferPool].
func (p *pngBuffers) Put(b *png.EncoderBuffer) { p.pool.Put(b) }
