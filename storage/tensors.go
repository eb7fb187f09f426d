package storage

import (
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tercet-ml/tercet/pipeline"
)

// A TensorWriter writes decoded images as an Arrow IPC stream: id int64 and
// image, a list of C·H·W float32 with the extension type
// arrow.fixed_shape_tensor of shape [C,H,W], which other libraries read as an
// array. It buffers nothing: when Write has returned, the reader can have all.
type TensorWriter struct {
	shape  pipeline.Shape
	schema *arrow.Schema
	w      *ipc.Writer
}

// NewTensorWriter returns a writer of images of one shape. Nothing is written
// before the first Write.
func NewTensorWriter(w io.Writer, shape pipeline.Shape) *TensorWriter {
	meta := arrow.NewMetadata(
		[]string{"ARROW:extension:metadata", "ARROW:extension:name"},
		[]string{fmt.Sprintf(`{"shape":[%d,%d,%d]}`, shape.C, shape.H, shape.W), tensorExtension})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
		{Name: "image", Type: arrow.FixedSizeListOf(int32(shape.Len()), arrow.PrimitiveTypes.Float32), Nullable: true, Metadata: meta},
	}, nil)
	return &TensorWriter{shape, schema, ipc.NewWriter(w, ipc.WithSchema(schema))}
}

// Write writes a record batch: pixels holds len(ids)×C×H×W values. It keeps
// neither slice.
func (t *TensorWriter) Write(ids []int64, pixels []float32) (err error) {
	if len(pixels) != len(ids)*t.shape.Len() {
		return fmt.Errorf("storage: TensorWriter got %d values for %d images of %d", len(pixels), len(ids), t.shape.Len())
	}
	defer func() {
		if v := recover(); v != nil {
			err = caught(v)
		}
	}()
	column := func(typ arrow.DataType, n int, bytes []byte, children ...arrow.ArrayData) arrow.ArrayData {
		buffers := []*memory.Buffer{nil}
		if len(children) == 0 {
			buffers = append(buffers, memory.NewBufferBytes(bytes))
		}
		return array.NewData(typ, n, buffers, children, 0, 0)
	}
	id := column(t.schema.Field(0).Type, len(ids), arrow.Int64Traits.CastToBytes(ids))
	values := column(arrow.PrimitiveTypes.Float32, len(pixels), arrow.Float32Traits.CastToBytes(pixels))
	image := column(t.schema.Field(1).Type, len(ids), nil, values)
	rec := array.NewRecord(t.schema, []arrow.Array{array.MakeFromData(id), array.MakeFromData(image)}, int64(len(ids)))
	return t.w.Write(rec)
}

// Close writes the end of the stream, and the beginning if there was none. It
// does not close what is written to.
func (t *TensorWriter) Close() error { return t.w.Close() }
