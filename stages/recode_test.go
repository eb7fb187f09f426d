package stages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func newRecode(tb testing.TB, cfg RecodeConfig, encoding string) *Recode {
	tb.Helper()
	var err error
	if cfg.Encoding, err = ParseEncoding(encoding); err != nil {
		tb.Fatal(err)
	}
	r, err := NewRecode(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func recoded(tb testing.TB, r *Recode, rec pipeline.Record) Recoded {
	tb.Helper()
	r.settle(rec)
	out, err := r.Record(rec)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// bytesOf are the pixels of a record, as a Decode shows them, rounded to 8 bits.
func bytesOf(tb testing.TB, rec pipeline.Record, channels int) []byte {
	tb.Helper()
	d, err := NewDecode(DecodeConfig{Channels: channels})
	if err != nil {
		tb.Fatal(err)
	}
	_, values, err := d.Images(tb.Context(), nil, []pipeline.Record{rec})
	if err != nil {
		tb.Fatal(err)
	}
	b := make([]byte, len(values))
	for i, v := range values {
		b[i] = byte(math.Round(float64(v) * 255))
	}
	return b
}

func TestEncodingNames(t *testing.T) {
	for _, name := range []string{"keep", "png", "jpeg:1", "jpeg:90", "jpeg:100", "raw"} {
		if e, err := ParseEncoding(name); err != nil || e.String() != name || e.IsRaw() != (name == "raw") {
			t.Errorf("%s is read as %v, %v", name, e, err)
		}
	}
	if e, err := ParseEncoding("jpeg"); err != nil || e.String() != "jpeg:90" {
		t.Errorf("jpeg is %v, %v", e, err)
	}
	for _, name := range []string{"", "webp", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:x", "PNG"} {
		if e, err := ParseEncoding(name); err == nil {
			t.Errorf("%q is read as %v", name, e)
		}
	}
}

// What is stored shows what the source shows, to the bit where nothing of it is
// lost, and says what it is.
func TestRecode(t *testing.T) {
	grey := greyPicture(13)
	colours := picture(9, 14) // with transparency
	turned := withEXIF(encodeJPEG(grey), exifOf(6, binary.LittleEndian, "II*\x00"))
	raw := pipeline.Record{Image: slices.Clone(grey.Pix), Raw: pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 13, W: 13}}}
	for _, tt := range []struct {
		name   string
		rec    pipeline.Record
		shape  pipeline.Shape
		exact  bool // 8 bits a channel hold it
		format string
	}{
		{"grey PNG", pipeline.Record{Image: encodePNG(grey)}, pipeline.Shape{C: 1, H: 13, W: 13}, true, "PNG"},
		{"PNG over white", pipeline.Record{Image: encodePNG(colours)}, pipeline.Shape{C: 3, H: 14, W: 9}, true, "PNG"},
		{"grey JPEG, turned", pipeline.Record{Image: turned}, pipeline.Shape{C: 1, H: 13, W: 13}, true, "JPEG"},
		{"JPEG", pipeline.Record{Image: encodeJPEG(colours)}, pipeline.Shape{C: 3, H: 14, W: 9}, true, "JPEG"},
		{"raw", raw, pipeline.Shape{C: 1, H: 13, W: 13}, true, "PNG"},
	} {
		tt.rec.ID, tt.rec.Label, tt.rec.Path = 7, 3, "p"
		want := bytesOf(t, tt.rec, tt.shape.C)
		for _, encoding := range []string{"keep", "png", "raw", "jpeg:95"} {
			out := recoded(t, newRecode(t, RecodeConfig{}, encoding), tt.rec)
			if out.ID != 7 || out.Label != 3 || out.Path != "p" || out.Info.Shape != tt.shape {
				t.Errorf("%s as %s: %+v", tt.name, encoding, out.Info)
			}
			format := map[string]string{"keep": tt.format, "png": "PNG", "raw": "raw", "jpeg:95": "JPEG"}[encoding]
			if out.Info.Format != format || encoding != "raw" && FormatOf(out.Image) != format {
				t.Errorf("%s as %s is %s", tt.name, encoding, out.Info.Format)
			}
			if encoding == "keep" && tt.rec.Raw == (pipeline.Raw{}) && !bytes.Equal(out.Image, tt.rec.Image) {
				t.Errorf("%s is not kept", tt.name)
			}
			got := bytesOf(t, out.Record, tt.shape.C)
			sum := 0
			for i := range want {
				sum += max(int(got[i])-int(want[i]), int(want[i])-int(got[i]))
			}
			if mean := float64(sum) / float64(len(want)); encoding != "jpeg:95" && mean > 0 || mean > 20 {
				t.Errorf("%s as %s: pixels differ by %.1f", tt.name, encoding, mean)
			}
		}
	}
}

// Resizing is that of a Decode.
func TestRecodeSize(t *testing.T) {
	rec := pipeline.Record{Image: encodePNG(picture(40, 30))}
	for _, channels := range []int{1, 3} {
		d, err := NewDecode(DecodeConfig{Height: 10, Width: 12, Channels: channels, Filter: BiLinear})
		if err != nil {
			t.Fatal(err)
		}
		_, want, err := d.Images(t.Context(), nil, []pipeline.Record{rec})
		if err != nil {
			t.Fatal(err)
		}
		for _, encoding := range []string{"png", "raw"} {
			out := recoded(t, newRecode(t, RecodeConfig{Height: 10, Width: 12, Channels: channels, Filter: BiLinear}, encoding), rec)
			got := bytesOf(t, out.Record, channels)
			for i, v := range want {
				if math.Abs(float64(got[i])-255*float64(v)) > 0.501 {
					t.Fatalf("%d channels as %s: value %d is %d, want %v", channels, encoding, i, got[i], 255*v)
				}
			}
		}
	}
}

// Equal pictures have equal digests, whatever they are stored as; others have not.
func TestRecodePixels(t *testing.T) {
	grey := greyPicture(12)
	inColours := image.NewNRGBA(grey.Rect)
	for i, v := range grey.Pix {
		inColours.SetNRGBA(i%12, i/12, color.NRGBA{v, v, v, 255})
	}
	other := image.NewGray(grey.Rect)
	copy(other.Pix, grey.Pix)
	other.Pix[100] ^= 1
	deep := image.NewGray16(grey.Rect)
	deepOther := image.NewGray16(grey.Rect)
	for i, v := range grey.Pix {
		deep.Pix[2*i], deep.Pix[2*i+1] = v, v
		deepOther.Pix[2*i], deepOther.Pix[2*i+1] = v, v
	}
	deepOther.Pix[1] ^= 1 // which 8 bits do not hold
	wide := &image.Gray{Pix: grey.Pix, Stride: 24, Rect: image.Rect(0, 0, 24, 6)}
	r := newRecode(t, RecodeConfig{}, "keep")
	sum := func(rec pipeline.Record) [16]byte { return recoded(t, r, rec).Pixels }
	want := sum(pipeline.Record{Image: encodePNG(grey)})
	for name, rec := range map[string]pipeline.Record{
		"raw":        {Image: grey.Pix, Raw: pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 12, W: 12}}},
		"in colours": {Image: encodePNG(inColours)},
		"other compression": {Image: func() []byte {
			var b bytes.Buffer
			(&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, grey)
			return b.Bytes()
		}()},
	} {
		if got := sum(rec); got != want {
			t.Errorf("%s: digest %x, want %x", name, got, want)
		}
	}
	for name, img := range map[string]image.Image{"another pixel": other, "another shape": wide} {
		if got := sum(pipeline.Record{Image: encodePNG(img)}); got == want {
			t.Errorf("%s: the same digest", name)
		}
	}
	jpg := encodeJPEG(picture(12, 12))
	inJPEG := sum(pipeline.Record{Image: jpg})
	if sum(pipeline.Record{Image: withEXIF(jpg, exifOf(1, binary.LittleEndian, "II*\x00"))}) != inJPEG {
		t.Error("JPEG: another digest with EXIF that turns nothing")
	}
	if sum(pipeline.Record{Image: withEXIF(jpg, exifOf(2, binary.LittleEndian, "II*\x00"))}) == inJPEG {
		t.Error("JPEG: the same digest turned")
	}
	if sum(pipeline.Record{Image: encodePNG(deep)}) == sum(pipeline.Record{Image: encodePNG(deepOther)}) {
		t.Error("16 bits: the last bit of a pixel is not in the digest")
	}
}

func TestRecodeErrors(t *testing.T) {
	float := pipeline.Record{Image: floats(0.1, 0.2, 0.3, 0.4), Raw: pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 2, W: 2}, Float: true}}
	good := pipeline.Record{Image: encodePNG(greyPicture(8))}
	cut := pipeline.Record{Image: good.Image[:len(good.Image)-20]}
	for _, tt := range []struct {
		name     string
		encoding string
		cfg      RecodeConfig
		recs     []pipeline.Record
		want     string
	}{
		{"not decodable", "keep", RecodeConfig{}, []pipeline.Record{cut}, "decode PNG"},
		{"no image", "keep", RecodeConfig{}, []pipeline.Record{{Image: []byte("text")}}, "want PNG"},
		{"floats kept", "keep", RecodeConfig{}, []pipeline.Record{float}, "choose an encoding"},
		{"raw of two sizes", "raw", RecodeConfig{}, []pipeline.Record{good, {Image: encodePNG(greyPicture(9))}}, "give a size"},
		{"raw, colours after grey", "raw", RecodeConfig{}, []pipeline.Record{good, {Image: encodePNG(picture(8, 8))}}, "give a size"},
		{"too many pixels", "png", RecodeConfig{MaxPixels: 60}, []pipeline.Record{good}, "MaxPixels"},
		{"too much memory", "png", RecodeConfig{Memory: 1000}, []pipeline.Record{good}, "Memory"},
	} {
		r := newRecode(t, tt.cfg, tt.encoding)
		var last error
		for i := range tt.recs {
			tt.recs[i].Where = pipeline.Location{File: "f", RowGroup: 1, Row: 2}
		}
		n := 0
		for _, err := range pipeline.Via(pipeline.From(pipeline.Slice(tt.recs)), pipeline.Stage[pipeline.Record, Recoded](r)).All(t.Context()) {
			if last = err; err == nil {
				n++
			}
		}
		if last == nil || !strings.Contains(last.Error(), tt.want) || n != len(tt.recs)-1 {
			t.Errorf("%s: %v after %d images, want %q", tt.name, last, n, tt.want)
		}
		if _, ok := errors.AsType[*pipeline.RowError](last); !ok {
			t.Errorf("%s: %v is no RowError", tt.name, last)
		}
	}
	if _, err := NewRecode(RecodeConfig{Height: 8, Width: 8}); err == nil {
		t.Error("kept in another size")
	}
	if _, err := NewRecode(RecodeConfig{Encoding: Encoding{format: "png"}, Channels: 2}); err == nil {
		t.Error("two channels")
	}
	// Grey fits into colours.
	r := newRecode(t, RecodeConfig{}, "raw")
	recoded(t, r, pipeline.Record{Image: encodePNG(picture(8, 8))})
	if out := recoded(t, r, good); out.Raw != r.Raw() || out.Raw.C != 3 || len(out.Image) != 3*64 {
		t.Errorf("grey among colours is %+v", out.Raw)
	}
}

// The same images come out in order for any number of workers.
func TestRecodeWorkers(t *testing.T) {
	recs := records(40)
	var want []Recoded
	for _, workers := range []int{1, 2, 7} {
		r := newRecode(t, RecodeConfig{Workers: workers, Memory: 1 << 20}, "png")
		var got []Recoded
		for out, err := range pipeline.Via(pipeline.From(pipeline.Slice(recs)), pipeline.Stage[pipeline.Record, Recoded](r)).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out)
		}
		if want == nil {
			want = got
		}
		for i := range want {
			if len(got) != len(recs) || got[i].ID != want[i].ID || !bytes.Equal(got[i].Image, want[i].Image) || got[i].Pixels != want[i].Pixels {
				t.Fatalf("%d workers: image %d of %d differs", workers, i, len(got))
			}
		}
	}
}

// BenchmarkRecode compares preparing an image with reading its bytes and
// decoding them, which is what P3 is measured against.
func BenchmarkRecode(b *testing.B) {
	grey, jpg := encodePNG(greyPicture(28)), encodeJPEG(picture(100, 100))
	for _, bb := range []struct {
		name, encoding string
		data           []byte
	}{{"png=28", "keep", grey}, {"png=28", "png", grey}, {"png=28", "raw", grey}, {"jpeg=100", "keep", jpg}, {"jpeg=100", "jpeg:90", jpg}, {"jpeg=100", "raw", jpg}} {
		b.Run(bb.name+"/"+bb.encoding, func(b *testing.B) {
			r := newRecode(b, RecodeConfig{}, bb.encoding)
			rec := pipeline.Record{Image: bb.data}
			r.settle(rec)
			for b.Loop() {
				if _, err := r.Record(rec); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
	for name, data := range map[string][]byte{"png=28": grey, "jpeg=100": jpg} {
		b.Run(name+"/bare-decode", func(b *testing.B) {
			decode := png.Decode
			if name == "jpeg=100" {
				decode = jpeg.Decode
			}
			for b.Loop() {
				if _, err := decode(bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
