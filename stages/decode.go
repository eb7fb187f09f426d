package stages

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// DecodeConfig configures a [Decode]. Workers, Memory and Meter do not change
// what comes out.
type DecodeConfig struct {
	Height, Width int             // of the pixels that come out; 0, 0: of the data, whose images must then all be of one size
	Channels      int             // 1 grey, 3 RGB; default 3, which loses nothing of any image
	Filter        Filter          // for images of another size; default CatmullRom
	Mean, Std     []float32       // per channel, both or neither: pixels are (v−Mean)/Std with v in [0, 1]
	MaxPixels     int64           // width × height an image may have; default 64e6
	Memory        int64           // bytes that images being decoded may take together, and the pixels of one batch; default 1 GiB. More is an error
	Workers       int             // default GOMAXPROCS
	Meter         *pipeline.Meter // counts images under "decode"; may be nil

	// KeepBad lets images through that cannot be read or decoded because of
	// their bytes: [Decode.Records] gives them with Err set, [Decode.Images]
	// sets the record's Err and leaves the pixels 0, and Run makes their label
	// Unknown and drops their triplets, after they were added to Bad.
	KeepBad bool
	Bad     *BadRows // required by Run with KeepBad
}

// errDecodeMemory is the cause of a refusal that more memory would lift.
var errDecodeMemory = errors.New("DecodeConfig.Memory")

// Decode turns stored images into pixels: C×H×W float32 in [0, 1] each. It
// reads PNG, JPEG, GIF (the first frame) and WebP, which it tells by their
// first bytes, and raw pixels. What an image says of its size is checked before
// any pixel is decoded, and again after.
//
// Every image is shown as a viewer shows it: turned as its EXIF orientation
// says, transparency over white. Grey is Rec. 601 luma as in
// [image/color.Gray16Model]. The same bytes give the same bits on every machine
// and any number of workers, by the same version of Go and x/image: resizing and
// what follows it round every product, and the decoders work in integers.
//
// Where no size is given it is that of the first image decoded, for the life of
// the Decode. Every failure is a [*pipeline.RowError], panics of a decoder too.
type Decode struct {
	cfg     DecodeConfig
	memory  *budget
	scratch sync.Pool // of *resampler
	shape   atomic.Pointer[pipeline.Shape]
}

// An Image is a decoded sample of the second flow.
type Image struct {
	ID     int64
	Label  int32
	Digest [16]byte          // of the image as it is stored
	Shape  pipeline.Shape    // of Pixels
	Pixels []float32         // C×H×W; the receiver's
	Where  pipeline.Location // for error messages
	Err    error             // why there are no Pixels, with [DecodeConfig.KeepBad]
}

// SampleID implements [pipeline.Sampled].
func (i Image) SampleID() int64 { return i.ID }

// NewDecode checks cfg.
func NewDecode(cfg DecodeConfig) (*Decode, error) {
	cfg.Mean, cfg.Std = slices.Clone(cfg.Mean), slices.Clone(cfg.Std)
	if cfg.Channels == 0 {
		cfg.Channels = 3
	}
	if cfg.MaxPixels == 0 {
		cfg.MaxPixels = 64e6
	}
	if cfg.Memory == 0 {
		cfg.Memory = 1 << 30
	}
	const maxSide = 1 << 14
	switch {
	case cfg.Height < 0 || cfg.Width < 0 || cfg.Height > maxSide || cfg.Width > maxSide || (cfg.Height == 0) != (cfg.Width == 0):
		return nil, fmt.Errorf("stages: DecodeConfig size is %d×%d, want both sides from 1 to %d, or both 0", cfg.Height, cfg.Width, maxSide)
	case cfg.Channels != 1 && cfg.Channels != 3:
		return nil, fmt.Errorf("stages: DecodeConfig.Channels is %d, want 1 or 3", cfg.Channels)
	case int(cfg.Filter) >= len(filterNames):
		return nil, fmt.Errorf("stages: DecodeConfig.Filter is %v, want one of the named ones", cfg.Filter)
	case len(cfg.Mean) != len(cfg.Std) || len(cfg.Mean) != 0 && len(cfg.Mean) != cfg.Channels:
		return nil, fmt.Errorf("stages: DecodeConfig has %d means and %d deviations, want %d of each, or none", len(cfg.Mean), len(cfg.Std), cfg.Channels)
	case cfg.MaxPixels < 1 || cfg.MaxPixels > 1<<40:
		return nil, fmt.Errorf("stages: DecodeConfig.MaxPixels is %d, want 1 to 2^40", cfg.MaxPixels)
	case cfg.Memory < 1:
		return nil, fmt.Errorf("stages: DecodeConfig.Memory is %d, want 1 or more", cfg.Memory)
	}
	for c := range cfg.Mean {
		mean, std := float64(cfg.Mean[c]), float64(cfg.Std[c])
		if math.IsNaN(mean-mean) || math.IsNaN(std-std) || std <= 0 {
			return nil, fmt.Errorf("stages: DecodeConfig.Mean and Std of channel %d are %v and %v, want finite numbers and a positive deviation", c, mean, std)
		}
	}
	d := &Decode{cfg: cfg, memory: newBudget(cfg.Memory)}
	d.scratch.New = func() any { return &resampler{filter: cfg.Filter} }
	if cfg.Height > 0 {
		d.shape.Store(&pipeline.Shape{C: cfg.Channels, H: cfg.Height, W: cfg.Width})
	}
	return d, nil
}

// Shape is that of every image that comes out; zero as long as the size is the
// data's and nothing has been decoded.
func (d *Decode) Shape() pipeline.Shape {
	if s := d.shape.Load(); s != nil {
		return *s
	}
	return pipeline.Shape{}
}

// Fingerprint is a digest of everything that decides what comes out.
func (d *Decode) Fingerprint() string {
	return pipeline.Digest("decode 1", struct {
		Height, Width, Channels int
		Filter                  string
		Mean, Std               []float32
	}{d.cfg.Height, d.cfg.Width, d.cfg.Channels, d.cfg.Filter.String(), d.cfg.Mean, d.cfg.Std})
}

// Run implements [pipeline.Stage]: it fills Shape and Pixels from Records,
// which it drops.
func (d *Decode) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		if len(b.Records) != len(b.IDs) {
			return fmt.Errorf("decode batch %d: it has %d records for %d images: Fetch comes before Decode", b.Number, len(b.Records), len(b.IDs))
		}
		if b.Shape, b.Pixels, err = d.Images(ctx, b.Pixels, b.Records); err != nil {
			return err
		}
		if err := d.leaveOut(b); err != nil {
			return err
		}
		clear(b.Records)
		b.Records = b.Records[:0]
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// leaveOut takes the images that came with an error out of b, in their places.
func (d *Decode) leaveOut(b *pipeline.Batch) error {
	found := false
	for i, rec := range b.Records {
		if rec.Err == nil {
			continue
		}
		if d.cfg.Bad == nil {
			return errors.New("stages: DecodeConfig.Bad is nil, want a list for the bad rows that KeepBad lets through")
		}
		if err := d.cfg.Bad.Add(rec.ID, rec.Where, digestOfBad(rec), rec.Err); err != nil {
			return err
		}
		b.Labels[i], found = pipeline.Unknown, true
	}
	if found {
		out := func(at int32) bool { return b.Records[at].Err != nil }
		b.Triplets = slices.DeleteFunc(b.Triplets, func(t pipeline.Triplet) bool {
			return out(t.Anchor) || out(t.Positive) || t.Negative >= 0 && out(t.Negative)
		})
	}
	return nil
}

// digestOfBad is the digest of a record's image; zero where there are no bytes.
func digestOfBad(rec pipeline.Record) (digest [16]byte) {
	if rec.Image != nil {
		digest = digestOf(rec.Image)
	}
	return digest
}

// Images decodes records to dst, whose memory it uses again, in parallel, and
// returns the shape of one image and the pixels of all: len(records)×C×H×W.
func (d *Decode) Images(ctx context.Context, dst []float32, records []pipeline.Record) (pipeline.Shape, []float32, error) {
	if len(records) == 0 {
		return d.Shape(), dst[:0], nil
	}
	for _, rec := range records {
		d.settle(rec) // the first that says its size
		if !d.cfg.KeepBad {
			break
		}
	}
	size := d.Shape().Len() // 0 when the first record is bad: then there is no pixel to place
	if all := 4 * int64(len(records)) * int64(size); all > d.cfg.Memory {
		return pipeline.Shape{}, dst[:0], fmt.Errorf("%d images of %d×%d come to %d MiB of pixels, and DecodeConfig.Memory is %d MiB: give a smaller size",
			len(records), d.Shape().H, d.Shape().W, all>>20, d.cfg.Memory>>20)
	}
	dst = slices.Grow(dst[:0], len(records)*size)[:len(records)*size]
	err := pipeline.ForEach(ctx, d.cfg.Workers, len(records), func(_ context.Context, i int) error {
		pixels := dst[i*size : (i+1)*size : (i+1)*size]
		err := d.record(pixels, records[i])
		if err != nil && d.cfg.KeepBad && ofBytes(err) {
			clear(pixels)
			records[i].Err, err = err, nil
		}
		return err
	})
	return d.Shape(), dst, err
}

// Records is the stage of the second flow: single records to images, in order.
func (d *Decode) Records() pipeline.Stage[pipeline.Record, Image] { return decodeRecords{d} }

type decodeRecords struct{ d *Decode }

func (s decodeRecords) Run(ctx context.Context, in <-chan pipeline.Record, out chan<- Image) error {
	d := s.d
	cfg := pipeline.MapConfig[pipeline.Record]{
		Workers: d.cfg.Workers,
		Bytes:   d.cfg.Memory,
		Weight: func(rec pipeline.Record) int64 { // called in order, before any worker sees rec
			d.settle(rec)
			return int64(len(rec.Image)) + 4*int64(d.Shape().Len())
		},
	}
	return pipeline.Map(ctx, cfg, in, out, func(_ context.Context, rec pipeline.Record) (Image, error) {
		img := Image{ID: rec.ID, Label: rec.Label, Shape: d.Shape(), Where: rec.Where}
		img.Pixels = make([]float32, img.Shape.Len())
		err := d.record(img.Pixels, rec)
		if err != nil && d.cfg.KeepBad && ofBytes(err) {
			img.Digest, img.Pixels, img.Err = digestOfBad(rec), nil, err
			return img, nil
		}
		img.Digest = digestOf(rec.Image)
		return img, err
	})
}

// settle makes the size of rec that of all images, where none is known yet. A
// record that cannot be read settles nothing; decoding it is the error.
func (d *Decode) settle(rec pipeline.Record) {
	if d.shape.Load() != nil || rec.Err != nil {
		return
	}
	guard("image header", func() error {
		h, err := d.header(rec)
		if err == nil {
			height, width := h.shown()
			d.shape.CompareAndSwap(nil, &pipeline.Shape{C: d.cfg.Channels, H: height, W: width})
		}
		return err
	})
}

// record decodes rec to dst, which is one image.
func (d *Decode) record(dst []float32, rec pipeline.Record) error {
	if rec.Err != nil {
		return rec.Err
	}
	defer d.cfg.Meter.Timer("decode").Add(1, time.Now())
	err := guard("image decoder", func() error { return d.decode(dst, rec) })
	if err == nil {
		return nil
	}
	if p, ok := err.(*pipeline.PanicError); ok {
		p.Samples = []int64{rec.ID}
	}
	where := rec.Where
	if where.Column == "" {
		where.Column = "image"
	}
	return &pipeline.RowError{Location: where, Err: err}
}

func (d *Decode) decode(dst []float32, rec pipeline.Record) error {
	h, err := d.header(rec)
	if err != nil {
		return err
	}
	shape := d.Shape()
	if height, width := h.shown(); d.cfg.Height == 0 && (height != shape.H || width != shape.W) {
		return fmt.Errorf("image is %d×%d (height × width) and others are %d×%d: give a size that all are brought to", height, width, shape.H, shape.W)
	}
	d.memory.acquire(h.bytes)
	defer d.memory.release(h.bytes)
	rows, err := h.decode(rec, shape.C)
	if err != nil {
		return err
	}
	r := d.scratch.Get().(*resampler)
	defer d.scratch.Put(r)
	r.draw(dst, shape, rows, h)
	d.normalise(dst)
	return nil
}

// header is what rec says of itself, checked against the limits.
func (d *Decode) header(rec pipeline.Record) (header, error) {
	h, err := readHeader(rec, d.cfg.MaxPixels)
	if err == nil && h.bytes > d.cfg.Memory {
		err = fmt.Errorf("decoding the %d×%d image takes %d MiB, and %w is %d MiB", h.height, h.width, h.bytes>>20, errDecodeMemory, d.cfg.Memory>>20)
	}
	return h, err
}

// normalise applies Mean and Std.
func (d *Decode) normalise(dst []float32) {
	plane := len(dst) / d.cfg.Channels
	for c, mean := range d.cfg.Mean {
		std := d.cfg.Std[c]
		for i, v := range dst[c*plane : (c+1)*plane] {
			dst[c*plane+i] = (v - mean) / std
		}
	}
}
