package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"github.com/tercet-ml/tercet/pipeline"
)

// writtenRows are seven rows with every kind of cell.
func writtenRows(raw pipeline.Raw, dim int) []Row {
	var rows []Row
	for i := range 7 {
		size := raw.Len()
		if raw.Float {
			size *= 4
		}
		row := Row{Group: "g" + fmt.Sprint(i%2)}
		row.Label = int32(i%4) - 1
		row.Path = fmt.Sprintf("p%d.png", i)
		row.Image = bytes.Repeat([]byte{byte(i)}, max(size, i+1))
		for d := range dim {
			row.Embedding = append(row.Embedding, float32(i)+float32(d)/4)
		}
		rows = append(rows, row)
	}
	return rows
}

func writeRows(t testing.TB, cfg RecordWriterConfig, rows []Row) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewRecordWriter(&out, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// layouts are the configurations that round trips are made with.
func layouts() map[string]RecordWriterConfig {
	names := []string{"a", "b", "c"}
	grey := pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 3, W: 4}}
	float := grey
	float.Float = true
	return map[string]RecordWriterConfig{
		"struct":     {Classes: names},
		"no names":   {Image: ImageBinary},
		"binary":     {Image: ImageBinary, Label: LabelString, Classes: names, PathColumn: "id", GroupColumn: "group"},
		"dictionary": {Label: LabelDictionary, Classes: names, Dim: 3},
		"raw":        {Image: ImageRaw, Raw: grey, Classes: names},
		"raw floats": {Image: ImageRaw, Raw: float, Codec: CodecZstd, CompressImages: true},
		"fixed":      {Image: ImageFixed, Raw: grey, Classes: names, Codec: CodecZstd, CompressImages: true},
		"tensor":     {Image: ImageTensor, Raw: grey, Codec: CodecLZ4},
		"embeddings": {Image: ImageNone, Dim: 5},
		"lists":      {Dim: 2, Embedding: EmbeddingList, ImageColumn: "img", LabelColumn: "y", EmbeddingColumn: "v"},
	}
}

// want is row i of a layout as readAll tells it.
func (c RecordWriterConfig) want(row Row, group, i int) string {
	c = c.withDefaults()
	text := fmt.Sprint(group, " ", i)
	switch {
	case c.Image == ImageStruct:
		text += fmt.Sprintf(" %s=%x %[1]s=%[3]q", c.ImageColumn, row.Image, row.Path)
	case c.Raw.Float:
		text += fmt.Sprintf(" %s=%v", c.ImageColumn, (&vector{width: 4, values: row.Image}).floats(nil, 0, int64(c.Raw.Len())))
	case c.Image != ImageNone:
		text += fmt.Sprintf(" %s=%x", c.ImageColumn, row.Image)
	}
	switch {
	case c.Label == LabelInt:
		text += fmt.Sprintf(" %s=%d", c.LabelColumn, row.Label)
	case row.Label < 0:
		text += fmt.Sprintf(` %s=null/""`, c.LabelColumn)
	default:
		text += fmt.Sprintf(" %s=%q", c.LabelColumn, c.Classes[row.Label])
	}
	if c.PathColumn != "" {
		text += fmt.Sprintf(" %s=%q", c.PathColumn, row.Path)
	}
	if c.GroupColumn != "" {
		text += fmt.Sprintf(" %s=%q", c.GroupColumn, row.Group)
	}
	if c.Dim > 0 {
		text += fmt.Sprintf(" %s=%v", c.EmbeddingColumn, row.Embedding)
	}
	return text
}

// What was written to Arrow is what is read.
func TestRecordWriterArrow(t *testing.T) {
	for name, cfg := range layouts() {
		for _, format := range []Format{FormatArrow, FormatArrowStream} {
			cfg.Format, cfg.GroupRows = format, 3
			rows := writtenRows(cfg.Raw, cfg.Dim)
			s, err := openArrowBytes(t, writeRows(t, cfg, rows))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var want []string
			for i, row := range rows {
				want = append(want, cfg.want(row, i/3, i%3))
			}
			if got, err := readAll(s, readable(s)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %s: read %q, %v, want %q", name, format, got, err, want)
			}
			for _, c := range s.columns() {
				if wantTensor := c.name == "image" && cfg.Image == ImageTensor; (c.tensor == `{"shape":[3,4],"dim_names":["H","W"]}`) != wantTensor {
					t.Errorf("%s: column %s is tensor %q", name, c.name, c.tensor)
				}
			}
		}
	}
}

// What was written to Parquet is what the library's own reader reads, and
// every writer's property is what readers of other makes need.
func TestRecordWriterParquet(t *testing.T) {
	for name, cfg := range layouts() {
		cfg.GroupRows = 3
		for _, cfg := range []RecordWriterConfig{cfg, with(cfg, func(c *RecordWriterConfig) { c.PageV2, c.Delta = true, true })} {
			rows := writtenRows(cfg.Raw, cfg.Dim)
			data := writeRows(t, cfg, rows)
			r, err := file.NewParquetReader(bytes.NewReader(data))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := r.MetaData().Schema.Root().RepetitionType(); got != parquet.Repetitions.Required {
				t.Errorf("%s: schema root is %v, want required", name, got)
			}
			if got := r.NumRowGroups(); got != 3 {
				t.Errorf("%s: %d row groups, want 3 of at most 3 rows", name, got)
			}
			features := r.MetaData().KeyValueMetadata().FindValue("huggingface")
			named := cfg.Label == "" && cfg.Classes != nil
			if features == nil || strings.Contains(*features, `{"_type":"ClassLabel","names":["a","b","c"]}`) != named {
				t.Errorf("%s: huggingface metadata is %v, want class names: %v", name, features, named)
			}
			fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: 100}, memory.DefaultAllocator)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			tab, err := fr.ReadTable(context.Background())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			sameAsArrow(t, name, cfg, rows, tab)
		}
	}
}

func with(cfg RecordWriterConfig, change func(*RecordWriterConfig)) RecordWriterConfig {
	change(&cfg)
	return cfg
}

// sameAsArrow compares a table with what rows are as an Arrow file.
func sameAsArrow(t *testing.T, name string, cfg RecordWriterConfig, rows []Row, tab arrow.Table) {
	t.Helper()
	var recs []arrow.Record
	var want []string
	for read := array.NewTableReader(tab, -1); read.Next(); {
		rec := read.Record()
		rec.Retain()
		for i := range int(rec.NumRows()) {
			want = append(want, cfg.want(rows[len(want)], len(recs), i))
		}
		recs = append(recs, rec)
	}
	if len(want) != len(rows) {
		t.Fatalf("%s: %d rows, want %d", name, len(want), len(rows))
	}
	s, err := openArrowBytes(t, arrowBytes(t, FormatArrow, recs))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got, err := readAll(s, readable(s)); err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: read %q, %v, want %q", name, got, err, want)
	}
}

// The Hugging Face datasets library takes an image column for one only when its
// Arrow field is exactly the one it would write itself.
func TestRecordWriterHuggingFace(t *testing.T) {
	schema, err := RecordWriterConfig{Classes: []string{"cat", "dog"}}.withDefaults().schema()
	if err != nil {
		t.Fatal(err)
	}
	null := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	want := []arrow.Field{
		null("image", arrow.StructOf(null("bytes", arrow.BinaryTypes.Binary), null("path", arrow.BinaryTypes.String))),
		null("label", arrow.PrimitiveTypes.Int64),
	}
	if got := schema.Fields(); !slices.EqualFunc(got, want, arrow.Field.Equal) {
		t.Errorf("fields are %v, want %v", got, want)
	}
	const features = `{"info":{"features":{"image":{"_type":"Image"},"label":{"_type":"ClassLabel","names":["cat","dog"]}}}}`
	if got, _ := schema.Metadata().GetValue("huggingface"); got != features {
		t.Errorf("metadata is %s, want %s", got, features)
	}
}

func TestRecordWriterSameBytes(t *testing.T) {
	for name, cfg := range layouts() {
		for _, format := range []Format{FormatParquet, FormatArrow, FormatArrowStream} {
			cfg.Format = format
			rows := writtenRows(cfg.Raw, cfg.Dim)
			if !bytes.Equal(writeRows(t, cfg, rows), writeRows(t, cfg, rows)) {
				t.Errorf("%s, %s: other bytes the second time", name, format)
			}
		}
	}
}

func TestRecordWriterGroups(t *testing.T) {
	rows := writtenRows(pipeline.Raw{}, 0) // images of 1 to 7 bytes
	s, err := openArrowBytes(t, writeRows(t, RecordWriterConfig{Format: FormatArrow, GroupBytes: 6}, rows))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.groups(), []int64{3, 2, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("record batches of %v rows, want %v", got, want)
	}
	s, err = openArrowBytes(t, writeRows(t, RecordWriterConfig{Format: FormatArrow}, nil))
	if err != nil || len(s.groups()) != 0 {
		t.Errorf("a file of no rows: %v", err)
	}
}

// Every byte of a file is in the digest of its row group, or in that of the tail.
func TestDescribeShard(t *testing.T) {
	for _, format := range []Format{FormatParquet, FormatArrow} {
		var out bytes.Buffer
		w, err := NewRecordWriter(&out, RecordWriterConfig{Format: format, Classes: []string{"a", "b", "c"}, GroupRows: 3, PathColumn: "path"})
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range writtenRows(pipeline.Raw{}, 0) {
			if err := w.Write(row); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b := out.Bytes()
		s, err := describeShard(bytes.NewReader(b), int64(len(b)), format)
		if err != nil {
			t.Fatal(err)
		}
		if s.Size != int64(len(b)) || s.Rows != 7 || len(s.Groups) != 3 || s.Groups[2].Rows != 1 {
			t.Fatalf("%s: %+v of %d bytes", format, s, len(b))
		}
		for at := range b {
			hit := -1
			for g, group := range s.Groups {
				if hit < 0 && int64(at) < group.End {
					hit = g
				}
			}
			if hit < 0 {
				hit = len(s.Groups)
			}
			b[at] ^= 1
			for g := range len(s.Groups) + 1 {
				if err := s.CheckGroup(bytes.NewReader(b), g); (err != nil) != (g == hit) {
					t.Fatalf("%s: byte %d changed, row group %d: %v", format, at, g, err)
				}
			}
			b[at] ^= 1
		}
		path := filepath.Join(t.TempDir(), "x."+string(format))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		sh, err := openShard(t.Context(), path, Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer sh.close()
		p, ok := sh.(*parquetFile)
		for g := range s.Groups {
			if sh.groups()[g] != s.Groups[g].Rows {
				t.Errorf("%s: row group %d has %d rows, listed as %d", format, g, sh.groups()[g], s.Groups[g].Rows)
			}
			if !ok {
				continue
			}
			from, to, _ := s.span(g)
			for _, c := range p.chunks[g] {
				if c.from < from || c.to > to {
					t.Errorf("row group %d from %d to %d has a chunk from %d to %d", g, from, to, c.from, c.to)
				}
			}
		}
	}
}

func TestRecordWriterNulls(t *testing.T) {
	s, err := openArrowBytes(t, writeRows(t, RecordWriterConfig{Format: FormatArrow, PathColumn: "id"}, []Row{{}, {Record: pipeline.Record{Image: []byte{}}}}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`0 0 image=null/ image=null/"" label=0 id=null/""`, `0 1 image= image=null/"" label=0 id=null/""`}
	if got, err := readAll(s, readable(s)); err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
}

func TestRecordWriterConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		cfg  RecordWriterConfig
		want string
	}{
		{RecordWriterConfig{Format: "csv"}, "Format is csv"},
		{RecordWriterConfig{Image: "jpeg"}, "Image is jpeg"},
		{RecordWriterConfig{Image: ImageRaw}, "Raw.Shape is {0 0 0}"},
		{RecordWriterConfig{Image: ImageRaw, Raw: pipeline.Raw{Shape: pipeline.Shape{C: 3, H: 1 << 15, W: 1 << 15}}}, "Raw.Shape is {3 32768 32768}"},
		{RecordWriterConfig{Label: "float"}, "Label is float"},
		{RecordWriterConfig{Label: LabelString}, "Classes is empty"},
		{RecordWriterConfig{Embedding: "map"}, "Embedding is map"},
		{RecordWriterConfig{Codec: "rar"}, "Codec is rar"},
		{RecordWriterConfig{Codec: CodecBrotli, Format: FormatArrow}, "Codec is brotli"},
		{RecordWriterConfig{Dim: -1}, "Dim is -1"},
		{RecordWriterConfig{Dim: math.MaxInt32}, "Dim is 2147483647"},
		{RecordWriterConfig{GroupRows: -1}, "GroupRows is -1"},
		{RecordWriterConfig{GroupBytes: -1}, "GroupBytes is -1"},
		{RecordWriterConfig{GroupBytes: 1 << 31}, "GroupBytes is 2147483648"},
		{RecordWriterConfig{PathColumn: "label"}, `two columns "label"`},
	} {
		if _, err := NewRecordWriter(io.Discard, tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

func TestRecordWriterRowErrors(t *testing.T) {
	grey := pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 2, W: 2}}
	for _, tt := range []struct {
		cfg  RecordWriterConfig
		row  Row
		want string
	}{
		{RecordWriterConfig{Classes: []string{"a"}}, Row{Record: pipeline.Record{Label: 1}}, "label is 1, want a number of the 1 classes"},
		{RecordWriterConfig{}, Row{Record: pipeline.Record{Label: -2}}, "label is -2"},
		{RecordWriterConfig{Image: ImageRaw, Raw: grey}, Row{Record: pipeline.Record{Image: make([]byte, 3)}}, "raw image has 3 bytes, want 4"},
		{RecordWriterConfig{Dim: 2}, Row{Embedding: []float32{1}}, "embedding has 1 values, want 2"},
	} {
		w, err := NewRecordWriter(io.Discard, tt.cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = w.Write(tt.row)
		if err == nil || !strings.Contains(err.Error(), "write row 0: "+tt.want) {
			t.Errorf("write: %v, want %q", err, tt.want)
		}
		if again := w.Close(); again != err {
			t.Errorf("close after %v: %v", err, again)
		}
	}
}

func TestRecordWriterImageBeyondOffsets(t *testing.T) {
	w, err := NewRecordWriter(io.Discard, RecordWriterConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w.bytes = math.MaxInt32 - 1 // as if they were there
	if err := w.Write(Row{Record: pipeline.Record{Image: make([]byte, 2)}}); err == nil || !strings.Contains(err.Error(), "image has 2 bytes, want at most 1 in") {
		t.Errorf("write: %v, want that there is no room", err)
	}
}

// failAfter is a writer with room for n bytes.
type failAfter struct{ n int }

var errFull = errors.New("no room")

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestRecordWriterFull(t *testing.T) {
	rows := writtenRows(pipeline.Raw{}, 0)
	for _, format := range []Format{FormatParquet, FormatArrow, FormatArrowStream} {
		cfg := RecordWriterConfig{Format: format, GroupRows: 2}
		size := len(writeRows(t, cfg, rows))
		for n := range size {
			if err := tryWrite(&failAfter{n}, cfg, rows); !errors.Is(err, errFull) {
				t.Fatalf("%s of %d bytes, room for %d: %v, want %v", format, size, n, err, errFull)
			}
		}
		if err := tryWrite(&failAfter{size}, cfg, rows); err != nil {
			t.Error(err)
		}
	}
}

func tryWrite(to io.Writer, cfg RecordWriterConfig, rows []Row) error {
	w, err := NewRecordWriter(to, cfg)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := w.Write(row); err != nil {
			return err
		}
	}
	return w.Close()
}

func TestLZ4Codec(t *testing.T) {
	for _, n := range []int{0, 1, 100, 100_000} {
		src := make([]byte, n)
		for i := range src {
			src[i] = byte(math.Sqrt(float64(i)))
		}
		var c lz4Codec
		if got := c.Decode(make([]byte, n), c.Encode(nil, src)); !bytes.Equal(got, src) {
			t.Errorf("%d bytes come back as %d others", n, len(got))
		}
	}
}
