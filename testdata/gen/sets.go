package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

// chars are the classes of the glyphs set. Their numbers are places in it, so
// it is in bytewise order, as class names that are strings would be numbered.
var chars = strings.Split("#$&0123456789?@ABCDEFGHIJKLMNOPQRSTUVWXYZ", "")

// size is how many images class i has: 6 to 40, but 1 of "#" and 2 of "$".
func size(class int) int {
	if class < 2 {
		return class + 1
	}
	return 6 + class*11%35
}

// glyphs is the set that the README's commands mine: two shards of PNG in the
// Hugging Face layout, rows shuffled.
func glyphs(made files, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	var rows []storage.Row
	for class, char := range chars {
		for i := range size(class) {
			row, _, err := pngRow(rng, char, class, i)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
	}
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	half := len(rows) / 2
	for i, shard := range [][]storage.Row{rows[:half], rows[half:]} {
		name := fmt.Sprintf("glyphs/train-%05d-of-00002.parquet", i)
		cfg := storage.RecordWriterConfig{Classes: chars, GroupRows: 100}
		if err := made.write(name, cfg, shard); err != nil {
			return err
		}
	}
	return nil
}

// pngRow is image i of a class, with its font as group.
func pngRow(rng *rand.Rand, char string, class, i int) (storage.Row, glyph, error) {
	g, err := drawGlyph(rng, char)
	if err != nil {
		return storage.Row{}, g, err
	}
	encoded, err := encodePNG(g.pixel)
	font := fonts[g.font].name
	return storage.Row{
		Record: pipeline.Record{
			Label: int32(class),
			Image: encoded,
			Path:  fmt.Sprintf("%s/%s-%03d.png", char, font, i),
		},
		Group: font,
	}, g, err
}

// few are the classes of the sets in every format, and fewSizes their sizes.
var (
	few      = []string{"A", "B", "C", "D", "E", "F"}
	fewSizes = []int{14, 12, 10, 10, 8, 6}
)

// dim is the dimension of the embedding columns: the mean of each 8×8 block.
const dim = 16

// formats writes the same 60 rows in every format that is read.
func formats(made files, seed uint64) error {
	rows, pixels, err := fewRows(seed)
	if err != nil {
		return err
	}
	raw := replaceImages(rows, func(i int) []byte { return pixels[i] })
	float := replaceImages(rows, func(i int) []byte {
		var b []byte
		for _, v := range pixels[i] {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)/255))
		}
		return b
	})
	colour := replaceImages(rows, func(i int) []byte { // each pixel red, green, blue
		var b []byte
		for _, v := range pixels[i] {
			b = append(b, v, v/2, 255-v)
		}
		return b
	})
	grey := pipeline.Raw{Shape: pipeline.Shape{C: 1, H: side, W: side}}
	greyFloat := grey
	greyFloat.Float = true
	rgb := pipeline.Raw{Shape: pipeline.Shape{C: 3, H: side, W: side}, Interleaved: true}

	type config = storage.RecordWriterConfig
	for _, f := range []struct {
		name string
		rows []storage.Row
		cfg  config
	}{
		{"struct.parquet", rows, config{}},
		{"binary.parquet", rows, config{Image: storage.ImageBinary, Label: storage.LabelString, PathColumn: "path", GroupColumn: "group"}},
		{"dictionary.parquet", rows, config{Label: storage.LabelDictionary}},
		{"raw.parquet", raw, config{Image: storage.ImageRaw, Raw: grey, CompressImages: true}},
		{"raw.arrow", raw, config{Format: storage.FormatArrow, Image: storage.ImageRaw, Raw: grey}},
		{"raw-float.parquet", float, config{Image: storage.ImageRaw, Raw: greyFloat, Codec: storage.CodecZstd, CompressImages: true}},
		{"raw-float.arrow", float, config{Format: storage.FormatArrow, Image: storage.ImageRaw, Raw: greyFloat, Codec: storage.CodecZstd}},
		{"tensor.parquet", raw, config{Image: storage.ImageTensor, Raw: grey, CompressImages: true}},
		{"tensor.arrow", raw, config{Format: storage.FormatArrow, Image: storage.ImageTensor, Raw: grey}},
		{"tensor-rgb.arrow", colour, config{Format: storage.FormatArrow, Image: storage.ImageTensor, Raw: rgb, Codec: storage.CodecZstd}},
		{"file.arrow", rows, config{Format: storage.FormatArrow}},
		{"binary.arrow", rows, config{Format: storage.FormatArrow, Image: storage.ImageBinary, Label: storage.LabelString, PathColumn: "path", GroupColumn: "group"}},
		{"dictionary.arrow", rows, config{Format: storage.FormatArrow, Label: storage.LabelDictionary}},
		{"lz4.arrow", rows, config{Format: storage.FormatArrow, Codec: storage.CodecLZ4}},
		{"stream.arrows", rows, config{Format: storage.FormatArrowStream}},
		{"dictionary.arrows", rows, config{Format: storage.FormatArrowStream, Label: storage.LabelDictionary, Codec: storage.CodecZstd}},
		{"embedding.parquet", rows, config{Dim: dim}},
		{"embedding.arrow", rows, config{Format: storage.FormatArrow, Dim: dim}},
		{"embedding-list.parquet", rows, config{Dim: dim, Embedding: storage.EmbeddingList}},
		{"embedding-only.parquet", rows, config{Image: storage.ImageNone, PathColumn: "id", Dim: dim}},
		{"codec-none.parquet", rows, config{Codec: storage.CodecNone}},
		{"codec-snappy.parquet", rows, config{Codec: storage.CodecSnappy, CompressImages: true}},
		{"codec-zstd.parquet", rows, config{Codec: storage.CodecZstd, CompressImages: true}},
		{"codec-gzip.parquet", rows, config{Codec: storage.CodecGzip, CompressImages: true}},
		{"codec-brotli.parquet", rows, config{Codec: storage.CodecBrotli, CompressImages: true}},
		{"codec-lz4raw.parquet", rows, config{Codec: storage.CodecLZ4, CompressImages: true}},
		{"page-v2.parquet", rows, config{PageV2: true, CompressImages: true}},
		{"delta.parquet", rows, config{Delta: true}},
		{"delta-v2.parquet", rows, config{Delta: true, PageV2: true, Label: storage.LabelString, PathColumn: "path"}},
		{"splits/train-00000-of-00001.parquet", rows[:45], config{}},
		{"splits/test-00000-of-00001.parquet", rows[45:], config{}},
	} {
		f.cfg.Classes = few
		f.cfg.GroupRows = 25
		if err := made.write("formats/"+f.name, f.cfg, f.rows); err != nil {
			return err
		}
	}
	return nil
}

// fewRows are the 60 rows with PNG images and embeddings, shuffled, and the
// pixels of each.
func fewRows(seed uint64) (rows []storage.Row, pixels [][]byte, err error) {
	rng := rand.New(rand.NewPCG(seed, 2))
	for class, char := range few {
		for i := range fewSizes[class] {
			row, g, err := pngRow(rng, char, class, i)
			if err != nil {
				return nil, nil, err
			}
			row.Embedding = blocks(g.pixel.Pix)
			rows = append(rows, row)
			pixels = append(pixels, g.pixel.Pix)
		}
	}
	rng.Shuffle(len(rows), func(i, j int) {
		rows[i], rows[j] = rows[j], rows[i]
		pixels[i], pixels[j] = pixels[j], pixels[i]
	})
	return rows, pixels, nil
}

// blocks is the mean of each 8×8 block of a 32×32 image, in [0, 1].
func blocks(pix []byte) []float32 {
	sums := make([]int, dim)
	for i, v := range pix {
		sums[i/side/8*4+i%side/8] += int(v)
	}
	out := make([]float32, dim)
	for i, s := range sums {
		out[i] = float32(s) / (64 * 255)
	}
	return out
}

// replaceImages is rows with other images.
func replaceImages(rows []storage.Row, of func(i int) []byte) []storage.Row {
	out := make([]storage.Row, len(rows))
	for i, row := range rows {
		row.Image = of(i)
		out[i] = row
	}
	return out
}

// write makes one file of rows.
func (made files) write(name string, cfg storage.RecordWriterConfig, rows []storage.Row) error {
	var out bytes.Buffer
	w, err := storage.NewRecordWriter(&out, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, row := range rows {
		if err := w.Write(row); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	made[name] = out.Bytes()
	return nil
}
