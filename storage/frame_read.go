package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/tercet-ml/tercet/pipeline"
)

// TripletFormat is the version of the triplet and pairs files that this package
// writes, and the only one it reads.
const TripletFormat = 1

// A frameDecoder reads one format. Its methods may panic at corrupt bytes.
type frameDecoder interface {
	meta() (text string, ok bool)
	names() []string          // of the columns
	check(layout frame) error // wraps ErrSchema
	blocks() int
	read(i int, f frame) error // the rows of block i, in place of those in f
}

// A frameReader reads a triplet or pairs file by blocks.
type frameReader struct {
	path   string
	file   *os.File
	dec    frameDecoder
	meta   fileMeta
	layout frame
	blocks int
	starts []int64 // the row that each block begins with, and the number of rows
}

// openFrames opens the file and reads all of it once. content is "triplets" or
// "pairs"; layout says what columns its metadata promises; check is called with
// every block and returns the row at fault with the error.
func openFrames(path, content string, layout func(fileMeta, []string) frame, check func(f frame) (int, error)) (*frameReader, error) {
	format, err := formatOf(path)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	r := &frameReader{path: path, file: file}
	if err = r.open(format, content, layout); err == nil {
		err = r.verify(check)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return r, nil
}

func (r *frameReader) open(format fileFormat, content string, layout func(fileMeta, []string) frame) error {
	return r.guard(-1, func() error {
		info, err := r.file.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return errors.New("not a regular file")
		}
		section := io.NewSectionReader(r.file, 0, info.Size())
		switch format {
		case formatParquet:
			r.dec, err = newParquetDecoder(section, info.Size())
		case formatArrow:
			r.dec, err = newArrowDecoder(section)
		default:
			r.dec, err = newJSONDecoder(section, info.Size())
		}
		if err != nil {
			return err
		}
		text, ok := r.dec.meta()
		if !ok {
			return fmt.Errorf("%w: no %q metadata: not a file of %s", ErrSchema, metaKey, content)
		}
		if err := json.Unmarshal([]byte(text), &r.meta); err != nil {
			return fmt.Errorf("%w: %q metadata: %w", ErrCorrupt, metaKey, err)
		}
		if v := r.meta.FormatVersion; v != TripletFormat {
			return fmt.Errorf("%w: format_version is %d, want %d", ErrVersion, v, TripletFormat)
		}
		if r.meta.Content != content {
			return fmt.Errorf("%w: a file of %q, want %q", ErrSchema, r.meta.Content, content)
		}
		r.layout = layout(r.meta, r.dec.names())
		r.blocks = r.dec.blocks()
		return r.dec.check(r.layout)
	})
}

// verify reads all blocks, so that a reader of an open file finds nothing but
// what was written.
func (r *frameReader) verify(check func(f frame) (int, error)) error {
	digest := newFrameDigest()
	f := r.layout.like()
	r.starts = []int64{0}
	for i := range r.blocks {
		if err := r.read(i, f); err != nil {
			return err
		}
		if row, err := check(f); err != nil {
			return r.fault(i, int64(row), fmt.Errorf("%w: %w", ErrCorrupt, err))
		}
		digest.add(f)
		if have, want := digest.blocks[i], r.meta.FileBlocks; i < len(want) && have != want[i] {
			return r.fault(i, -1, fmt.Errorf("%w: the digest of its rows is %s, want %s", ErrCorrupt, have, want[i]))
		}
		r.starts = append(r.starts, digest.rows)
	}
	sealed, err := digest.seal(r.meta.TripletMeta)
	switch {
	case err != nil:
		return r.fault(-1, -1, err)
	case sealed.FileRows != r.meta.FileRows:
		return r.fault(-1, -1, fmt.Errorf("%w: %d rows, want %d", ErrCorrupt, sealed.FileRows, r.meta.FileRows))
	case r.meta.FileBlocks != nil && len(r.meta.FileBlocks) != r.blocks:
		return r.fault(-1, -1, fmt.Errorf("%w: %d row groups, want %d", ErrCorrupt, r.blocks, len(r.meta.FileBlocks)))
	case sealed.FileDigest != r.meta.FileDigest:
		return r.fault(-1, -1, fmt.Errorf("%w: the digest of its rows and metadata is %s, want %s", ErrCorrupt, sealed.FileDigest, r.meta.FileDigest))
	}
	return nil
}

// read reads block i into f.
func (r *frameReader) read(i int, f frame) error {
	return r.guard(i, func() error {
		if err := r.dec.read(i, f); err != nil {
			return err
		}
		for k := range f {
			if n := f[k].rows(); n != f.rows() || n == 0 {
				return fmt.Errorf("%w: column %q has %d rows, want %d", ErrCorrupt, f[k].name, n, f.rows())
			}
		}
		return nil
	})
}

func (r *frameReader) guard(block int, f func() error) error { return guardRead(r.path, block, f) }

func (r *frameReader) fault(block int, row int64, err error) error {
	return readFault(r.path, block, row, err)
}

// locate is where a row is, by its number in the file.
func (r *frameReader) locate(row int64) pipeline.Location {
	b := sort.Search(len(r.starts), func(i int) bool { return r.starts[i] > row }) - 1
	return pipeline.Location{File: r.path, RowGroup: b, Row: row - r.starts[b]}
}

func (r *frameReader) close() error { return r.file.Close() }

// appendString appends a string value, or the kind that it names.
func (c *frameColumn) appendString(b []byte) error {
	if c.typ == frameKind {
		k := slices.Index(kindNames[:], string(b))
		if k < 0 {
			return fmt.Errorf("%w: kind %q", ErrCorrupt, b)
		}
		c.kind = append(c.kind, pipeline.Kind(k))
		return nil
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: text is not UTF-8", ErrCorrupt)
	}
	c.str = append(c.str, string(b))
	return nil
}

// checkNames compares the columns of a file with those it should have. typ is
// the type of column i, in the words of the layout where it is the right one.
func checkNames(names []string, layout frame, typ func(i int) string) error {
	want := make([]string, len(layout))
	for i, c := range layout {
		want[i] = c.name
	}
	if !slices.Equal(names, want) {
		return fmt.Errorf("%w: columns are %s, want %s", ErrSchema, strings.Join(names, ", "), strings.Join(want, ", "))
	}
	for i, c := range layout {
		if t := typ(i); t != c.typ.String() {
			return fmt.Errorf("%w: column %q is %s, want %s", ErrSchema, c.name, t, c.typ)
		}
	}
	return nil
}

// guardRead calls f and says where it failed. The libraries panic at corrupt
// bytes, on this goroutine, and their errors wrap no cause of ours.
func guardRead(path string, block int, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = caught(v)
		}
		if err != nil {
			err = readFault(path, block, -1, err)
		}
	}()
	return f()
}

// readFault says where err was met; −1 for no block and no row in particular.
// An error that is neither of ours nor of the file system means corrupt bytes.
func readFault(path string, block int, row int64, err error) error {
	known := errors.As(err, new(*fs.PathError))
	for _, cause := range []error{ErrSchema, ErrCorrupt, ErrVersion, ErrMemory} {
		known = known || errors.Is(err, cause)
	}
	if !known {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return &pipeline.RowError{Location: pipeline.Location{File: path, RowGroup: block, Row: row}, Err: err}
}
