package storage

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"image"
	_ "image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

const shared = "../../shared/data/"

// sharedData opens one of the data sets beside the project, or skips.
func sharedData(tb testing.TB, name string, cfg Config) *Dataset {
	tb.Helper()
	cfg.Paths = []string{shared + name + "/parquet"}
	if _, err := os.Stat(cfg.Paths[0]); err != nil {
		tb.Skipf("%s is not here: %v", cfg.Paths[0], err)
	}
	return open(tb, cfg)
}

// The same images and labels come as IDX files, which share no code with Parquet.
func TestMNISTAgainstIDX(t *testing.T) {
	d := sharedData(t, "mnist-t10k", Config{})
	idx := func(name string, header int) []byte {
		f, err := os.Open(shared + "mnist-t10k/idx/" + name)
		if err != nil {
			t.Skip(err)
		}
		defer f.Close()
		r, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return b[header:]
	}
	images, labels := idx("t10k-images-idx3-ubyte.gz", 16), idx("t10k-labels-idx1-ubyte.gz", 8)
	recs := all(t, d)
	if len(recs) != 10000 || d.Len() != 10000 || len(d.Classes()) != 10 {
		t.Fatalf("%d records of %v", len(recs), d.Classes())
	}
	for i, r := range recs {
		img, err := png.Decode(bytes.NewReader(r.Image))
		if err != nil {
			t.Fatalf("%v: %v", r.Where, err)
		}
		grey, ok := img.(*image.Gray)
		if !ok || !bytes.Equal(grey.Pix, images[784*i:784*(i+1)]) || r.Label != int32(labels[i]) || r.ID != int64(i) {
			t.Fatalf("%v: label %d, pixels differ from the IDX file", r.Where, r.Label)
		}
	}
}

func TestSharedData(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		rows, classes, shards int
	}{{"omniglot-small1", 2720, 136, 2}, {"sign-digits", 2062, 10, 4}} {
		d := sharedData(t, tt.name, Config{})
		if d.Len() != tt.rows || len(d.Classes()) != tt.classes || len(d.Info().Shards) != tt.shards {
			t.Errorf("%s: %d rows, %d classes, %d shards", tt.name, d.Len(), len(d.Classes()), len(d.Info().Shards))
		}
		recs := all(t, d)
		for i, r := range recs {
			if _, _, err := image.DecodeConfig(bytes.NewReader(r.Image)); err != nil || r.ID != int64(i) || r.Label != d.Labels()[i] {
				t.Fatalf("%v: label %d, %v", r.Where, r.Label, err)
			}
		}
		paths, err := d.Paths(t.Context())
		if err != nil || len(paths) != tt.rows || paths[7] != recs[7].Path {
			t.Errorf("%s: %d paths, %v", tt.name, len(paths), err)
		}
	}
}

// The omniglot images are also a zip of files, named alphabet/character/image.
func TestOmniglotAgainstZip(t *testing.T) {
	d := sharedData(t, "omniglot-small1", Config{})
	z, err := zip.OpenReader(shared + "omniglot-small1/images_background_small1.zip")
	if err != nil {
		t.Skip(err)
	}
	defer z.Close()
	files := make(map[string]int)
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		files[string(b)]++
	}
	for _, r := range all(t, d) {
		if files[string(r.Image)]--; files[string(r.Image)] < 0 {
			t.Fatalf("%v: image is not in the zip", r.Where)
		}
	}
}

// Nothing that is read depends on the number of workers or the cache.
func TestSameReadsEverywhere(t *testing.T) {
	var ids []int64
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		ids = append(ids, rng.Int64N(10000))
	}
	var first []pipeline.Record
	for _, cfg := range []Config{{Workers: 1}, {Workers: 7}, {Workers: 2, Memory: 1 << 20}, {Workers: 2, Memory: 1}} {
		d := sharedData(t, "mnist-t10k", cfg)
		got := make([]pipeline.Record, len(ids))
		// Several callers at a time.
		err := pipeline.ForEach(t.Context(), 3, 3, func(_ context.Context, i int) error {
			return d.Read(t.Context(), ids[100*i:100*i+100], got[100*i:100*i+100])
		})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = got
		}
		sameRecords(t, got, first)
	}
}

func BenchmarkRun(b *testing.B) {
	d := sharedData(b, "mnist-t10k", Config{})
	for b.Loop() {
		for _, err := range pipeline.From[pipeline.Record](d).All(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(d.Len())*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkRead(b *testing.B) {
	for _, memory := range []int64{DefaultMemory, 1} {
		b.Run(fmt.Sprintf("rows=128/memory=%d", memory), func(b *testing.B) {
			d := sharedData(b, "mnist-t10k", Config{Memory: memory})
			rng := rand.New(rand.NewPCG(1, 2))
			ids, recs := make([]int64, 128), make([]pipeline.Record, 128)
			for b.Loop() {
				for i := range ids {
					ids[i] = rng.Int64N(int64(d.Len()))
				}
				if err := d.Read(b.Context(), ids, recs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(ids))*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	sharedData(b, "mnist-t10k", Config{})
	for b.Loop() {
		d, err := Open(b.Context(), Config{Paths: []string{shared + "mnist-t10k/parquet"}})
		if err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}
