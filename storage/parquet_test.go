package storage

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/tercet-ml/tercet/pipeline"
)

// testRows is n rows in records of at most 300, with nulls among the labels and
// paths.
func testRows(n int) (recs []arrow.Record, want []pipeline.Record, vectors [][]float32) {
	schema := arrow.NewSchema([]arrow.Field{hfImage, nullable("label", arrow.PrimitiveTypes.Int32),
		nullable("embedding", arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Float32))}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	image := b.Field(0).(*array.StructBuilder)
	label := b.Field(1).(*array.Int32Builder)
	vector := b.Field(2).(*array.FixedSizeListBuilder)
	want = make([]pipeline.Record, n)
	vectors = make([][]float32, n)
	for i := range n {
		data := bytes.Repeat([]byte(fmt.Sprintf("image %d ", i%40)), 1+i%17)
		path := fmt.Sprintf("folder/%04d.png", i)
		image.Append(true)
		image.FieldBuilder(0).(*array.BinaryBuilder).Append(data)
		want[i] = pipeline.Record{ID: int64(i), Label: int32(i % 7), Image: data}
		if i%5 == 0 {
			image.FieldBuilder(1).AppendNull()
		} else {
			image.FieldBuilder(1).(*array.StringBuilder).Append(path)
			want[i].Path = path
		}
		if i%11 == 0 {
			label.AppendNull()
			want[i].Label = pipeline.Unknown
		} else {
			label.Append(int32(i % 7))
		}
		vectors[i] = []float32{float32(i), 0.5, -float32(i % 3)}
		vector.Append(true)
		vector.ValueBuilder().(*array.Float32Builder).AppendValues(vectors[i], nil)
		if i%300 == 299 || i == n-1 {
			recs = append(recs, b.NewRecord())
		}
	}
	return recs, want, vectors
}

func TestCodecsEncodingsAndPages(t *testing.T) {
	recs, want, vectors := testRows(700)
	codecs := map[string]compress.Compression{"none": codecNone, "snappy": codecSnappy, "gzip": codecGzip,
		"brotli": codecBrotli, "zstd": codecZstd, "lz4_raw": codecLZ4Raw}
	encodings := map[string][]parquet.WriterProperty{
		"plain":      {parquet.WithDictionaryDefault(false)},
		"dictionary": {parquet.WithDictionaryDefault(true)},
		"delta": {parquet.WithDictionaryDefault(false), parquet.WithEncodingFor("label", parquet.Encodings.DeltaBinaryPacked),
			parquet.WithEncodingFor("image.bytes", parquet.Encodings.DeltaLengthByteArray), parquet.WithEncodingFor("image.path", parquet.Encodings.DeltaByteArray)},
	}
	versions := map[string]parquet.DataPageVersion{"v1": parquet.DataPageV1, "v2": parquet.DataPageV2}
	for codec, c := range codecs {
		for encoding, e := range encodings {
			for version, v := range versions {
				t.Run(codec+"/"+encoding+"/"+version, func(t *testing.T) {
					opts := append([]parquet.WriterProperty{parquet.WithCompression(c), parquet.WithDataPageVersion(v),
						parquet.WithDataPageSize(1 << 10), parquet.WithBatchSize(16)}, e...)
					path := writeRecords(t, filepath.Join(t.TempDir(), "a.parquet"), recs, 300, opts...)
					d := open(t, Config{Paths: []string{path}})
					if got := d.Info().Columns[0].Codec; got != codec {
						t.Errorf("codec is %q, want %q", got, codec)
					}
					sameRecords(t, all(t, d), want)
					checkRandomRead(t, d, want)
					// A cache that no row group fits into: rows by skipping.
					checkRandomRead(t, open(t, Config{Paths: []string{path}, Memory: 1}), want)
					emb := pipeline.MakeEmbeddings(d.Len(), d.EmbeddingDim())
					if err := d.ReadEmbeddings(t.Context(), emb); err != nil {
						t.Fatal(err)
					}
					for i, v := range vectors {
						if !slices.Equal(emb.Row(i), v) {
							t.Fatalf("embedding %d is %v, want %v", i, emb.Row(i), v)
						}
					}
				})
			}
		}
	}
}

// checkRandomRead reads rows out of order and twice.
func checkRandomRead(t *testing.T, d *Dataset, want []pipeline.Record) {
	t.Helper()
	ids := []int64{int64(len(want)) - 1, 0, 299, 300, 301, 0, 17, 650, 651, 400, 18, 18}
	got := make([]pipeline.Record, len(ids))
	if err := d.Read(t.Context(), ids, got); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		sameRecords(t, got[i:i+1], want[id:id+1])
		clear(got[i].Image) // it is ours: no other record changes
	}
	if err := d.Read(t.Context(), ids, got); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		sameRecords(t, got[i:i+1], want[id:id+1])
		if l := d.Locate(id); l != (pipeline.Location{File: l.File, RowGroup: int(id / 300), Row: id % 300}) {
			t.Errorf("Locate(%d) = %v", id, l)
		}
	}
}

func TestLegacyLZ4IsNamed(t *testing.T) {
	recs, _, _ := testRows(10)
	path := writeRecords(t, filepath.Join(t.TempDir(), "a.parquet"), recs, 10, parquet.WithCompression(codecLZ4Raw), parquet.WithStats(false))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// In each ColumnMetaData of the footer, field 4 (codec) follows field 3, the path.
	changed := 0
	for _, name := range []string{"bytes", "path", "label", "element"} {
		from := append([]byte(name), 0x15, codecLZ4Raw<<1)
		to := append([]byte(name), 0x15, codecLZ4<<1)
		changed += bytes.Count(b, from)
		b = bytes.ReplaceAll(b, from, to)
	}
	if changed == 0 {
		t.Fatal("found no codec to change")
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Config{Paths: []string{path}})
	checkError(t, err, ErrUnsupported, "a.parquet", "row group 0", `column "label"`, "lz4 (hadoop)", "zstd")
}

// The library does not write BYTE_STREAM_SPLIT: a PLAIN page is shuffled.
func TestByteStreamSplit(t *testing.T) {
	recs, _, vectors := testRows(50)
	path := writeRecords(t, filepath.Join(t.TempDir(), "a.parquet"), recs, 50, parquet.WithDictionaryDefault(false), parquet.WithStats(false))
	s, err := openShard(t.Context(), path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := s.(*parquetFile)
	from := p.chunks[0][p.leaves[2].value].from
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, n, err := readPageHeader(b[from:])
	if err != nil || h.typ != pageData || h.encoding != 0 {
		t.Fatalf("page header is %+v, %v", h, err)
	}
	// The sub-header begins with its number of values, then its encoding: 15 00.
	values := binary.AppendUvarint([]byte{0x15}, uint64(h.values)<<1)
	at := bytes.Index(b[from:from+int64(n)], append(values, 0x15, 0x00))
	if at < 0 {
		t.Fatal("no encoding in the page header")
	}
	b[int(from)+at+len(values)+1] = byteStreamSplit << 1
	body := b[int(from)+n : int(from)+n+int(h.compressed)]
	data := body[len(body)-int(h.values)*4:]
	plain := bytes.Clone(data)
	for i := range int(h.values) {
		for k := range 4 {
			data[k*int(h.values)+i] = plain[4*i+k]
		}
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	d := open(t, Config{Paths: []string{path}})
	emb := pipeline.MakeEmbeddings(50, 3)
	if err := d.ReadEmbeddings(t.Context(), emb); err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		if !slices.Equal(emb.Row(i), v) {
			t.Fatalf("embedding %d is %v, want %v", i, emb.Row(i), v)
		}
	}
}

// Of many files with the same columns, one schema is kept; a file with one more
// column has its own.
func TestSharedSchema(t *testing.T) {
	dir := t.TempDir()
	rows := `[{"image":{"bytes":"aW1n"},"label":2}]`
	for _, name := range []string{"a", "b"} {
		writeParquet(t, filepath.Join(dir, name+".parquet"), schemaOf(hfImage, int64Label), rows, 9)
	}
	wider := schemaOf(nullable("weight", arrow.PrimitiveTypes.Float32), hfImage, int64Label)
	writeParquet(t, filepath.Join(dir, "c.parquet"), wider, rows, 9)

	d := open(t, Config{Paths: []string{dir}})
	a, b, c := d.shards[0].(*parquetFile), d.shards[1].(*parquetFile), d.shards[2].(*parquetFile)
	if a.schema != b.schema {
		t.Error("two files with the same columns have a schema each")
	}
	if a.schema == c.schema || c.schema.NumColumns() != a.schema.NumColumns()+1 {
		t.Errorf("a file with one more column has %d, the others have %d", c.schema.NumColumns(), a.schema.NumColumns())
	}
	if n := len(all(t, d)); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

// What is looked up in a footer's bytes is what the library decodes from them.
func TestFooterValue(t *testing.T) {
	meta := arrow.NewMetadata([]string{"first", "huggingface", "empty", "huggingface"}, []string{"1", strings.Repeat("é", 200), "", "again"})
	schema := arrow.NewSchema([]arrow.Field{hfImage, int64Label}, &meta)
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schema, `[{"image":{"bytes":"aW1n"},"label":2}]`, 9)
	s, err := openParquet(t.Context(), path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := s.(*parquetFile)
	decoded, err := metadata.NewFileMetaData(p.footer, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"first", "huggingface", "empty", arrowSchemaKey} {
		want := decoded.KeyValueMetadata().FindValue(key)
		if want == nil || p.metadata(key) != *want {
			t.Errorf("%s is %q, want %q", key, p.metadata(key), fmt.Sprint(want))
		}
	}
	if got := p.metadata("none"); got != "" {
		t.Errorf("a key that is not there has %q", got)
	}
	for n := range p.footer { // cut short anywhere: no panic, and no value made up
		if got := footerValue(p.footer[:n], "huggingface"); got != "" && got != p.metadata("huggingface") {
			t.Fatalf("%d bytes of the footer have %q", n, got)
		}
	}
}

// Arrow C++ writes an empty table as a dictionary and no data page, which is
// then said to be at byte 0.
func TestNoRows(t *testing.T) {
	dir := t.TempDir()
	schema := schemaOf(hfImage, int64Label)
	writeParquet(t, filepath.Join(dir, "a.parquet"), schema, `[{"image":{"bytes":"aW1n"},"label":2}]`, 9)
	empty := writeParquet(t, filepath.Join(dir, "b.parquet"), schema, `[]`, 9)
	writeParquet(t, filepath.Join(dir, "c.parquet"), schema, `[{"image":{"bytes":"aW1n"},"label":3}]`, 9)

	s, err := openParquet(t.Context(), empty, Config{})
	if err != nil {
		t.Fatal(err)
	}
	p := s.(*parquetFile)
	meta, err := metadata.NewFileMetaData(p.footer, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range meta.RowGroups[0].Columns {
		c.MetaData.DataPageOffset = 0
	}
	var footer bytes.Buffer
	if _, err := meta.WriteTo(&footer, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(empty)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b[:len(b)-8-len(p.footer)], footer.Bytes()...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(footer.Len())), "PAR1"...)
	if err := os.WriteFile(empty, b, 0o644); err != nil {
		t.Fatal(err)
	}

	if d := open(t, Config{Paths: []string{empty}}); d.Len() != 0 {
		t.Errorf("%d rows in %s", d.Len(), empty)
	}
	sameRecords(t, all(t, open(t, Config{Paths: []string{dir}})), []pipeline.Record{
		{ID: 0, Label: 2, Image: []byte("img")}, {ID: 1, Label: 3, Image: []byte("img")}})
}

func TestPageChecksum(t *testing.T) {
	h, _, err := readPageHeader([]byte{0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x15, 0x02, 0x1c, 0x15, 0x02, 0x15, 0x00, 0x00, 0x00})
	if err != nil || !h.hasCRC || h.crc != 1 || h.compressed != 3 || h.values != 1 {
		t.Fatalf("header is %+v, %v", h, err)
	}
	p := &pages{src: strings.NewReader("abc"), mem: &budget{limit: 1 << 20}}
	_, err = p.body(0, h)
	checkError(t, err, ErrCorrupt, "checksum", "352441c2")
}

func TestRawPixels(t *testing.T) {
	dir := t.TempDir()
	label := nullable("label", arrow.PrimitiveTypes.Uint8)
	pixels := func(typ arrow.DataType) *arrow.Schema {
		return arrow.NewSchema([]arrow.Field{nullable("pixels", typ), label}, nil)
	}
	grey := pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 2, W: 2}}
	for _, tt := range []struct {
		name  string
		typ   arrow.DataType
		rows  string
		shape pipeline.Shape
		raw   pipeline.Raw
		image []byte
	}{
		{"list of uint8", arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Uint8), `[1,2,3,255]`, pipeline.Shape{}, grey, []byte{1, 2, 3, 255}},
		{"variable list", arrow.ListOf(arrow.PrimitiveTypes.Uint8), `[1,2,3,255]`, pipeline.Shape{}, grey, []byte{1, 2, 3, 255}},
		{"fixed binary", &arrow.FixedSizeBinaryType{ByteWidth: 4}, `"AQID/w=="`, pipeline.Shape{}, grey, []byte{1, 2, 3, 255}},
		{"binary with a shape", arrow.BinaryTypes.Binary, `"AQID/w=="`, pipeline.Shape{C: 1, H: 1, W: 4}, pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 1, W: 4}}, []byte{1, 2, 3, 255}},
		{"list of floats", arrow.FixedSizeListOf(1, arrow.PrimitiveTypes.Float32), `[0.5]`, pipeline.Shape{}, pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 1, W: 1}, Float: true},
			binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.5))},
		{"binary of floats", &arrow.FixedSizeBinaryType{ByteWidth: 4}, `"AAAAPw=="`, pipeline.Shape{C: 1, H: 1, W: 1}, pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 1, W: 1}, Float: true},
			binary.LittleEndian.AppendUint32(nil, math.Float32bits(0.5))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			json := fmt.Sprintf(`[{"pixels":%s,"label":3},{"pixels":%s,"label":4}]`, tt.rows, tt.rows)
			path := writeParquet(t, filepath.Join(dir, strings.ReplaceAll(tt.name, " ", "-"), "a.parquet"), pixels(tt.typ), json, 1)
			d := open(t, Config{Paths: []string{path}, Shape: tt.shape})
			for i, r := range all(t, d) {
				if r.Raw != tt.raw || !bytes.Equal(r.Image, tt.image) || r.Label != int32(3+i) {
					t.Errorf("record is %+v", r)
				}
			}
		})
	}
	path := writeParquet(t, filepath.Join(dir, "a.parquet"), pixels(arrow.ListOf(arrow.PrimitiveTypes.Uint8)),
		`[{"pixels":[1,2,3,4],"label":0},{"pixels":[1,2,3],"label":0}]`, 10)
	d := open(t, Config{Paths: []string{path}})
	err := d.Read(t.Context(), []int64{0, 1}, make([]pipeline.Record, 2))
	checkError(t, err, ErrValue, "row group 0, row 1", `column "pixels"`, "3 bytes, want 4")
	_, err = Open(t.Context(), Config{Paths: []string{path}, Shape: pipeline.Shape{C: 1, H: 3, W: 3}})
	checkError(t, err, ErrSchema, "a.parquet", "set the shape")
}

func TestTensorShape(t *testing.T) {
	field := func(metadata string) arrow.Field {
		return arrow.Field{Name: "image", Nullable: true, Type: arrow.FixedSizeListOf(6, arrow.PrimitiveTypes.Uint8),
			Metadata: arrow.NewMetadata([]string{"ARROW:extension:name", "ARROW:extension:metadata"}, []string{tensorExtension, metadata})}
	}
	for _, tt := range []struct {
		metadata string
		want     pipeline.Raw
	}{
		{`{"shape":[2,3]}`, pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 2, W: 3}}},
		{`{"shape":[3,2,1],"permutation":[0,1,2]}`, pipeline.Raw{Shape: pipeline.Shape{C: 3, H: 2, W: 1}}},
		{`{"shape":[2,1,3]}`, pipeline.Raw{Shape: pipeline.Shape{C: 3, H: 2, W: 1}, Interleaved: true}},
		{`{"shape":[1,2,3],"dim_names":["H","W","C"]}`, pipeline.Raw{Shape: pipeline.Shape{C: 3, H: 1, W: 2}, Interleaved: true}},
	} {
		path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), arrow.NewSchema([]arrow.Field{field(tt.metadata), nullable("label", arrow.PrimitiveTypes.Int8)}, nil),
			`[{"image":[1,2,3,4,5,6],"label":1}]`, 9)
		d := open(t, Config{Paths: []string{path}})
		if r := all(t, d); r[0].Raw != tt.want || d.Info().Raw != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.metadata, r[0].Raw, tt.want)
		}
	}
	for _, metadata := range []string{`{"shape":[2,2]}`, `{"shape":[3,2],"permutation":[1,0]}`, `{"shape":[6]}`, `{"shape":[-2,-3]}`, `x`} {
		path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), arrow.NewSchema([]arrow.Field{field(metadata), nullable("label", arrow.PrimitiveTypes.Int8)}, nil),
			`[{"image":[1,2,3,4,5,6],"label":1}]`, 9)
		if _, err := Open(t.Context(), Config{Paths: []string{path}}); err == nil || !strings.Contains(err.Error(), "a.parquet") {
			t.Errorf("%s: %v", metadata, err)
		}
	}
}

// Any blob gives what it holds or nothing.
func FuzzTensors(f *testing.F) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "image", Type: arrow.FixedSizeListOf(6, arrow.PrimitiveTypes.Uint8),
		Metadata: arrow.NewMetadata([]string{"ARROW:extension:name", "ARROW:extension:metadata"}, []string{tensorExtension, `{"shape":[2,3]}`})}}, nil)
	good := schemaMessage(schema)
	if got := tensors(base64.StdEncoding.EncodeToString(good)); got["image"] != `{"shape":[2,3]}` {
		f.Fatalf("tensors are %v", got)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) { tensors(base64.StdEncoding.EncodeToString(b)) })
}

// schemaMessage is a schema as an IPC message.
func schemaMessage(schema *arrow.Schema) []byte {
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(schema))
	w.Close()
	return b.Bytes()
}
