package storage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/tercet-ml/tercet/pipeline"
)

// heldAndRead holds every row group of a data set and reads all rows, which
// have to be those of Run.
func heldAndRead(t *testing.T, d *Dataset, after func()) {
	t.Helper()
	want := all(t, d)
	layout, err := d.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var next int64
	for g, l := range layout {
		if l.First != next || l.Rows < 1 || l.Bytes < 1 {
			t.Fatalf("row group %d is %+v after %d rows", g, l, next)
		}
		next += l.Rows
		if err := d.Hold(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		h := d.holds.groups[g]
		if h == nil || h.apart {
			t.Fatalf("row group %d is not held", g)
		}
		if size := heldBytes(l.Rows, h.size); size > l.Bytes || int64(len(h.chunks))*chunkSize > l.Bytes {
			t.Errorf("row group %d takes %d bytes in %d chunks, want at most %d", g, size, len(h.chunks), l.Bytes)
		}
	}
	if next != int64(d.Len()) {
		t.Fatalf("row groups of %d rows, want %d", next, d.Len())
	}
	after()
	ids := make([]int64, d.Len())
	for i := range ids {
		ids[i] = int64(d.Len() - 1 - i)
	}
	got := make([]pipeline.Record, len(ids))
	if err := d.Read(t.Context(), ids, got); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(got)
	sameRecords(t, got, want)
	for i, g := range got {
		if g.Where != want[i].Where {
			t.Fatalf("row %d is at %v, want %v", i, g.Where, want[i].Where)
		}
	}
	for g := range layout {
		d.Release(g)
	}
	if len(d.holds.groups) > 0 || d.holds.free != nil {
		t.Errorf("%d row groups and %d chunks are left", len(d.holds.groups), len(d.holds.free))
	}
}

func TestHoldFormats(t *testing.T) {
	files, err := filepath.Glob(formats + "*")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %v, %v", files, err)
	}
	n := 0
	for _, path := range files {
		d, err := Open(t.Context(), Config{Paths: []string{path}, Shape: pipeline.Shape{}})
		if err != nil || !d.HasImages() {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			defer d.Close()
			heldAndRead(t, d, func() {})
		})
		n++
	}
	if n < 5 {
		t.Errorf("held the row groups of %d files, want more", n)
	}
}

// TestHoldWithoutTheFile: what is held needs no file.
func TestHoldWithoutTheFile(t *testing.T) {
	for _, opts := range [][]parquet.WriterProperty{
		{parquet.WithDictionaryDefault(false)}, // equal images many times over
		{parquet.WithDictionaryDefault(true)},
		{parquet.WithDictionaryDefault(false), parquet.WithDictionaryFor("label", true),
			parquet.WithEncodingFor("image.bytes", parquet.Encodings.DeltaByteArray), parquet.WithEncodingFor("image.path", parquet.Encodings.DeltaByteArray)},
	} {
		var rows []string
		for i := range 500 {
			rows = append(rows, fmt.Sprintf(`{"image":{"bytes":"%s","path":"%s%d.png"},"label":%d}`, strings.Repeat("aW1n", 100+i%7), strings.Repeat("path/", 200), i, i%3))
		}
		path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(hfImage, int64Label), "["+strings.Join(rows, ",")+"]", 120, opts...)
		heldAndRead(t, open(t, Config{Paths: []string{path}, Memory: 1}), func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestHoldShared(t *testing.T) {
	heldAndRead(t, sharedData(t, "omniglot-small1", Config{}), func() {})
}

// TestHoldReusesMemory: the chunks of a released row group serve for the next.
func TestHoldReusesMemory(t *testing.T) {
	var file bytes.Buffer
	w, err := NewRecordWriter(&file, RecordWriterConfig{GroupRows: 8})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		image := bytes.Repeat([]byte{byte(i), 1, 2}, 10_000)
		if err := w.Write(Row{Record: pipeline.Record{Image: image}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeFile(t, path, file.Bytes())
	d := open(t, Config{Paths: []string{path}})
	for g := range 2 {
		if err := d.Hold(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	both := len(d.holds.groups[0].chunks) + len(d.holds.groups[1].chunks)
	for g := 2; g < 8; g++ {
		d.Release(g - 2)
		if err := d.Hold(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if n := len(d.holds.free) + len(d.holds.groups[g-1].chunks) + len(d.holds.groups[g].chunks); n != both {
			t.Fatalf("%d chunks for two row groups, want %d", n, both)
		}
	}
}

func TestHoldFaults(t *testing.T) {
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(hfImage, int64Label),
		`[{"image":{"bytes":"aW1n"},"label":0},{"image":{"bytes":null},"label":0},{"image":{"bytes":"aW1n"},"label":0}]`, 2)
	d := open(t, Config{Paths: []string{path}})
	for _, g := range []int{-1, 2} {
		if err := d.Hold(t.Context(), g); err == nil {
			t.Errorf("row group %d was held", g)
		}
	}
	if err := d.Hold(t.Context(), 0); err != nil {
		t.Errorf("a bad row is for those who read it: %v", err)
	}
	one := make([]pipeline.Record, 1)
	if err := d.Read(t.Context(), []int64{0}, one); err != nil || string(one[0].Image) != "img" {
		t.Errorf("the good row is %+v, %v", one[0], err)
	}
	checkError(t, d.Read(t.Context(), []int64{1}, one), ErrNull, "row group 0, row 1")
	d.Release(0)
	d.Release(0) // once too often does nothing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Hold(ctx, 1); err == nil || len(d.holds.groups) != 0 {
		t.Errorf("held after the end: %v", err)
	}
}

// TestHoldTogether: row groups are held, read and released by many at a time.
func TestHoldTogether(t *testing.T) {
	d := open(t, Config{Paths: []string{"../testdata/glyphs"}, Split: "train"})
	want := all(t, d)
	layout, err := d.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			got := make([]pipeline.Record, 1)
			for i := range 50 {
				g := (w + i) % len(layout)
				if err := d.Hold(t.Context(), g); err != nil {
					t.Error(err)
					return
				}
				id := layout[g].First + int64(i)%layout[g].Rows
				if err := d.Read(t.Context(), []int64{id}, got); err != nil || !bytes.Equal(got[0].Image, want[id].Image) {
					t.Errorf("sample %d: %v", id, err)
				}
				d.Release(g)
			}
		})
	}
	all.Wait()
	if len(d.holds.groups) > 0 {
		t.Errorf("%d row groups are left", len(d.holds.groups))
	}
}
