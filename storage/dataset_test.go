package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/tercet-ml/tercet/pipeline"
)

var (
	int64Label  = nullable("label", arrow.PrimitiveTypes.Int64)
	stringLabel = nullable("label", arrow.BinaryTypes.String)
)

func schemaOf(fields ...arrow.Field) *arrow.Schema { return arrow.NewSchema(fields, nil) }

func TestImageLayouts(t *testing.T) {
	child := func(names ...string) arrow.DataType {
		var fields []arrow.Field
		for _, n := range names {
			typ := arrow.DataType(arrow.BinaryTypes.Binary)
			if n == "path" {
				typ = arrow.BinaryTypes.String
			}
			fields = append(fields, nullable(n, typ))
		}
		return arrow.StructOf(fields...)
	}
	for _, tt := range []struct {
		name   string
		field  arrow.Field
		cell   string
		path   string
		column string
	}{
		{"hugging face", hfImage, `{"bytes":"aW1n","path":"a.png"}`, "a.png", ""},
		{"path first", nullable("img", child("path", "bytes")), `{"bytes":"aW1n","path":"a.png"}`, "a.png", ""},
		{"bytes alone", nullable("image", child("bytes")), `{"bytes":"aW1n"}`, "", ""},
		{"binary", nullable("png", arrow.BinaryTypes.Binary), `"aW1n"`, "", ""},
		{"large binary", nullable("jpg", arrow.BinaryTypes.LargeBinary), `"aW1n"`, "", ""},
		{"required", arrow.Field{Name: "image", Type: arrow.BinaryTypes.Binary}, `"aW1n"`, "", ""},
		{"named", nullable("photo", arrow.BinaryTypes.Binary), `"aW1n"`, "", "photo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(tt.field, int64Label),
				fmt.Sprintf(`[{%q:%s,"label":2},{%q:%s,"label":-1}]`, tt.field.Name, tt.cell, tt.field.Name, tt.cell), 9)
			d := open(t, Config{Paths: []string{path}, ImageColumn: tt.column})
			sameRecords(t, all(t, d), []pipeline.Record{
				{ID: 0, Label: 2, Image: []byte("img"), Path: tt.path}, {ID: 1, Label: -1, Image: []byte("img"), Path: tt.path}})
			if !d.HasImages() || d.Info().Columns[0].Role != "image" || d.Info().Columns[1].Role != "label" {
				t.Errorf("Info is %+v", d.Info())
			}
		})
	}
}

func TestLabels(t *testing.T) {
	types := []struct {
		typ arrow.DataType
		max int64
	}{
		{arrow.PrimitiveTypes.Int8, 127}, {arrow.PrimitiveTypes.Int16, 1 << 14}, {arrow.PrimitiveTypes.Int32, 1 << 30}, {arrow.PrimitiveTypes.Int64, 1<<31 - 1},
		{arrow.PrimitiveTypes.Uint8, 255}, {arrow.PrimitiveTypes.Uint16, 65535}, {arrow.PrimitiveTypes.Uint32, 1 << 30}, {arrow.PrimitiveTypes.Uint64, 1 << 30},
	}
	for _, tt := range types {
		path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(hfImage, nullable("y", tt.typ)),
			fmt.Sprintf(`[{"y":0},{"y":null},{"y":%d}]`, tt.max), 2)
		d := open(t, Config{Paths: []string{path}})
		if want := []int32{0, -1, int32(tt.max)}; !slices.Equal(d.Labels(), want) || d.Classes() != nil {
			t.Errorf("%v: labels %v of classes %v, want %v", tt.typ, d.Labels(), d.Classes(), want)
		}
	}

	dir := t.TempDir()
	strs := `[{"label":"zebra"},{"label":null},{"label":"Ant"},{"label":"zebra"}]`
	more := `[{"label":"ant"},{"label":"é"},{"label":""}]`
	dictionary := nullable("label", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String})
	for _, field := range []arrow.Field{stringLabel, dictionary} {
		writeParquet(t, filepath.Join(dir, "b.parquet"), schemaOf(hfImage, field), more, 2)
		writeParquet(t, filepath.Join(dir, "a.parquet"), schemaOf(hfImage, field), strs, 3)
		d := open(t, Config{Paths: []string{dir}})
		if want := []string{"", "Ant", "ant", "zebra", "é"}; !slices.Equal(d.Classes(), want) {
			t.Errorf("classes are %q, want %q", d.Classes(), want)
		}
		if want := []int32{3, -1, 1, 3, 2, 4, 0}; !slices.Equal(d.Labels(), want) {
			t.Errorf("labels are %v, want %v", d.Labels(), want)
		}
	}
}

// Product numbers serve as labels: numbered by their order over all files.
func TestLargeLabels(t *testing.T) {
	dir := t.TempDir()
	writeParquet(t, filepath.Join(dir, "a.parquet"), schemaOf(hfImage, int64Label), `[{"label":9000000000},{"label":5},{"label":null},{"label":-1}]`, 3)
	writeParquet(t, filepath.Join(dir, "b.parquet"), schemaOf(hfImage, int64Label), `[{"label":12},{"label":9000000000},{"label":9000000000000001}]`, 2)
	d := open(t, Config{Paths: []string{dir}})
	if want := []string{"5", "12", "9000000000", "9000000000000001"}; !slices.Equal(d.Classes(), want) {
		t.Errorf("classes are %q, want %q", d.Classes(), want)
	}
	if want := []int32{2, 0, -1, -1, 1, 2, 3}; !slices.Equal(d.Labels(), want) {
		t.Errorf("labels are %v, want %v", d.Labels(), want)
	}
}

func TestLabelErrors(t *testing.T) {
	names := labelsJSON("cat", "dog")
	for _, tt := range []struct {
		name   string
		schema *arrow.Schema
		rows   string
		cause  error
		texts  []string
	}{
		{"floats", schemaOf(hfImage, nullable("label", arrow.PrimitiveTypes.Float32)), `[{"label":1}]`, ErrSchema, []string{`"label"`, "float32", "set the label column", "image struct<bytes: binary, path: string>"}},
		{"none", schemaOf(hfImage), `[{"image":null}]`, ErrSchema, []string{"no label column", "set the label column"}},
		{"negative", schemaOf(hfImage, int64Label), `[{"label":0},{"label":-2}]`, ErrValue, []string{"row group 0, row 1", `column "label"`, "-2"}},
		{"above the names", arrow.NewSchema([]arrow.Field{hfImage, int64Label}, &names), `[{"label":1},{"label":2}]`, ErrValue, []string{"row 1", "2 class names"}},
		{"unsigned", schemaOf(hfImage, nullable("label", arrow.PrimitiveTypes.Uint64)), `[{"label":5},{"label":9223372036854775808}]`, ErrValue, []string{"row 1", "9223372036854775808"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeParquet(t, filepath.Join(t.TempDir(), "bad.parquet"), tt.schema, tt.rows, 9)
			_, err := Open(t.Context(), Config{Paths: []string{path}})
			checkError(t, err, tt.cause, append(tt.texts, "bad.parquet")...)
		})
	}
}

func TestColumnErrors(t *testing.T) {
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(nullable("picture", arrow.BinaryTypes.Binary), int64Label), `[{"picture":"aW1n","label":0}]`, 9)
	_, err := Open(t.Context(), Config{Paths: []string{path}})
	checkError(t, err, ErrSchema, "a.parquet", "no image column", "set the image column (found: picture binary, label int64)")
	_, err = Open(t.Context(), Config{Paths: []string{path}, ImageColumn: "image"})
	checkError(t, err, ErrSchema, `column "image"`, "no column of that name")
	if e, ok := errors.AsType[*ColumnError](err); !ok || e.Role != "image" || e.Want != "image" {
		t.Errorf("error is %#v", err)
	}
	_, err = Open(t.Context(), Config{Paths: []string{path}, ImageColumn: "label"})
	checkError(t, err, ErrSchema, "its type is int64")

	paths := nullable("image", arrow.StructOf(nullable("path", arrow.BinaryTypes.String)))
	path = writeParquet(t, filepath.Join(t.TempDir(), "b.parquet"), schemaOf(paths, int64Label), `[{"image":{"path":"a.png"},"label":0}]`, 9)
	_, err = Open(t.Context(), Config{Paths: []string{path}})
	checkError(t, err, ErrSchema, "embed the images")
}

func TestNullAndEmptyImages(t *testing.T) {
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(hfImage, int64Label),
		`[{"image":{"bytes":"aW1n"},"label":0},{"image":{"bytes":null,"path":"b.png"},"label":0},{"image":null,"label":0},{"image":{"bytes":""},"label":1}]`, 3)
	d := open(t, Config{Paths: []string{path}, Memory: 1})
	one := make([]pipeline.Record, 1)
	if err := d.Read(t.Context(), []int64{0}, one); err != nil {
		t.Error(err)
	}
	checkError(t, d.Read(t.Context(), []int64{1}, one), ErrNull, "a.parquet: row group 0, row 1, column \"image\"", "embed it")
	checkError(t, d.Read(t.Context(), []int64{2}, one), ErrNull, "row group 0, row 2")
	checkError(t, d.Read(t.Context(), []int64{3}, one), ErrValue, "row group 1, row 0")
	var err error
	n := 0
	for _, err = range pipeline.From[pipeline.Record](d).All(t.Context()) {
		n++
	}
	checkError(t, err, ErrNull, "row group 0, row 1")
}

func TestGroupsIDsAndEmbeddings(t *testing.T) {
	schema := schemaOf(nullable("id", arrow.PrimitiveTypes.Int64), stringLabel, nullable("group", arrow.BinaryTypes.String),
		nullable("vector", arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float64)))
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schema, `[
		{"id":70,"label":"a","group":"v2","vector":[1,2]},{"id":null,"label":"b","group":null,"vector":[3,4]},
		{"id":-5,"label":"a","group":"v1","vector":[0.1,6]},{"id":1,"label":"b","group":"v2","vector":[7,8]}]`, 10)
	d := open(t, Config{Paths: []string{path}})
	if want := []int32{0, -1, 1, 0}; !slices.Equal(d.Groups(), want) {
		t.Errorf("groups are %v, want %v", d.Groups(), want)
	}
	paths, err := d.Paths(t.Context())
	if want := []string{"70", "", "-5", "1"}; err != nil || !slices.Equal(paths, want) {
		t.Errorf("Paths() = %q, %v, want %q", paths, err, want)
	}
	emb := pipeline.MakeEmbeddings(4, 2)
	if err := d.ReadEmbeddings(t.Context(), emb); err != nil {
		t.Fatal(err)
	}
	if want := []float32{1, 2, 3, 4, 0.1, 6, 7, 8}; !slices.Equal(emb.Data, want) || d.EmbeddingDim() != 2 {
		t.Errorf("embeddings are %v, want %v", emb.Data, want)
	}
	if d.HasImages() {
		t.Error("found images")
	}
	checkError(t, d.Read(t.Context(), []int64{0}, make([]pipeline.Record, 1)), ErrSchema, "no image column")
	if err := d.ReadEmbeddings(t.Context(), pipeline.MakeEmbeddings(3, 2)); err == nil {
		t.Error("embeddings of too few rows were filled")
	}
	d.Close()
	checkError(t, d.ReadEmbeddings(t.Context(), emb), ErrClosed)
}

func TestBadEmbeddings(t *testing.T) {
	for _, tt := range []struct {
		row   string
		cause error
		text  string
	}{
		{`null`, ErrNull, "row 1"}, {`[1]`, ErrValue, "1 values, want 2"}, {`[1,null]`, ErrValue, "NaN"}, {`[1e300,1]`, ErrValue, "Inf"},
	} {
		path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(int64Label, nullable("emb", arrow.ListOf(arrow.PrimitiveTypes.Float64))),
			fmt.Sprintf(`[{"label":0,"emb":[1,2]},{"label":0,"emb":%s}]`, tt.row), 10)
		d := open(t, Config{Paths: []string{path}})
		checkError(t, d.ReadEmbeddings(t.Context(), pipeline.MakeEmbeddings(2, 2)), tt.cause, "row group 0, row 1", `column "emb"`, tt.text)
	}
}

func TestShardsAgree(t *testing.T) {
	dir := t.TempDir()
	row := `[{"image":{"bytes":"aW1n"},"label":0}]`
	names, others := labelsJSON("a"), labelsJSON("b")
	first := writeParquet(t, filepath.Join(dir, "a.parquet"), arrow.NewSchema([]arrow.Field{hfImage, int64Label}, &names), row, 9)
	for _, tt := range []struct {
		name   string
		schema *arrow.Schema
		row    string
		text   string
	}{
		{"class names", arrow.NewSchema([]arrow.Field{hfImage, int64Label}, &others), row, "class names differ from those of"},
		{"label type", schemaOf(hfImage, stringLabel), `[{"label":"x"}]`, "string"},
		{"an extra column", arrow.NewSchema([]arrow.Field{hfImage, int64Label, nullable("group", arrow.PrimitiveTypes.Int64)}, &names), row, "group is column"},
	} {
		second := writeParquet(t, filepath.Join(dir, "b.parquet"), tt.schema, tt.row, 9)
		_, err := Open(t.Context(), Config{Paths: []string{first, second}})
		checkError(t, err, ErrSchema, "b.parquet", tt.text)
	}
	// Columns in another order are the same columns.
	second := writeParquet(t, filepath.Join(dir, "b.parquet"), arrow.NewSchema([]arrow.Field{int64Label, hfImage}, &names), row, 9)
	d := open(t, Config{Paths: []string{first, second}})
	if recs := all(t, d); len(recs) != 2 || string(recs[1].Image) != "img" || !slices.Equal(d.Classes(), []string{"a"}) {
		t.Errorf("records are %+v of classes %v", recs, d.Classes())
	}
}

func TestPaths(t *testing.T) {
	row := func(label int) string {
		return fmt.Sprintf(`[{"image":{"bytes":"aW1n"},"label":%d}]`, label)
	}
	dir := t.TempDir()
	for label, name := range []string{"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet",
		"more/validation/x.parquet", "data/.hidden.parquet", "data/_tmp.parquet"} {
		writeParquet(t, filepath.Join(dir, name), schemaOf(hfImage, int64Label), row(label), 9)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("# data"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		paths []string
		split string
		want  []int32
	}{
		{"split of a folder", []string{dir}, "train", []int32{0, 1}},
		{"split by folder name", []string{dir}, "val", []int32{3}},
		{"glob", []string{dir + "/data/train-*"}, "", []int32{0, 1}},
		{"files in any order, twice", []string{dir + "/data/train-00001-of-00002.parquet", dir + "/data/train-00000-of-00002.parquet", dir + "/data/train-00001-of-00002.parquet"}, "", []int32{0, 1}},
		{"one file of a split", []string{dir + "/data/test-00000-of-00001.parquet"}, "", []int32{2}},
	} {
		d, err := Open(t.Context(), Config{Paths: tt.paths, Split: tt.split})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !slices.Equal(d.Labels(), tt.want) {
			t.Errorf("%s: labels %v, want %v", tt.name, d.Labels(), tt.want)
		}
		d.Close()
	}

	_, err := Open(t.Context(), Config{Paths: []string{dir}})
	if e, ok := errors.AsType[*SplitError](err); !ok || !slices.Equal(e.Splits, []string{"test", "train", "validation"}) {
		t.Errorf("several splits give %v", err)
	}
	_, err = Open(t.Context(), Config{Paths: []string{dir + "/data"}, Split: "holdout"})
	if e, ok := errors.AsType[*SplitError](err); !ok || e.Want != "holdout" {
		t.Errorf("an unknown split gives %v", err)
	}
	_, err = Open(t.Context(), Config{Paths: []string{empty}})
	checkError(t, err, ErrNoData, empty)
	_, err = Open(t.Context(), Config{Paths: []string{dir + "/absent.parquet"}})
	checkError(t, err, fs.ErrNotExist, "absent.parquet")
	_, err = Open(t.Context(), Config{Paths: []string{dir + "/*.none"}})
	checkError(t, err, ErrNoData, "*.none")
	_, err = Open(t.Context(), Config{})
	checkError(t, err, ErrNoData)
	_, err = Open(t.Context(), Config{Paths: []string{dir + "/README.md"}})
	checkError(t, err, ErrUnsupported, "README.md")

	t.Chdir(dir)
	const name = "data/test-00000-of-00001.parquet"
	if d := open(t, Config{Paths: []string{name, filepath.Join(dir, name)}}); d.Len() != 1 {
		t.Errorf("a file of 1 row that was named in two ways has %d rows", d.Len())
	}
	if err := os.Symlink("data", "link"); err != nil {
		t.Skip(err)
	}
	if d := open(t, Config{Paths: []string{"link"}, Split: "test"}); d.Len() != 1 || d.Locate(0).File != filepath.Join("link", filepath.Base(name)) {
		t.Errorf("a link to a folder has %d rows, the first in %v", d.Len(), d.Locate(0))
	}
}

func TestDigest(t *testing.T) {
	write := func(dir, name, rows string) string {
		return writeParquet(t, filepath.Join(dir, name), schemaOf(hfImage, int64Label), rows, 9)
	}
	rows := `[{"image":{"bytes":"aW1n"},"label":0},{"image":{"bytes":"aW1n"},"label":1}]`
	a, b := t.TempDir(), t.TempDir()
	digests := []string{
		open(t, Config{Paths: []string{write(a, "x.parquet", rows)}}).Digest(),
		open(t, Config{Paths: []string{write(b, "y.parquet", rows)}}).Digest(),
		open(t, Config{Paths: []string{write(b, "x.parquet", strings.Replace(rows, `"label":1`, `"label":3`, 1))}}).Digest(),
	}
	write(b, "x.parquet", rows)
	if moved := open(t, Config{Paths: []string{filepath.Join(b, "x.parquet")}, Workers: 1}).Digest(); moved != digests[0] {
		t.Error("the digest depends on the folder")
	}
	for i, d := range digests {
		if len(d) != 64 || slices.Index(digests, d) != i {
			t.Errorf("digests are %q, want all to differ", digests)
		}
	}
}

func TestFileThatChanged(t *testing.T) {
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schemaOf(hfImage, int64Label), `[{"image":{"bytes":"aW1n"},"label":0}]`, 9)
	d := open(t, Config{Paths: []string{path}})
	writeParquet(t, path, schemaOf(hfImage, int64Label), `[{"image":{"bytes":"aW1nMg=="},"label":0}]`, 9)
	checkError(t, d.Read(t.Context(), []int64{0}, make([]pipeline.Record, 1)), ErrCorrupt, "a.parquet", "changed")
}

func TestReadIsCancelled(t *testing.T) {
	recs, _, _ := testRows(600)
	d := open(t, Config{Paths: []string{writeRecords(t, filepath.Join(t.TempDir(), "a.parquet"), recs, 300)}})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	checkError(t, d.Read(ctx, []int64{0, 400}, make([]pipeline.Record, 2)), why)
	if err := d.Read(t.Context(), []int64{0, 400}, make([]pipeline.Record, 2)); err != nil {
		t.Errorf("after a cancelled read: %v", err)
	}
	for _, ids := range [][]int64{{-1}, {600}} {
		if err := d.Read(t.Context(), ids, make([]pipeline.Record, 1)); err == nil {
			t.Errorf("read ids %v", ids)
		}
	}
}

// Row groups are read once while they fit, by any number of callers.
func TestCacheReadsOnce(t *testing.T) {
	c := newGroupCache(100)
	loads := map[int]int{}
	load := func(part int, size int64) func(int64) ([]pipeline.Record, int64, error) {
		return func(limit int64) ([]pipeline.Record, int64, error) {
			loads[part]++
			if size > limit {
				return nil, 0, nil
			}
			return make([]pipeline.Record, 1), size, nil
		}
	}
	for _, part := range []int{0, 1, 0, 2, 0, 1, 3, 3} { // 40 bytes each: two fit; 3 is too large
		size := int64(40)
		if part == 3 {
			size = 101
		}
		recs, err := c.get(part, load(part, size))
		if err != nil || (recs == nil) != (part == 3) {
			t.Errorf("part %d: %d records, %v", part, len(recs), err)
		}
	}
	if loads[0] != 1 || loads[1] != 2 || loads[2] != 1 || loads[3] != 1 || c.used != 80 {
		t.Errorf("loads are %v, %d bytes used", loads, c.used)
	}
	fail := errors.New("no")
	if _, err := c.get(9, func(int64) ([]pipeline.Record, int64, error) { return nil, 0, fail }); err != fail {
		t.Error(err)
	}
	if recs, err := c.get(9, load(9, 1)); err != nil || recs == nil {
		t.Error("a failed load was kept")
	}
}
