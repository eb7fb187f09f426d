package storage

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tercet-ml/tercet/pipeline"
)

// vectorStream is a stream of two batches of ids and embeddings of that type,
// which fill builds from the values of a row.
func vectorStream(t testing.TB, id, list arrow.DataType, options ...ipc.Option) []byte {
	t.Helper()
	meta := arrow.NewMetadata([]string{"fingerprint"}, []string{"weights 1"})
	schema := arrow.NewSchema([]arrow.Field{{Name: "note", Type: arrow.BinaryTypes.String}, {Name: "embedding", Type: list}, {Name: "id", Type: id}}, &meta)
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, append(options, ipc.WithSchema(schema))...)
	for batch := range int64(2) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for row := range int64(3) {
			n := 3*batch + row
			b.Field(0).(*array.StringBuilder).Append("row")
			switch f := b.Field(2).(type) {
			case *array.Int64Builder:
				f.Append(n)
			case *array.Uint16Builder:
				f.Append(uint16(n))
			}
			l := b.Field(1).(array.ListLikeBuilder)
			l.Append(true)
			for k := range 4 {
				switch f := l.ValueBuilder().(type) {
				case *array.Float32Builder:
					f.Append(float32(n) + float32(k)/4)
				case *array.Float64Builder:
					f.Append(float64(n) + float64(k)/4)
				}
			}
		}
		if err := w.Write(b.NewRecord()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// readVectors reads a stream to its end.
func readVectors(text []byte) (ids []int64, data []float32, err error) {
	v, err := NewVectorReader(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	for {
		some, rows, err := v.Read()
		if err == io.EOF {
			return ids, data, nil
		}
		if err != nil {
			return ids, data, err
		}
		ids, data = append(ids, some...), append(data, rows.Data...)
	}
}

func TestVectors(t *testing.T) {
	single, double := arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64
	for name, text := range map[string][]byte{
		"fixed":  vectorStream(t, arrow.PrimitiveTypes.Int64, arrow.FixedSizeListOf(4, single)),
		"list":   vectorStream(t, arrow.PrimitiveTypes.Int64, arrow.ListOf(single)),
		"double": vectorStream(t, arrow.PrimitiveTypes.Uint16, arrow.LargeListOf(double)),
		"zstd":   vectorStream(t, arrow.PrimitiveTypes.Int64, arrow.FixedSizeListOf(4, single), ipc.WithZstd()),
		"lz4":    vectorStream(t, arrow.PrimitiveTypes.Int64, arrow.FixedSizeListOf(4, single), ipc.WithLZ4()),
	} {
		ids, data, err := readVectors(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(ids, []int64{0, 1, 2, 3, 4, 5}) || len(data) != 24 {
			t.Errorf("%s: ids are %v with %d values", name, ids, len(data))
			continue
		}
		for i, x := range data {
			if want := float32(i/4) + float32(i%4)/4; x != want {
				t.Errorf("%s: value %d is %v, want %v", name, i, x, want)
			}
		}
	}
	v, err := NewVectorReader(bytes.NewReader(vectorStream(t, arrow.PrimitiveTypes.Int64, arrow.ListOf(single))))
	if err != nil || v.Metadata("fingerprint") != "weights 1" || v.Metadata("none") != "" {
		t.Errorf("metadata is %q, %v", v.Metadata("fingerprint"), err)
	}
}

// Every beginning of a stream is a shorter stream or an error, and every byte
// that is changed gives rows or an error: no panic and no more memory than there are bytes.
func TestVectorsDamaged(t *testing.T) {
	text := vectorStream(t, arrow.PrimitiveTypes.Int64, arrow.ListOf(arrow.PrimitiveTypes.Float32))
	for n := range text {
		if ids, _, err := readVectors(text[:n]); err == nil && len(ids) == 6 && n < len(text)-8 {
			t.Errorf("the first %d of %d bytes have all rows", n, len(text))
		}
	}
	for i := range text {
		for _, b := range []byte{0, 0x7f, 0xff, text[i] ^ 1, text[i] ^ 0x80} {
			bad := slices.Clone(text)
			bad[i] = b
			readVectors(bad)
		}
	}
}

func TestVectorFaults(t *testing.T) {
	list := func(fill func(ids *array.Int64Builder, l *array.ListBuilder, values *array.Float32Builder)) []byte {
		schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "embedding", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32), Nullable: true}}, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		l := b.Field(1).(*array.ListBuilder)
		fill(b.Field(0).(*array.Int64Builder), l, l.ValueBuilder().(*array.Float32Builder))
		var buf bytes.Buffer
		w := ipc.NewWriter(&buf, ipc.WithSchema(schema))
		if err := errors.Join(w.Write(b.NewRecord()), w.Close()); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	for _, tt := range []struct {
		name string
		text []byte
		want []string
	}{
		{"nothing", nil, []string{"read schema", "EOF"}},
		{"text", []byte("hello, world: this is no stream"), []string{"hell", "not an Arrow IPC stream"}},
		{"an end and no schema", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, []string{"read schema"}},
		{"a null id", list(func(ids *array.Int64Builder, l *array.ListBuilder, v *array.Float32Builder) {
			ids.AppendNull()
			l.Append(true)
			v.Append(1)
		}), []string{"batch 0: row 0: null value"}},
		{"a null embedding", list(func(ids *array.Int64Builder, l *array.ListBuilder, v *array.Float32Builder) {
			ids.Append(1)
			l.AppendNull()
		}), []string{"batch 0: row 0: null value"}},
		{"ragged rows", list(func(ids *array.Int64Builder, l *array.ListBuilder, v *array.Float32Builder) {
			ids.AppendValues([]int64{1, 2}, nil)
			l.Append(true)
			v.AppendValues([]float32{1, 2}, nil)
			l.Append(true)
			v.Append(1)
		}), []string{"row 1", "embedding of 1 values, want 2"}},
		{"an empty row", list(func(ids *array.Int64Builder, l *array.ListBuilder, v *array.Float32Builder) {
			ids.Append(1)
			l.Append(true)
		}), []string{"row 0", "embedding of 0 values"}},
	} {
		_, _, err := readVectors(tt.text)
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error is %q, want it to say %q", tt.name, err, want)
			}
		}
	}
	_, data, err := readVectors(list(func(ids *array.Int64Builder, l *array.ListBuilder, v *array.Float32Builder) {
		ids.Append(1)
		l.Append(true)
		v.AppendNull()
	}))
	if err != nil || len(data) != 1 || !math.IsNaN(float64(data[0])) {
		t.Errorf("a null value is %v, %v: want NaN, which nobody takes for a number", data, err)
	}
}

// What a TensorWriter writes, Arrow's own reader reads.
func TestTensors(t *testing.T) {
	var buf bytes.Buffer
	shape := pipeline.Shape{C: 3, H: 2, W: 4}
	w := NewTensorWriter(&buf, shape)
	pixels := make([]float32, 5*shape.Len())
	for i := range pixels {
		pixels[i] = float32(i)
	}
	if err := w.Write([]int64{7, 8, 9}, pixels[:3*shape.Len()]); err != nil {
		t.Fatal(err)
	}
	if err := w.Write([]int64{1, 2}, pixels[3*shape.Len():]); err != nil {
		t.Fatal(err)
	}
	if err := w.Write([]int64{1, 2}, pixels); err == nil {
		t.Error("pixels of 5 images for 2 ids: no error")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if meta, _ := r.Schema().Field(1).Metadata.GetValue("ARROW:extension:metadata"); meta != `{"shape":[3,2,4]}` {
		t.Errorf("the tensor's shape is %q", meta)
	}
	var ids []int64
	var values []float32
	for r.Next() {
		ids = append(ids, r.Record().Column(0).(*array.Int64).Int64Values()...)
		values = append(values, r.Record().Column(1).(*array.FixedSizeList).ListValues().(*array.Float32).Float32Values()...)
	}
	if r.Err() != nil || !slices.Equal(ids, []int64{7, 8, 9, 1, 2}) || !slices.Equal(values, pixels) {
		t.Errorf("read back: ids %v, %d values, %v", ids, len(values), r.Err())
	}
}

func FuzzVectors(f *testing.F) {
	single := arrow.PrimitiveTypes.Float32
	f.Add(vectorStream(f, arrow.PrimitiveTypes.Int64, arrow.FixedSizeListOf(4, single)))
	f.Add(vectorStream(f, arrow.PrimitiveTypes.Uint16, arrow.ListOf(single), ipc.WithZstd()))
	f.Fuzz(func(t *testing.T, text []byte) {
		ids, data, err := readVectors(text)
		if err == nil && len(ids) > 0 && len(data) < len(ids) {
			t.Errorf("%d ids with %d values", len(ids), len(data))
		}
	})
}
