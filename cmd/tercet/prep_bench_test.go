package main

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// images are n pictures with a drawn edge each, encoded.
func images(side, channels, n int) (all [][]byte) {
	for i := range n {
		var b bytes.Buffer
		if channels == 1 {
			img := image.NewGray(image.Rect(0, 0, side, side))
			for k := range img.Pix {
				if k%side > i%side {
					img.Pix[k] = byte(k * i)
				}
			}
			png.Encode(&b, img)
		} else {
			img := image.NewRGBA(image.Rect(0, 0, side, side))
			for k := range img.Pix {
				img.Pix[k] = byte(k * (i + k/side) / 9)
			}
			jpeg.Encode(&b, img, nil)
		}
		all = append(all, b.Bytes())
	}
	return all
}

// prepared is a prepared folder of these images.
func prepared(b *testing.B, all [][]byte, flags ...string) string {
	b.Helper()
	var text bytes.Buffer
	w, err := storage.NewRecordWriter(&text, storage.RecordWriterConfig{})
	if err != nil {
		b.Fatal(err)
	}
	for i, img := range all {
		row := storage.Row{}
		row.Label, row.Image = int32(i%10), img
		if err := w.Write(row); err != nil {
			b.Fatal(err)
		}
	}
	in := filepath.Join(b.TempDir(), "in.parquet")
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(in, text.Bytes(), 0o666); err != nil {
		b.Fatal(err)
	}
	out := filepath.Join(b.TempDir(), "set")
	var stdout, stderr bytes.Buffer
	if code := run(append([]string{"prep", in, "-o", out}, flags...), &stdout, &stderr); code != exitDone {
		b.Fatal(stderr.String())
	}
	return out
}

// cpu is the processor time that the process has taken: other than the time on
// the wall, it does not depend on who else is there.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEpoch goes once through a prepared data set, to pixels, by the time
// of one core. bare-images/s is the speed of a loop that does what any trainer
// has to, and nothing else: see [bareEpoch]. x-bare is ours as a share of it.
// Raw pixels are compared with decoding the encoded images they come from.
func BenchmarkEpoch(b *testing.B) {
	pngs, jpegs := images(28, 1, 4000), images(128, 3, 600)
	for _, bb := range []struct {
		name     string
		all      [][]byte
		channels int
		flags    []string
	}{
		{"png=28", pngs, 1, nil}, {"png=28/raw", pngs, 1, []string{"--encode", "raw"}},
		{"jpeg=128", jpegs, 3, nil}, {"jpeg=128/raw", jpegs, 3, []string{"--encode", "raw"}},
		{"jpeg=128/raw.arrow", jpegs, 3, []string{"--encode", "raw", "--format", "arrow"}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			dir, loose := prepared(b, bb.all, bb.flags...), filepath.Join(b.TempDir(), "images")
			if err := os.WriteFile(loose, bytes.Join(bb.all, nil), 0o666); err != nil {
				b.Fatal(err)
			}
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			var ours, bare time.Duration
			for b.Loop() {
				start := cpu()
				epoch(b, dir, bb.channels, len(bb.all))
				ours += cpu() - start
				start = cpu()
				bareEpoch(b, loose, bb.all, bb.channels)
				bare += cpu() - start
			}
			b.ReportMetric(float64(b.N*len(bb.all))/ours.Seconds(), "images/s")
			b.ReportMetric(float64(b.N*len(bb.all))/bare.Seconds(), "bare-images/s")
			b.ReportMetric(bare.Seconds()/ours.Seconds(), "x-bare")
		})
	}
}

func epoch(b *testing.B, dir string, channels, n int) {
	set, err := storage.Open(b.Context(), storage.Config{Paths: []string{dir}, Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	decode, err := stages.NewDecode(stages.DecodeConfig{Channels: channels, Workers: 1})
	if err != nil {
		b.Fatal(err)
	}
	for _, err := range pipeline.Via(pipeline.From[pipeline.Record](set).Prefetch(64), decode.Records()).All(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
		n--
	}
	if n != 0 {
		b.Fatalf("%d images are missing", n)
	}
}

// bareEpoch reads the bytes of every image from one open file of nothing else,
// decodes them, and writes its pixels as C×H×W float32 in [0, 1].
func bareEpoch(b *testing.B, file string, all [][]byte, channels int) {
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, encoded := range all {
		data := make([]byte, len(encoded))
		if _, err := io.ReadFull(f, data); err != nil {
			b.Fatal(err)
		}
		img, _, err := image.Decode(bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		w, h := img.Bounds().Dx(), img.Bounds().Dy()
		plane := w * h
		pixels := make([]float32, channels*plane)
		switch m := img.(type) {
		case *image.Gray:
			for y := range h {
				for x, v := range m.Pix[y*m.Stride:][:w] {
					pixels[y*w+x] = float32(v) / 255
				}
			}
		case *image.YCbCr:
			for y := range h {
				for x := range w {
					c := m.COffset(x, y)
					red, green, blue := color.YCbCrToRGB(m.Y[m.YOffset(x, y)], m.Cb[c], m.Cr[c])
					pixels[y*w+x] = float32(red) / 255
					pixels[plane+y*w+x] = float32(green) / 255
					pixels[2*plane+y*w+x] = float32(blue) / 255
				}
			}
		default:
			b.Fatalf("image is a %T", img)
		}
	}
}
