package storage

import (
	"encoding/json"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/tercet-ml/tercet/pipeline"
)

// schema is the Arrow schema of the columns c asks for, in the order image,
// label, path, group, embedding. Every field is nullable: the Hugging Face
// layout wants it, and Arrow Go v17 writes a fixed_size_list that is not as
// all nulls, silently.
func (c RecordWriterConfig) schema() (*arrow.Schema, error) {
	var fields []arrow.Field
	add := func(name string, t arrow.DataType, keysAndValues ...string) {
		f := arrow.Field{Name: name, Type: t, Nullable: true}
		if len(keysAndValues) > 0 {
			f.Metadata = arrow.MetadataFrom(map[string]string{
				keysAndValues[0]: keysAndValues[1], keysAndValues[2]: keysAndValues[3],
			})
		}
		fields = append(fields, f)
	}
	switch c.Image {
	case ImageStruct:
		add(c.ImageColumn, arrow.StructOf(
			arrow.Field{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true},
			arrow.Field{Name: "path", Type: arrow.BinaryTypes.String, Nullable: true},
		))
	case ImageBinary:
		add(c.ImageColumn, arrow.BinaryTypes.Binary)
	case ImageRaw:
		add(c.ImageColumn, arrow.FixedSizeListOf(int32(c.Raw.Len()), c.pixelType()))
	case ImageFixed:
		add(c.ImageColumn, &arrow.FixedSizeBinaryType{ByteWidth: c.rawBytes()})
	case ImageTensor:
		meta, err := tensorMetadata(c.Raw)
		if err != nil {
			return nil, err
		}
		add(c.ImageColumn, arrow.FixedSizeListOf(int32(c.Raw.Len()), c.pixelType()),
			"ARROW:extension:metadata", meta, "ARROW:extension:name", tensorExtension)
	}
	switch c.Label {
	case LabelInt:
		add(c.LabelColumn, arrow.PrimitiveTypes.Int64)
	case LabelString:
		add(c.LabelColumn, arrow.BinaryTypes.String)
	case LabelDictionary:
		add(c.LabelColumn, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String})
	}
	if c.PathColumn != "" {
		add(c.PathColumn, arrow.BinaryTypes.String)
	}
	if c.GroupColumn != "" {
		add(c.GroupColumn, arrow.BinaryTypes.String)
	}
	switch {
	case c.Dim > 0 && c.Embedding == EmbeddingList:
		add(c.EmbeddingColumn, arrow.ListOf(arrow.PrimitiveTypes.Float32))
	case c.Dim > 0:
		add(c.EmbeddingColumn, arrow.FixedSizeListOf(int32(c.Dim), arrow.PrimitiveTypes.Float32))
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return nil, fmt.Errorf("storage: RecordWriterConfig names two columns %q", f.Name)
		}
		seen[f.Name] = true
	}
	features, err := c.features()
	if err != nil {
		return nil, err
	}
	keys, values := []string{"huggingface"}, []string{features}
	if c.Image == ImageFixed {
		pixels, err := tensorMetadata(c.Raw)
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, pixelsKey), append(values, pixels)
	}
	meta := arrow.NewMetadata(keys, values)
	return arrow.NewSchema(fields, &meta), nil
}

func (c RecordWriterConfig) pixelType() arrow.DataType {
	if c.Raw.Float {
		return arrow.PrimitiveTypes.Float32
	}
	return arrow.PrimitiveTypes.Uint8
}

// rawBytes is the size of one raw image.
func (c RecordWriterConfig) rawBytes() int {
	if c.Raw.Float {
		return 4 * c.Raw.Len()
	}
	return c.Raw.Len()
}

// pixelsKey is the key of the schema's metadata that gives the shape of pixels
// stored as fixed-size binary, in the JSON of [tensorMetadata].
const pixelsKey = "tercet.pixels"

// tensorExtension is the name of the canonical extension type for tensors.
const tensorExtension = "arrow.fixed_shape_tensor"

// tensorMetadata is the JSON that gives raw pixels their shape: [H,W] for grey
// images, else [H,W,C] or [C,H,W].
func tensorMetadata(raw pipeline.Raw) (string, error) {
	meta := struct {
		Shape []int    `json:"shape"`
		Names []string `json:"dim_names"`
	}{[]int{raw.C, raw.H, raw.W}, []string{"C", "H", "W"}}
	switch {
	case raw.C == 1:
		meta.Shape, meta.Names = []int{raw.H, raw.W}, []string{"H", "W"}
	case raw.Interleaved:
		meta.Shape, meta.Names = []int{raw.H, raw.W, raw.C}, []string{"H", "W", "C"}
	}
	text, err := json.Marshal(meta)
	return string(text), err
}

// features is the value of the schema's "huggingface" key: what the datasets
// library takes the columns for, and where the class names are. A vector is a
// "Sequence", which old and new versions of that library read.
func (c RecordWriterConfig) features() (string, error) {
	value := func(dtype string) map[string]any { return map[string]any{"_type": "Value", "dtype": dtype} }
	sequence := func(dtype string, n int) map[string]any {
		return map[string]any{"_type": "Sequence", "feature": value(dtype), "length": n}
	}
	features := map[string]any{} // encoding/json sorts the keys, so the bytes are always the same
	switch c.Image {
	case ImageStruct:
		features[c.ImageColumn] = map[string]any{"_type": "Image"}
	case ImageBinary, ImageFixed:
		features[c.ImageColumn] = value("binary")
	case ImageRaw, ImageTensor:
		features[c.ImageColumn] = sequence(c.pixelType().Name(), c.Raw.Len())
	}
	switch {
	case c.Label != LabelInt:
		features[c.LabelColumn] = value("string")
	case len(c.Classes) > 0:
		features[c.LabelColumn] = map[string]any{"_type": "ClassLabel", "names": c.Classes}
	default:
		features[c.LabelColumn] = value("int64")
	}
	for _, column := range []string{c.PathColumn, c.GroupColumn} {
		if column != "" {
			features[column] = value("string")
		}
	}
	if c.Dim > 0 {
		length := c.Dim
		if c.Embedding == EmbeddingList {
			length = -1
		}
		features[c.EmbeddingColumn] = sequence("float32", length)
	}
	text, err := json.Marshal(map[string]any{"info": map[string]any{"features": features}})
	return string(text), err
}
