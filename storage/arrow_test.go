package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tercet-ml/tercet/pipeline"
)

// openArrowBytes opens a file of these bytes until the test ends.
func openArrowBytes(t testing.TB, data []byte) (shard, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.arrow")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openArrow(t.Context(), path, Config{})
	if err == nil {
		t.Cleanup(func() { s.close() })
	}
	return s, err
}

// readAll reads columns of every row group, and gives each row as text.
func readAll(s shard, want []column) (rows []string, err error) {
	for g := range s.groups() {
		for tab, err := range s.read(context.Background(), g, want, nil) {
			if err != nil {
				return rows, err
			}
			for i, row := range tab.rows {
				text := fmt.Sprint(g, " ", row)
				for k, c := range tab.cells {
					text += fmt.Sprintf(" %s=%s", want[k].name, cellText(c, i))
				}
				rows = append(rows, text)
			}
		}
	}
	return rows, nil
}

// cellText is what cell i holds, whatever its kind.
func cellText(c cells, i int) string {
	var parts []string
	if c.isNull(i) {
		parts = append(parts, "null")
	}
	if c.bytes != nil {
		parts = append(parts, fmt.Sprintf("%x", c.bytes[i]))
	}
	if c.ints != nil {
		parts = append(parts, fmt.Sprint(c.ints[i]))
	}
	if c.strs != nil {
		parts = append(parts, fmt.Sprintf("%q", c.strs[i]))
	}
	if c.floats != nil {
		parts = append(parts, fmt.Sprint(c.floats[i]))
	}
	return strings.Join(parts, "/")
}

// readable are the columns of s that can be wanted, and after an image column
// with paths, those.
func readable(s shard) (all []column) {
	for _, c := range s.columns() {
		if c.kind != kindOther && c.kind != kindFloat {
			all = append(all, c)
		}
		if c.hasPath {
			c.kind = kindPath
			all = append(all, c)
		}
	}
	return all
}

// arrowBytes is a file or stream of the records.
func arrowBytes(t testing.TB, format Format, recs []arrow.Record, opts ...ipc.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	opts = append(opts, ipc.WithSchema(recs[0].Schema()))
	var w recordSink = ipc.NewWriter(&out, opts...)
	if format == FormatArrow {
		var err error
		if w, err = ipc.NewFileWriter(&counter{w: &out}, opts...); err != nil {
			t.Fatal(err)
		}
	}
	for _, rec := range recs {
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// recordOf is a record from JSON, a list of rows.
func recordOf(t testing.TB, json string, fields ...arrow.Field) arrow.Record {
	t.Helper()
	for i := range fields {
		fields[i].Nullable = true
	}
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fields, nil), strings.NewReader(json))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// Every type that is read, among types that are only passed over, with nulls.
func TestArrowTypes(t *testing.T) {
	field := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	rec := recordOf(t, `[
		{"skip": [{"a": 1, "b": [true]}], "bin": "AQI=", "lbin": "AwQ=", "fix": "BQY=", "s": "é", "ls": "x", "i8": -8, "u8": 200, "i16": -300, "u32": 4000000000, "u64": 9000000000000000000,
		 "px": [1,2,3], "lpx": [9], "f32": [0.5,1.5], "f64": [0.25], "d": "one", "img": {"path": "p.png", "bytes": "Bwg="}, "f": 1.5, "bool": true, "nul": null},
		{"skip": null, "bin": null, "lbin": null, "fix": null, "s": null, "ls": null, "i8": null, "u8": null, "i16": null, "u32": null, "u64": null,
		 "px": null, "lpx": null, "f32": null, "f64": null, "d": null, "img": null, "f": null, "bool": null, "nul": null},
		{"skip": [], "bin": "", "lbin": "", "fix": "AAE=", "s": "", "ls": "", "i8": 1, "u8": 2, "i16": 3, "u32": 4, "u64": 5,
		 "px": [4,5,6], "lpx": [], "f32": [2,null], "f64": [3,4,5], "d": "two", "img": {"path": "q.png", "bytes": null}, "f": 2, "bool": false, "nul": null}
	]`,
		field("skip", arrow.ListOf(arrow.StructOf(field("a", arrow.PrimitiveTypes.Int32), field("b", arrow.LargeListOf(arrow.FixedWidthTypes.Boolean))))),
		field("bin", arrow.BinaryTypes.Binary), field("lbin", arrow.BinaryTypes.LargeBinary), field("fix", &arrow.FixedSizeBinaryType{ByteWidth: 2}),
		field("s", arrow.BinaryTypes.String), field("ls", arrow.BinaryTypes.LargeString),
		field("i8", arrow.PrimitiveTypes.Int8), field("u8", arrow.PrimitiveTypes.Uint8), field("i16", arrow.PrimitiveTypes.Int16),
		field("u32", arrow.PrimitiveTypes.Uint32), field("u64", arrow.PrimitiveTypes.Uint64),
		field("px", arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Uint8)), field("lpx", arrow.LargeListOf(arrow.PrimitiveTypes.Uint8)),
		field("f32", arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)), field("f64", arrow.ListOf(arrow.PrimitiveTypes.Float64)),
		field("d", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint8, ValueType: arrow.BinaryTypes.String}),
		field("img", arrow.StructOf(field("path", arrow.BinaryTypes.String), field("bytes", arrow.BinaryTypes.Binary))),
		field("f", arrow.PrimitiveTypes.Float64), field("bool", arrow.FixedWidthTypes.Boolean), field("nul", arrow.Null),
	)
	want := []string{
		`0 0 bin=0102 lbin=0304 fix=0506 s="é" ls="x" i8=-8 u8=200 i16=-300 u32=4000000000 u64=9000000000000000000 px=010203 lpx=09 f32=[0.5 1.5] f64=[0.25] d="one" img=0708 img="p.png"`,
		`0 1 bin=null/ lbin=null/ fix=null/ s=null/"" ls=null/"" i8=null/0 u8=null/0 i16=null/0 u32=null/0 u64=null/0 px=null/ lpx=null/ f32=null/[] f64=null/[] d=null/"" img=null/ img=null/""`,
		`0 2 bin= lbin= fix=0001 s="" ls="" i8=1 u8=2 i16=3 u32=4 u64=5 px=040506 lpx= f32=[2 NaN] f64=[3 4 5] d="two" img=null/ img="q.png"`,
	}
	for name, data := range map[string][]byte{
		"file":        arrowBytes(t, FormatArrow, []arrow.Record{rec}),
		"file, zstd":  arrowBytes(t, FormatArrow, []arrow.Record{rec}, ipc.WithZstd()),
		"stream":      arrowBytes(t, FormatArrowStream, []arrow.Record{rec}),
		"stream, lz4": arrowBytes(t, FormatArrowStream, []arrow.Record{rec}, ipc.WithLZ4()),
	} {
		s, err := openArrowBytes(t, data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := readAll(s, readable(s))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: read %q, %v, want %q", name, got, err, want)
		}
	}
}

// Views are what some writers store all strings and bytes as.
func TestArrowViews(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.StringView, Nullable: true},
		{Name: "b", Type: arrow.BinaryTypes.BinaryView, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	long := strings.Repeat("long ", 10)
	for _, s := range []string{"short", "", long, "exactly 12 b", long + "!"} {
		b.Field(0).(*array.StringViewBuilder).Append(s)
		b.Field(1).(*array.BinaryViewBuilder).Append([]byte(s))
		b.Field(2).(*array.Int64Builder).Append(int64(len(s)))
	}
	b.Field(0).AppendNull()
	b.Field(1).AppendNull()
	b.Field(2).AppendNull()
	s, err := openArrowBytes(t, arrowBytes(t, FormatArrow, []arrow.Record{b.NewRecord()}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(s, readable(s))
	if err != nil || len(got) != 6 {
		t.Fatalf("read %q, %v", got, err)
	}
	for i, want := range []string{"short", "", long, "exactly 12 b", long + "!"} {
		if line := fmt.Sprintf("0 %d s=%q b=%x n=%d", i, want, want, len(want)); got[i] != line {
			t.Errorf("row %d is %s, want %s", i, got[i], line)
		}
	}
	if want := `0 5 s=null/"" b=null/ n=null/0`; got[5] != want {
		t.Errorf("row 5 is %s, want %s", got[5], want)
	}
}

// A stream may add to a dictionary or replace it; earlier batches keep theirs.
func TestArrowStreamDictionaries(t *testing.T) {
	field := arrow.Field{Name: "d", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}}
	recs := func(lists ...string) (all []arrow.Record) {
		for _, l := range lists {
			all = append(all, recordOf(t, l, field))
		}
		return all
	}
	for _, tt := range []struct {
		name string
		opts []ipc.Option
		recs []arrow.Record
	}{
		{"replaced", nil, recs(`[{"d":"a"},{"d":"b"}]`, `[{"d":"x"},{"d":"y"}]`)},
		{"added to", []ipc.Option{ipc.WithDictionaryDeltas(true)}, recs(`[{"d":"a"},{"d":"b"}]`, `[{"d":"a"},{"d":"b"},{"d":"c"}]`)},
	} {
		s, err := openArrowBytes(t, arrowBytes(t, FormatArrowStream, tt.recs, tt.opts...))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var want []string
		for g, rec := range tt.recs {
			d := rec.Column(0).(*array.Dictionary)
			for i := range d.Len() {
				want = append(want, fmt.Sprintf("%d %d d=%q", g, i, d.Dictionary().(*array.String).Value(d.GetValueIndex(i))))
			}
		}
		if got, err := readAll(s, readable(s)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: read %q, %v, want %q", tt.name, got, err, want)
		}
	}
}

func TestArrowColumns(t *testing.T) {
	for _, tt := range []struct {
		file string
		want []column
	}{
		{"file.arrow", []column{{name: "image", kind: kindImage, typ: "struct<bytes: binary, path: string>", codec: "none", hasPath: true}, {name: "label", kind: kindInt, typ: "int64", codec: "none", index: 1}}},
		{"raw.arrow", []column{{name: "image", kind: kindPixels, typ: "fixed_size_list<uint8>[1024]", codec: "none", width: 1024}, {name: "label", kind: kindInt, typ: "int64", codec: "none", index: 1}}},
		{"raw-float.arrow", []column{{name: "image", kind: kindFloats, typ: "fixed_size_list<float>[1024]", codec: "zstd", width: 1024}, {name: "label", kind: kindInt, typ: "int64", codec: "zstd", index: 1}}},
		{"tensor-rgb.arrow", []column{{name: "image", kind: kindPixels, typ: "fixed_size_list<uint8>[3072]", codec: "zstd", width: 3072, tensor: `{"shape":[32,32,3],"dim_names":["H","W","C"]}`}, {name: "label", kind: kindInt, typ: "int64", codec: "zstd", index: 1}}},
		{"dictionary.arrows", []column{{name: "image", kind: kindImage, typ: "struct<bytes: binary, path: string>", codec: "zstd", hasPath: true}, {name: "label", kind: kindString, typ: "dictionary<values=string, indices=int32>", codec: "zstd", index: 1}}},
	} {
		s, err := openArrow(t.Context(), "../testdata/formats/"+tt.file, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if got := s.columns(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: columns %+v, want %+v", tt.file, got, tt.want)
		}
		if got, want := s.groups(), []int64{25, 25, 10}; !slices.Equal(got, want) {
			t.Errorf("%s: row groups of %v rows, want %v", tt.file, got, want)
		}
		if got := s.metadata("huggingface"); !strings.Contains(got, `"features"`) {
			t.Errorf("%s: huggingface metadata is %q", tt.file, got)
		}
		if len(s.identity()) == 0 || s.size() == 0 {
			t.Errorf("%s: identity of %d bytes, size %d", tt.file, len(s.identity()), s.size())
		}
	}
}

// Any rows, in any number of tables, are those that reading all gives, and they
// outlive the file.
func TestArrowRows(t *testing.T) {
	for _, file := range []string{"file.arrow", "stream.arrows", "lz4.arrow", "embedding.arrow"} {
		s, err := openArrow(t.Context(), "../testdata/formats/"+file, Config{})
		if err != nil {
			t.Fatal(err)
		}
		all, err := readAll(s, readable(s))
		if err != nil || len(all) != 60 {
			t.Fatalf("%s: %d rows, %v", file, len(all), err)
		}
		want := readable(s)
		var kept []*table
		for tab, err := range s.read(t.Context(), 1, want, []int64{0, 3, 3, 24}) {
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, tab)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tab := range kept {
			for i, row := range tab.rows {
				text := fmt.Sprint(1, " ", row)
				for k, c := range tab.cells {
					text += fmt.Sprintf(" %s=%s", want[k].name, cellText(c, i))
				}
				got = append(got, text)
			}
		}
		if w := []string{all[25], all[28], all[28], all[49]}; !slices.Equal(got, w) {
			t.Errorf("%s: rows 0, 3, 3, 24 of group 1 are %.80q, want %.80q", file, got, w)
		}
	}
}

func TestArrowReadStops(t *testing.T) {
	s, err := openArrow(t.Context(), "../testdata/formats/file.arrow", Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for tab, err := range s.read(ctx, 0, s.columns(), nil) {
		if tab != nil || !errors.Is(err, cause) {
			t.Errorf("read of a cancelled context yields %v, %v, want %v", tab, err, cause)
		}
	}
	for tab, err := range s.read(t.Context(), 2, s.columns(), []int64{9, 10}) {
		var at *RowError
		if tab != nil || !errors.As(err, &at) || at.Row != 10 || at.RowGroup != 2 {
			t.Errorf("read of row 10 of 10 yields %v, %v", tab, err)
		}
	}
}

// A stream on a pipe is kept in memory or on disk, and reads alike.
func TestArrowStreamFromPipe(t *testing.T) {
	data, err := os.ReadFile("../testdata/formats/stream.arrows")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := openArrowBytes(t, data)
	if err != nil {
		t.Fatal(err)
	}
	want, err := readAll(whole, readable(whole))
	if err != nil {
		t.Fatal(err)
	}
	for _, memory := range []int64{0, 1000} {
		tmp := t.TempDir()
		t.Setenv("TMPDIR", tmp)
		s := fromStdin(t, data, Config{Memory: memory})
		if spooled, _ := os.ReadDir(tmp); len(spooled) != int(min(memory, 1)) {
			t.Errorf("with %d bytes of memory: %d temporary files", memory, len(spooled))
		}
		if got, err := readAll(s, readable(s)); err != nil || !slices.Equal(got, want) {
			t.Errorf("with %d bytes of memory: read %d rows, %v, unlike the file's %d", memory, len(got), err, len(want))
		}
		if s.path() != stdin || s.size() != int64(len(data)) || s.format() != "arrow stream" {
			t.Errorf("stream is %q, %d bytes, %s", s.path(), s.size(), s.format())
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(tmp); len(left) != 0 {
			t.Errorf("with %d bytes of memory: %v is left after close", memory, left)
		}
	}
}

// A shell gives the output of a command a name without an ending: <(command).
func TestArrowStreamFromNamedPipe(t *testing.T) {
	data, err := os.ReadFile("../testdata/formats/stream.arrows")
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	name := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(name); err != nil {
		t.Skip(err)
	}
	feed := pipeline.Background(t.Context(), func(context.Context) error {
		defer w.Close()
		_, err := w.Write(data)
		return err
	})
	d, err := Open(t.Context(), Config{Paths: []string{name}})
	r.Close() // so that feed ends whatever was read
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := feed.Wait(); err != nil || d.Len() != 60 {
		t.Errorf("%d rows, %v", d.Len(), err)
	}
}

// fromStdin opens data on the standard input.
func fromStdin(t *testing.T, data []byte, cfg Config) shard {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(old *os.File) { os.Stdin = old }(os.Stdin)
	os.Stdin = r
	defer r.Close()
	feed := pipeline.Background(t.Context(), func(context.Context) error {
		defer w.Close()
		_, err := w.Write(data)
		return err
	})
	s, err := openArrow(t.Context(), stdin, cfg)
	if err := errors.Join(err, feed.Wait()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestArrowBroken(t *testing.T) {
	for _, tt := range []struct {
		file string
		want string
	}{
		{"truncated.arrow", "the file has been cut short"},
		{"truncated.arrows", "bytes left"},
		{"not-parquet.parquet", "corrupt"},
		{"zero-bytes.parquet", "cut short"},
	} {
		path := filepath.Join("..", "testdata", "broken", tt.file)
		_, err := openArrow(t.Context(), path, Config{})
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tt.file) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("open %s: %v, want the file and %q", tt.file, err, tt.want)
		}
	}
	for data, want := range map[string]string{"PAR1\x15\x04": "Parquet", "FEA1\x00\x00": "version 2"} {
		_, err := openArrowBytes(t, []byte(data))
		checkError(t, err, ErrUnsupported, "data.arrow", want)
	}
	s, err := openArrow(t.Context(), "../testdata/broken/null-image.arrow", Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for tab, err := range s.read(t.Context(), 1, s.columns()[:1], nil) {
		if err != nil {
			t.Fatal(err)
		}
		for i := range tab.rows {
			if got, want := tab.cells[0].isNull(i), tab.rows[i] == 2; got != want {
				t.Errorf("row %d is null: %v, want %v", tab.rows[i], got, want)
			}
		}
	}
}

// One row of a random group at a time: what a batch of random ids costs at worst.
func BenchmarkArrowRandomRow(b *testing.B) {
	for _, file := range []string{"file.arrow", "lz4.arrow"} {
		b.Run(file, func(b *testing.B) {
			s, err := openArrow(b.Context(), "../testdata/formats/"+file, Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.close()
			rng := rand.New(rand.NewPCG(1, 1))
			want := s.columns()
			for b.Loop() {
				g := rng.IntN(2)
				for _, err := range s.read(b.Context(), g, want, []int64{int64(rng.IntN(25))}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}
