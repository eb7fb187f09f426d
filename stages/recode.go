package stages

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// RecodeConfig configures a [Recode]. MaxPixels, Memory, Workers and Meter do
// not change what comes out.
type RecodeConfig struct {
	Encoding      Encoding
	Height, Width int    // that images are brought to; 0, 0: their own
	Channels      int    // 1 grey, 3 RGB; 0: grey for images without colours, else RGB
	Filter        Filter // as in [DecodeConfig]
	MaxPixels     int64  // as in [DecodeConfig]
	Memory        int64  // bytes that images at work may take together; default 1 GiB
	Workers       int    // default GOMAXPROCS
	Meter         *pipeline.Meter
	KeepBad       bool // images that cannot be prepared because of their bytes come out with Err set, and without Image
}

// errRecodeMemory is the cause of a refusal that more memory would lift.
var errRecodeMemory = errors.New("RecodeConfig.Memory")

// Recode prepares images for storage: it decodes each, whatever comes out of
// it, so that none that cannot be decoded gets into a prepared data set, sums up
// its pixels, and stores it in another size or encoding where that is wanted.
// Kept images keep their bytes; the others are upright, over white.
//
// Pictures have equal digests where they decode to equal pixels, however they
// were compressed: of a JPEG in colours that is luma and chroma, so it equals no
// picture that is stored in RGB.
type Recode struct {
	cfg     RecodeConfig
	memory  *budget
	scratch sync.Pool // of *recoder
	raw     atomic.Pointer[pipeline.Shape]
}

// A Recoded is an image as it will be stored.
type Recoded struct {
	pipeline.Record           // with the Image, and Raw where that is pixels
	Info            ImageInfo // of what is stored
	Pixels          [16]byte  // digest of the pixels that the source decodes to: see [Recode]; with Err, of the stored image
}

// NewRecode checks cfg.
func NewRecode(cfg RecodeConfig) (*Recode, error) {
	if cfg.MaxPixels == 0 {
		cfg.MaxPixels = 64e6
	}
	if cfg.Memory == 0 {
		cfg.Memory = 1 << 30
	}
	// The limits are those of a Decode.
	_, err := NewDecode(DecodeConfig{Height: cfg.Height, Width: cfg.Width, Channels: cfg.Channels, Filter: cfg.Filter, MaxPixels: cfg.MaxPixels, Memory: cfg.Memory})
	if err != nil {
		return nil, err
	}
	if cfg.Encoding.format == "" && (cfg.Height > 0 || cfg.Channels > 0) {
		return nil, errors.New("stages: RecodeConfig keeps images as they are and gives them another size or other channels: choose an Encoding")
	}
	r := &Recode{cfg: cfg, memory: newBudget(cfg.Memory)}
	r.scratch.New = func() any { return &recoder{resampler: resampler{filter: cfg.Filter}} }
	return r, nil
}

// Run implements [pipeline.Stage]: images in order, several at a time.
func (r *Recode) Run(ctx context.Context, in <-chan pipeline.Record, out chan<- Recoded) error {
	cfg := pipeline.MapConfig[pipeline.Record]{
		Workers: r.cfg.Workers,
		Bytes:   r.cfg.Memory,
		Weight: func(rec pipeline.Record) int64 { // called in order, before any worker sees rec
			r.settle(rec)
			return 2*int64(len(rec.Image)) + 512
		},
	}
	return pipeline.Map(ctx, cfg, in, out, func(_ context.Context, rec pipeline.Record) (Recoded, error) {
		img, err := r.Record(rec)
		if err != nil && r.cfg.KeepBad && ofBytes(err) {
			img = Recoded{Record: rec, Pixels: digestOfBad(rec)}
			img.Image, img.Err = nil, err
			return img, nil
		}
		return img, err
	})
}

// Settle makes the size of rec that of all raw images, where none was given and
// none is known yet.
func (r *Recode) settle(rec pipeline.Record) {
	if !r.cfg.Encoding.IsRaw() || r.raw.Load() != nil || rec.Err != nil {
		return
	}
	guard("image header", func() error {
		h, err := readHeader(rec, r.cfg.MaxPixels)
		if err == nil {
			s := r.target(h, rec)
			r.raw.CompareAndSwap(nil, &s)
		}
		return err
	})
}

// Raw describes the pixels of raw images; zero before the first one.
func (r *Recode) Raw() pipeline.Raw {
	if s := r.raw.Load(); s != nil {
		return pipeline.Raw{Shape: *s, Interleaved: s.C > 1}
	}
	return pipeline.Raw{}
}

// Resume makes s the shape of raw images, as an earlier run found it.
func (r *Recode) Resume(s pipeline.Shape) { r.raw.Store(&s) }

// target is the shape that an image is stored in.
func (r *Recode) target(h header, rec pipeline.Record) pipeline.Shape {
	s := pipeline.Shape{C: h.channels(rec), H: r.cfg.Height, W: r.cfg.Width}
	if r.cfg.Channels > 0 {
		s.C = r.cfg.Channels
	}
	if s.H == 0 {
		s.H, s.W = h.shown()
	}
	return s
}

// channels is 1 for an image without colours, else 3.
func (h header) channels(rec pipeline.Record) int {
	switch {
	case h.format == nil:
		return rec.Raw.C
	case colourless(h.model):
		return 1
	}
	return 3
}

// Record prepares one image. The error is a [*pipeline.RowError].
func (r *Recode) Record(rec pipeline.Record) (out Recoded, err error) {
	if rec.Err != nil {
		return Recoded{}, rec.Err
	}
	defer r.cfg.Meter.Timer("decode").Add(1, time.Now())
	err = guard("image decoder", func() error {
		out, err = r.recode(rec)
		return err
	})
	if err != nil {
		where := rec.Where
		if where.Column == "" && where.RowGroup >= 0 {
			where.Column = "image"
		}
		return Recoded{}, &pipeline.RowError{Location: where, Err: err}
	}
	return out, nil
}

func (r *Recode) recode(rec pipeline.Record) (Recoded, error) {
	h, err := readHeader(rec, r.cfg.MaxPixels)
	if err != nil {
		return Recoded{}, err
	}
	to := r.target(h, rec)
	if raw := r.raw.Load(); raw != nil && to != *raw {
		if to.C > raw.C || to.H != raw.H || to.W != raw.W { // grey fits into colours
			return Recoded{}, fmt.Errorf("image is %d×%d×%d (height × width × channels) and others are %d×%d×%d: give a size that all are brought to", to.H, to.W, to.C, raw.H, raw.W, raw.C)
		}
		to = *raw
	}
	full := pipeline.Shape{C: h.channels(rec)}
	full.H, full.W = h.shown()
	need := h.bytes + 5*int64(full.Len()) + 9*int64(to.Len())
	if need > r.cfg.Memory {
		return Recoded{}, fmt.Errorf("decoding the %d×%d image takes %d MiB, and %w is %d MiB", h.height, h.width, need>>20, errRecodeMemory, r.cfg.Memory>>20)
	}
	r.memory.acquire(need)
	defer r.memory.release(need)
	w := r.scratch.Get().(*recoder)
	defer r.scratch.Put(w)
	var img image.Image // nil for raw pixels
	if h.format != nil {
		if img, err = h.image(rec); err != nil {
			return Recoded{}, err
		}
	}
	out := Recoded{Record: rec}
	if planes, ok := img.(*image.YCbCr); ok {
		out.Pixels = w.planes(planes, h.orientation)
	} else {
		if err := w.show(full, img, rec, h); err != nil {
			return Recoded{}, err
		}
		out.Pixels = w.digest(full, h.deep(rec))
	}
	switch {
	case r.cfg.Encoding.format != "":
	case h.format != nil:
		out.Info = ImageInfo{Format: h.format.name, Shape: full}
		return out, nil
	case rec.Raw.Float:
		return Recoded{}, errors.New("pixels of 32 bits cannot be kept in an image format: choose an encoding of 8 bits (png, jpeg or raw)")
	}
	if err := w.show(to, img, rec, h); err != nil {
		return Recoded{}, err
	}
	pixels := w.bytes
	if r.cfg.Encoding.IsRaw() {
		pixels = slices.Clone(pixels)
	}
	if out.Image, err = r.cfg.Encoding.encode(pixels, to); err != nil {
		return Recoded{}, err
	}
	out.Raw = pipeline.Raw{}
	out.Info = ImageInfo{Format: "raw", Shape: to}
	if r.cfg.Encoding.IsRaw() {
		out.Raw = pipeline.Raw{Shape: to, Interleaved: to.C > 1}
	} else {
		out.Info.Format = FormatOf(out.Image)
	}
	return out, nil
}

// deep reports whether an image has more than 8 bits a channel.
func (h header) deep(rec pipeline.Record) bool {
	return rec.Raw.Float || h.model == color.Gray16Model || h.model == color.RGBA64Model || h.model == color.NRGBA64Model
}
