package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/klauspost/compress/zstd"
	"github.com/tercet-ml/tercet/pipeline"
)

// everything opens a file and reads every column of every row group that can be
// read, through the shard and not only the columns of a data set.
func everything(path string) (rows int64, err error) {
	s, err := openShard(context.Background(), path, Config{})
	if err != nil {
		return 0, err
	}
	defer s.close()
	for _, c := range s.columns() {
		if c.kind == kindOther || c.kind == kindFloat {
			continue
		}
		for g := range s.groups() {
			for t, err := range s.read(context.Background(), g, []column{c}, nil) {
				if err != nil {
					return rows, err
				}
				rows += int64(len(t.rows))
			}
		}
	}
	return rows, nil
}

// bounded runs f and fails when it takes long or much memory.
func bounded(tb testing.TB, name string, f func()) {
	tb.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 64<<20 {
		tb.Errorf("%s: took %d MiB from the system", name, grown>>20)
	}
	if took > time.Second {
		tb.Errorf("%s: took %v", name, took)
	}
}

func TestMalformedCorpus(t *testing.T) {
	files, _ := filepath.Glob("../../shared/data/malformed/*.parquet")
	if len(files) == 0 {
		t.Skip("../../shared/data/malformed is not here")
	}
	for _, path := range files {
		bounded(t, path, func() {
			rows, err := everything(path)
			t.Logf("%s: %d rows, %v", filepath.Base(path), rows, err)
			if err != nil && !strings.Contains(err.Error(), filepath.Base(path)) {
				t.Errorf("error %q does not name %s", err, path)
			}
			d, err := Open(t.Context(), Config{Paths: []string{path}})
			if err == nil {
				t.Errorf("%s opened as a data set", path)
				d.Close()
			}
		})
	}
}

// smallFiles are well-formed files of every layout and codec, as bytes.
func smallFiles(tb testing.TB) map[string][]byte {
	dir := tb.TempDir()
	files := make(map[string][]byte)
	schema := arrow.NewSchema([]arrow.Field{hfImage, nullable("label", arrow.PrimitiveTypes.Int64),
		nullable("pixels", arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Uint8)),
		nullable("embedding", arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Float32)),
		nullable("class", arrow.BinaryTypes.String)}, nil)
	var rows []string
	for i := range 12 {
		rows = append(rows, fmt.Sprintf(`{"image":{"bytes":"aW1hZ2Ug%02d==","path":"%02d.png"},"label":%d,"pixels":[1,2,3,%d],"embedding":[0.5,1,%d],"class":"c%d"}`, i+10, i, i%3, i, i, i%2))
	}
	json := "[" + strings.Join(rows, ",") + "]"
	for _, f := range []struct {
		name string
		opts []parquet.WriterProperty
	}{
		{"plain", []parquet.WriterProperty{parquet.WithDictionaryDefault(false)}},
		{"dictionary-snappy", []parquet.WriterProperty{parquet.WithCompression(compress.Codecs.Snappy)}},
		{"zstd-v2", []parquet.WriterProperty{parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDataPageVersion(parquet.DataPageV2)}},
		{"delta-gzip", []parquet.WriterProperty{parquet.WithCompression(compress.Codecs.Gzip), parquet.WithDictionaryDefault(false),
			parquet.WithEncodingFor("label", parquet.Encodings.DeltaBinaryPacked), parquet.WithEncodingFor("class", parquet.Encodings.DeltaByteArray),
			parquet.WithEncodingFor("image.bytes", parquet.Encodings.DeltaLengthByteArray)}},
	} {
		path := writeParquet(tb, filepath.Join(dir, f.name+".parquet"), schema, json, 5, append(f.opts, parquet.WithStats(false))...)
		b, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		files[f.name] = b
	}
	return files
}

func TestEveryPrefixIsAnError(t *testing.T) {
	for name, b := range smallFiles(t) {
		path := filepath.Join(t.TempDir(), "cut.parquet")
		for n := 0; n < len(b); n += 7 {
			if err := os.WriteFile(path, b[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := everything(path); err == nil {
				t.Fatalf("%s: the first %d of %d bytes are no error", name, n, len(b))
			} else if !strings.Contains(err.Error(), "cut.parquet") {
				t.Fatalf("error %q does not name the file", err)
			}
		}
	}
}

// A flipped bit gives an error or some rows, in bounded time and memory. Without
// checksums in the file it cannot always be an error.
func TestFlippedBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, b := range smallFiles(t) {
		path := filepath.Join(t.TempDir(), "flipped.parquet")
		for range 300 {
			bit := rng.IntN(8 * len(b))
			c := bytes.Clone(b)
			c[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, c, 0o644); err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			_, err := everything(path)
			if took := time.Since(before); took > time.Second {
				t.Errorf("%s: bit %d: took %v", name, bit, took)
			}
			var panicked *pipeline.PanicError
			if errors.As(err, &panicked) {
				t.Fatalf("%s: bit %d: %v", name, bit, err)
			}
			if err != nil && !strings.Contains(err.Error(), "flipped.parquet") {
				t.Fatalf("error %q does not name the file", err)
			}
		}
	}
}

func FuzzOpenParquet(f *testing.F) {
	for _, b := range smallFiles(f) {
		f.Add(b)
	}
	corpus, _ := filepath.Glob("../../shared/data/malformed/*.parquet")
	for _, path := range corpus {
		if b, err := os.ReadFile(path); err == nil && len(b) < 1<<16 {
			f.Add(b)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, fmt.Sprintf("fuzz-%d.parquet", os.Getpid()))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		bounded(t, "file", func() {
			if _, err := everything(path); err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
			d, err := Open(t.Context(), Config{Paths: []string{path}})
			if err != nil {
				return
			}
			defer d.Close()
			out := make([]pipeline.Record, min(d.Len(), 10))
			ids := make([]int64, len(out))
			for i := range ids {
				ids[i] = int64(i)
			}
			if err := d.Read(t.Context(), ids, out); err == nil {
				for i, r := range out {
					if r.ID != int64(i) || len(r.Image) == 0 {
						t.Errorf("record %d is %+v", i, r)
					}
				}
			}
		})
	})
}

// A few bytes that say they are many cost what they are, not what they say.
func TestBombs(t *testing.T) {
	zeros := make([]byte, 256<<20)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	small := encoder.EncodeAll(zeros, nil)
	zeros = nil
	// unpack is decompress behind a recover, as in the reader.
	unpack := func(codec compress.Compression, src []byte, size int, limit int64) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = caught(r)
			}
		}()
		_, err = decompress(codec, src, size, &budget{limit: limit})
		return err
	}
	for _, tt := range []struct {
		name  string
		codec compress.Compression
		src   []byte
		size  int
		want  error
	}{
		{"content over the budget", codecZstd, small, 16 << 20, ErrMemory},
		{"content of 256 MiB in 28 KiB", codecZstd, small, 256 << 20, ErrCorrupt},
		{"content over its size", codecZstd, small, 100 << 10, ErrCorrupt},
		{"content that is too much for its bytes", codecZstd, small[:1<<10], 64 << 20, ErrCorrupt},
		{"brotli that says too much", codecBrotli, make([]byte, 1<<10), 64 << 20, ErrCorrupt},
		{"snappy that says too much", codecSnappy, []byte{0xff, 0xff, 0xff, 0x7f, 0}, 1<<28 - 1, ErrCorrupt},
		{"lz4 that says too much", codecLZ4Raw, []byte{0, 0}, 1 << 30, ErrCorrupt},
		{"gzip that says too much", codecGzip, []byte{0x1f, 0x8b}, 1 << 30, ErrCorrupt},
		{"zstd with a window of 512 MiB", codecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x98, 0x01, 0x00, 0x00}, 1 << 20, ErrCorrupt},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := unpack(tt.codec, tt.src, tt.size, 1<<20)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s: %d bytes were allocated, want at most 1 MiB", tt.name, took)
		}
	}
}

// One row group far larger than a table goes by in little memory.
func TestLargeRowGroup(t *testing.T) {
	const rows, size = 512, 256 << 10 // 128 MiB
	schema := arrow.NewSchema([]arrow.Field{hfImage, nullable("label", arrow.PrimitiveTypes.Int64)}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	image := b.Field(0).(*array.StructBuilder)
	data := make([]byte, size)
	for i := range rows {
		data[0] = byte(i)
		image.Append(true)
		image.FieldBuilder(0).(*array.BinaryBuilder).Append(data)
		image.FieldBuilder(1).AppendNull()
		b.Field(1).(*array.Int64Builder).Append(int64(i % 5))
	}
	path := writeRecords(t, filepath.Join(t.TempDir(), "a.parquet"), []arrow.Record{b.NewRecord()}, rows,
		parquet.WithDictionaryDefault(false), parquet.WithStats(false), parquet.WithBatchSize(4)) // a page is a batch, at least
	b.Release()
	d := open(t, Config{Paths: []string{path}, Memory: 1 << 20})
	runtime.GC()
	var most uint64
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start := m.HeapAlloc
	for r, err := range pipeline.From[pipeline.Record](d).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Image) != size || r.Image[0] != byte(r.ID) {
			t.Fatalf("record %d has %d bytes", r.ID, len(r.Image))
		}
		if r.ID%64 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
	if grown := int64(most) - int64(start); grown > 48<<20 {
		t.Errorf("%d MiB were in use", grown>>20)
	}
	// A page gives its memory back when the next one comes.
	p := d.shards[0].(*parquetFile)
	f, err := p.reopen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &groupReader{file: p, src: f, want: p.cols[:1], mem: &budget{limit: 4 << 20}, out: &budget{limit: 4 << 20}}
	for row := range int64(rows) {
		if err := r.fill(&table{rows: []int64{row}, cells: make([]cells, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	one := make([]pipeline.Record, 1) // larger than the cache: by skipping
	if err := d.Read(t.Context(), []int64{500}, one); err != nil || one[0].Image[0] != byte(500%256) {
		t.Errorf("record 500: %v", err)
	}
}

// What compresses well is still read a few megabytes at a time, and Memory
// above the default is decoding's too.
func TestTablesAreSmall(t *testing.T) {
	row := fmt.Sprintf(`{"image":{"bytes":%q},"label":1},`, strings.Repeat("AAAA", 1<<16))
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(hfImage, int64Label),
		"["+strings.TrimSuffix(strings.Repeat(row, 60), ",")+"]", 60,
		parquet.WithDictionaryDefault(false), parquet.WithCompression(compress.Codecs.Zstd))
	s, err := openShard(t.Context(), path, Config{Memory: 2 * DefaultMemory})
	if err != nil {
		t.Fatal(err)
	}
	for table, err := range s.read(t.Context(), 0, s.columns()[:1], nil) {
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, b := range table.cells[0].bytes {
			size += len(b)
		}
		if size > 2*tableBytes {
			t.Fatalf("a table of %d rows takes %d bytes", len(table.rows), size)
		}
	}
	if limit := s.(*parquetFile).limit; limit != 2*DefaultMemory {
		t.Errorf("decoding may take %d bytes, want those of Memory", limit)
	}
	s.(*parquetFile).limit = 1 << 10
	for _, err := range s.read(t.Context(), 0, s.columns()[:1], nil) {
		checkError(t, err, ErrMemory, "row group 0, row 0", "allow more memory")
	}
}
