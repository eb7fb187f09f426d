package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

const formats = "../testdata/formats/"

// readSet is every record of a data set, in id order.
func readSet(t *testing.T, cfg Config) (*Dataset, []pipeline.Record) {
	t.Helper()
	d, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	var recs []pipeline.Record
	for rec, err := range pipeline.From(pipeline.Source[pipeline.Record](d)).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
	return d, recs
}

// greyOf is the pixels of a record of the formats set, however it is stored.
func greyOf(t *testing.T, rec pipeline.Record) []byte {
	t.Helper()
	switch raw := rec.Raw; {
	case raw.C == 3 && raw.Interleaved:
		var grey []byte
		for i := 0; i < len(rec.Image); i += 3 {
			if v := rec.Image[i]; rec.Image[i+1] != v/2 || rec.Image[i+2] != 255-v {
				t.Fatalf("record %d: pixel %d is %v", rec.ID, i/3, rec.Image[i:i+3])
			}
			grey = append(grey, rec.Image[i])
		}
		return grey
	case raw.Float:
		var grey []byte
		for i := 0; i < len(rec.Image); i += 4 {
			grey = append(grey, byte(math.Round(255*float64(math.Float32frombits(binary.LittleEndian.Uint32(rec.Image[i:]))))))
		}
		return grey
	case raw.Shape != pipeline.Shape{}:
		return rec.Image
	}
	m, err := png.Decode(bytes.NewReader(rec.Image))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*image.Gray).Pix
}

// The same rows come out of every format.
func TestFormats(t *testing.T) {
	whole, want := readSet(t, Config{Paths: []string{formats + "struct.parquet"}})
	if len(want) != 60 || len(whole.Classes()) != 6 {
		t.Fatalf("struct.parquet has %d rows of %d classes, want 60 of 6", len(want), len(whole.Classes()))
	}
	var files []string
	for _, pattern := range []string{"*.parquet", "*.arrow", "*.arrows"} {
		found, err := filepath.Glob(formats + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 30 {
		t.Fatalf("%d files in %s", len(files), formats)
	}
	var groups []int32
	embeddings := map[string]pipeline.Embeddings{}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "jpeg.parquet" || name == "embedding-only.parquet" {
			continue
		}
		d, got := readSet(t, Config{Paths: []string{file}})
		if !slices.Equal(d.Labels(), whole.Labels()) || !slices.Equal(d.Classes(), whole.Classes()) {
			t.Errorf("%s: labels %v of classes %v, want %v of %v", name, d.Labels(), d.Classes(), whole.Labels(), whole.Classes())
		}
		for i, rec := range got {
			if !bytes.Equal(greyOf(t, rec), greyOf(t, want[i])) || rec.Label != want[i].Label || rec.ID != int64(i) {
				t.Fatalf("%s: record %d is not that of struct.parquet", name, i)
			}
			if rec.Path != "" && rec.Path != want[i].Path || rec.Path == "" && rec.Raw == (pipeline.Raw{}) {
				t.Errorf("%s: record %d has path %q, want %q", name, i, rec.Path, want[i].Path)
			}
			if at := rec.Where; at.RowGroup != i/25 || at.Row != int64(i%25) || at.File != file || at.Column != "image" {
				t.Errorf("%s: record %d is at %v", name, i, at)
			}
		}
		again := make([]pipeline.Record, 3)
		if err := d.Read(t.Context(), []int64{59, 0, 59}, again); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if again[0].ID != 59 || again[1].ID != 0 || !bytes.Equal(again[2].Image, got[59].Image) {
			t.Errorf("%s: ids 59, 0, 59 are %d, %d, %d", name, again[0].ID, again[1].ID, again[2].ID)
		}
		if strings.HasPrefix(name, "binary.") {
			if groups != nil && !slices.Equal(d.Groups(), groups) || len(d.Groups()) != 60 {
				t.Errorf("%s: groups %v, want %v", name, d.Groups(), groups)
			}
			groups = d.Groups()
		}
		if strings.HasPrefix(name, "embedding") {
			e := pipeline.MakeEmbeddings(d.Len(), d.EmbeddingDim())
			if err := d.ReadEmbeddings(t.Context(), e); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			embeddings[name] = e
		}
	}
	for name, e := range embeddings {
		if e.Dim != 16 || !slices.Equal(e.Data, embeddings["embedding.parquet"].Data) || e.Row(0)[5] <= 0 {
			t.Errorf("%s: embeddings differ from those of embedding.parquet", name)
		}
	}
	if len(embeddings) != 3 || len(groups) != 60 {
		t.Errorf("%d files with embeddings, %d groups", len(embeddings), len(groups))
	}
}

// A stream on the standard input is a data set like the file it came from.
func TestFormatsStandardInput(t *testing.T) {
	data, err := os.ReadFile(formats + "stream.arrows")
	if err != nil {
		t.Fatal(err)
	}
	_, want := readSet(t, Config{Paths: []string{formats + "stream.arrows"}})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(old *os.File) { os.Stdin = old }(os.Stdin)
	os.Stdin = r
	go func() {
		w.Write(data)
		w.Close()
	}()
	_, got := readSet(t, Config{Paths: []string{"-"}})
	for i := range want {
		if !bytes.Equal(got[i].Image, want[i].Image) || got[i].Label != want[i].Label {
			t.Fatalf("record %d differs from the file's", i)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
}

// Each broken file gives an error of a known cause that says where.
func TestBroken(t *testing.T) {
	for _, tt := range []struct {
		file  string
		cause error
		where string
	}{
		{"truncated.parquet", ErrCorrupt, "truncated.parquet"},
		{"truncated.arrow", ErrCorrupt, "truncated.arrow"},
		{"truncated.arrows", ErrCorrupt, "truncated.arrows"},
		{"zero-bytes.parquet", ErrCorrupt, "zero-bytes.parquet"},
		{"not-parquet.parquet", ErrCorrupt, "not-parquet.parquet"},
		{"no-image-column.parquet", ErrSchema, "no-image-column.parquet"},
		{"float-labels.parquet", ErrSchema, `"label"`},
		{"legacy-lz4.parquet", ErrUnsupported, "legacy-lz4.parquet"},
		{"null-image.parquet", ErrNull, `null-image.parquet: row group 1, row 2, column "image"`},
		{"null-image.arrow", ErrNull, `null-image.arrow: row group 1, row 2, column "image"`},
		{"nan-embedding.parquet", ErrValue, `nan-embedding.parquet: row group 1, row 2, column "embedding"`},
		{"nan-embedding.arrow", ErrValue, `nan-embedding.arrow: row group 1, row 2, column "embedding"`},
		{"short-embedding.parquet", ErrValue, `short-embedding.parquet: row group 1, row 2, column "embedding"`},
		{"empty", ErrNoData, "empty"},
		{"missing.parquet", os.ErrNotExist, "missing.parquet"},
	} {
		if err := tryAll(t, filepath.Join("..", "testdata", "broken", tt.file)); !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.where) {
			t.Errorf("%s: %v, want %v at %s", tt.file, err, tt.cause, tt.where)
		}
	}
}

// tryAll opens a file and reads all that is in it.
func tryAll(t *testing.T, path string) error {
	d, err := Open(t.Context(), Config{Paths: []string{path}})
	if err != nil {
		return err
	}
	defer d.Close()
	ids := make([]int64, d.Len())
	for i := range ids {
		ids[i] = int64(i)
	}
	if err := d.Read(t.Context(), ids, make([]pipeline.Record, len(ids))); err != nil {
		return err
	}
	if d.EmbeddingDim() == 0 {
		return nil
	}
	return d.ReadEmbeddings(t.Context(), pipeline.MakeEmbeddings(d.Len(), d.EmbeddingDim()))
}

// The main set: what README and the tests of other packages count on.
func TestGlyphs(t *testing.T) {
	d, recs := readSet(t, Config{Paths: []string{"../testdata/glyphs"}})
	count := make([]int, len(d.Classes()))
	for _, l := range d.Labels() {
		count[l]++
	}
	if len(count) != 41 || count[0] != 1 || count[1] != 2 || slices.Min(count[2:]) < 6 || slices.Max(count) != 40 {
		t.Errorf("%d classes of %v images, want 41, of 1, 2 and 6 to 40", len(count), count)
	}
	for _, rec := range recs {
		if m, err := png.DecodeConfig(bytes.NewReader(rec.Image)); err != nil || m.Width != 32 || m.Height != 32 {
			t.Fatalf("%v: %v, %d×%d pixels", rec.Where, err, m.Width, m.Height)
		}
		if class := d.Classes()[rec.Label]; !strings.HasPrefix(rec.Path, class+"/") {
			t.Fatalf("%v: class %s has path %s", rec.Where, class, rec.Path)
		}
	}
}
