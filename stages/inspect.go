package stages

import (
	"image/color"

	"github.com/tercet-ml/tercet/pipeline"
)

// An ImageInfo is what an image says of itself.
type ImageInfo struct {
	Format         string // "PNG", "JPEG", "GIF", "WebP", or "raw" for pixels without a format
	pipeline.Shape        // turned as its EXIF orientation says; C is 1 for an image without colours, else 3
}

// Inspect reads the header of an image, without decoding a pixel. An error is a
// [*pipeline.RowError].
func Inspect(rec pipeline.Record) (ImageInfo, error) {
	const most = 1 << 40 // a size is only reported here; decoding has a limit of its own
	h, err := readHeader(rec, most)
	if err != nil {
		return ImageInfo{}, &pipeline.RowError{Location: rec.Where, Err: err}
	}
	info := ImageInfo{Format: "raw", Shape: pipeline.Shape{C: rec.Raw.C}}
	info.H, info.W = h.shown()
	if h.format != nil {
		info.Format, info.C = h.format.name, 3
		if cfg, err := h.format.config(rec.Image); err == nil && colourless(cfg.ColorModel) {
			info.C = 1
		}
	}
	return info, nil
}

// colourless reports whether a colour model has nothing but greys.
func colourless(m color.Model) bool {
	if p, ok := m.(color.Palette); ok {
		for _, c := range p {
			if r, g, b, a := c.RGBA(); r != g || g != b || a != 0xffff {
				return false
			}
		}
		return len(p) > 0
	}
	return m == color.GrayModel || m == color.Gray16Model
}
