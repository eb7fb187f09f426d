package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// A shard is one file of a data set, open for reading. Its methods but close
// may be called by several goroutines at a time. Every error it returns names
// the file: a [*RowError] where the fault has a place in it.
type shard interface {
	// path is the file as it was named to open it.
	path() string
	// format is "parquet", "arrow" or "arrow stream".
	format() string
	// size is the length of the file in bytes; of a stream, what was read of it.
	size() int64
	// identity is what the data set's digest takes from the file: the bytes of
	// a Parquet footer, or of an Arrow schema.
	identity() []byte
	// metadata is a value of the schema's key-value metadata; "" where there is none.
	metadata(key string) string
	// columns are the top-level columns, in file order.
	columns() []column
	// groups holds the number of rows of each row group (record batch), in order.
	groups() []int64
	// read yields the given rows of a row group, a small table at a time. rows
	// ascend; nil stands for all of them. Only the wanted columns, which are
	// among those that columns returned, are touched. A table's memory is the
	// receiver's: nothing in it points into the file or is written again. An
	// error is the last thing yielded, with a nil table.
	read(ctx context.Context, group int, want []column, rows []int64) iter.Seq2[*table, error]
	// weight is how many bytes the values of a column of a row group take, at
	// most, when equal ones are kept once.
	weight(ctx context.Context, group int, c column) (int64, error)
	// close lets go of the file. No read may be under way.
	close() error
}

// A column is one top-level column of a shard.
type column struct {
	name    string
	kind    kind
	typ     string // as the file has it, in Arrow's words, for people: "struct<bytes: binary, path: string>"
	codec   string // compression, for people: "snappy", "none"; "" where there is nothing compressed
	width   int    // values in each cell of kindPixels, kindFloats and fixed-size kindBinary; 0 where the file does not say
	hasPath bool   // kindImage: there is a path beside the bytes
	tensor  string // the metadata (JSON) of the extension type arrow.fixed_shape_tensor; "" for other types
	index   int    // position among the shard's columns
}

// A kind says which field of [cells] a column's values are read into.
type kind uint8

const (
	kindOther  kind = iota // not readable here; columns of this kind are never wanted
	kindBinary             // binary, large binary, fixed-size binary (width set) → bytes
	kindImage              // struct of bytes and perhaps path → bytes
	kindPath               // struct of path alone → strs; an image column with hasPath may be wanted as this kind too
	kindPixels             // lists of uint8, of fixed size or not → bytes
	kindFloats             // lists of float32 or float64, of fixed size or not → floats
	kindInt                // integers of any width and sign, dictionaries of them → ints
	kindFloat              // single floating-point numbers: never wanted, named in errors
	kindString             // string, large string, dictionaries of them → strs
)

// A table is some rows of one row group.
type table struct {
	rows  []int64 // row numbers within the row group, ascending
	cells []cells // one for each wanted column, in the order it was wanted
}

// cells are one column of a [table], by row. The column's kind says which field
// is used; the other fields are nil.
type cells struct {
	null   []bool      // where the cell is null; nil where none is. An image struct is null when its bytes are.
	bytes  [][]byte    // nil at nulls
	ints   []int64     // 0 at nulls
	strs   []string    // "" at nulls
	floats [][]float32 // nil at nulls; float64 is rounded to float32; a null within a list is NaN
}

// isNull reports whether row i of the table is null.
func (c cells) isNull(i int) bool { return c.null != nil && c.null[i] }

// stdin is the path that names the standard input, an Arrow IPC stream.
const stdin = "-"

// openShard opens a file by its ending and, where that says nothing, by its
// first bytes.
func openShard(ctx context.Context, path string, cfg Config) (shard, error) {
	switch endings[strings.ToLower(filepath.Ext(path))] {
	case "parquet":
		return openParquet(ctx, path, cfg)
	case "arrow":
		return openArrow(ctx, path, cfg)
	}
	if path == stdin {
		return openArrow(ctx, path, cfg)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return openArrow(ctx, path, cfg) // the first bytes of a pipe come once
	}
	magic, err := firstBytes(path, 8)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte("PAR1")), bytes.HasPrefix(magic, []byte("PARE")):
		return openParquet(ctx, path, cfg)
	case bytes.HasPrefix(magic, []byte("ARROW1")), bytes.HasPrefix(magic, []byte{0xff, 0xff, 0xff, 0xff}):
		return openArrow(ctx, path, cfg)
	}
	return nil, fmt.Errorf("open %s: %w: neither Parquet nor Arrow by its ending or its first bytes", path, ErrUnsupported)
}

// endings are the file name endings of each format. openArrow tells files from
// streams by their first bytes.
var endings = map[string]string{
	".parquet": "parquet", ".pq": "parquet",
	".arrow": "arrow", ".ipc": "arrow", ".feather": "arrow",
	".arrows": "arrow", ".stream": "arrow",
}

// firstBytes are up to n bytes from the start of a file.
func firstBytes(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	n, err = io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b[:n], nil
}
