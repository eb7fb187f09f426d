package storage

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/tercet-ml/tercet/pipeline"
)

// idxBytes is the type of unsigned bytes in the magic number of an IDX file
// (http://yann.lecun.com/exdb/mnist: zero, zero, type, number of dimensions;
// then each dimension as big-endian uint32; then the values).
const idxBytes = 0x08

// An idxFeed is IDX images, with their labels from another file.
type idxFeed struct {
	path, labels string
	raw          pipeline.Raw
	size         int64 // of the file
	feedLabels
}

// idxLabelNames are the names that the labels of an IDX file of images may have.
func idxLabelNames(images string) []string {
	dir, base := filepath.Split(images)
	label := strings.NewReplacer("images", "labels", "idx3", "idx1").Replace(base)
	if label == base {
		return nil
	}
	plain := strings.TrimSuffix(label, ".gz")
	return []string{dir + label, dir + plain, dir + plain + ".gz"}
}

// openIDX opens the images in path and reads their labels.
func openIDX(path string) (*idxFeed, error) {
	f := &idxFeed{path: path}
	for _, name := range idxLabelNames(path) {
		if exists(name) {
			f.labels = name
			break
		}
	}
	images, err := openIDXFile(path)
	if err != nil {
		return nil, err
	}
	defer images.Close()
	switch {
	case len(images.dims) == 1:
		return nil, fmt.Errorf("open %s: %w: it holds labels: name the images that they belong to", path, ErrUnsupported)
	case len(images.dims) == 3:
		f.raw = pipeline.Raw{Shape: pipeline.Shape{C: 1, H: int(images.dims[1]), W: int(images.dims[2])}}
	case len(images.dims) == 4 && (images.dims[3] == 1 || images.dims[3] == 3):
		f.raw = pipeline.Raw{Shape: pipeline.Shape{C: int(images.dims[3]), H: int(images.dims[1]), W: int(images.dims[2])}, Interleaved: images.dims[3] == 3}
	default:
		return nil, fmt.Errorf("open %s: %w: values of %v are not images", path, ErrUnsupported, images.dims)
	}
	if h, w := images.dims[1], images.dims[2]; h < 1 || w < 1 || h > maxSide || w > maxSide || h*w > maxBytes/4 {
		return nil, fmt.Errorf("open %s: %w: images of %d×%d", path, ErrUnsupported, h, w)
	}
	f.size = images.size
	if f.labels == "" {
		return nil, fmt.Errorf("open %s: %w: its labels are not there, under the name of the images with labels-idx1 in the place of images-idx3", path, ErrNoData)
	}
	return f, f.readLabels(images.dims[0])
}

// readLabels reads as many labels as there are images.
func (f *idxFeed) readLabels(rows int64) error {
	labels, err := openIDXFile(f.labels)
	if err != nil {
		return err
	}
	defer labels.Close()
	if len(labels.dims) != 1 {
		return fmt.Errorf("open %s: %w: it holds values of %v, want labels", f.labels, ErrUnsupported, labels.dims)
	}
	if labels.dims[0] != rows {
		return fmt.Errorf("%s: %w: %d labels for the %d images of %s", f.labels, ErrCorrupt, labels.dims[0], rows, f.path)
	}
	for i := range rows {
		b, err := labels.r.ReadByte()
		if err != nil {
			return fmt.Errorf("%s: %w: label %d of %d: %w", f.labels, ErrCorrupt, i, rows, unexpected(err))
		}
		f.add(strconv.Itoa(int(b)))
	}
	return labels.end()
}

func (f *idxFeed) name() string          { return f.path }
func (f *idxFeed) kind() string          { return "idx" }
func (f *idxFeed) labelled() *feedLabels { return &f.feedLabels }
func (f *idxFeed) identity(w io.Writer)  { fmt.Fprintf(w, "%q %d", filepath.Base(f.path), f.size) }
func (f *idxFeed) close() error          { return nil }

// records implements [feed].
func (f *idxFeed) records(ctx context.Context, from int64) iter.Seq2[pipeline.Record, error] {
	return func(yield func(pipeline.Record, error) bool) {
		file, err := openIDXFile(f.path)
		if err != nil {
			yield(pipeline.Record{}, err)
			return
		}
		defer file.Close()
		size := int64(f.raw.Len())
		at := func(row int64) pipeline.Location { return pipeline.Location{File: f.path, RowGroup: -1, Row: row} }
		fail := func(row int64, err error) {
			yield(pipeline.Record{}, &RowError{Location: at(row), Err: err})
		}
		for range from { // a compressed file has to be read to its middle
			if _, err := io.CopyN(io.Discard, file.r, size); err != nil {
				fail(from, fmt.Errorf("%w: %w", ErrCorrupt, unexpected(err)))
				return
			}
		}
		for row := from; row < file.dims[0]; row++ {
			if ctx.Err() != nil {
				yield(pipeline.Record{}, context.Cause(ctx))
				return
			}
			b := make([]byte, size)
			if _, err := io.ReadFull(file.r, b); err != nil {
				fail(row, fmt.Errorf("%w: %w", ErrCorrupt, unexpected(err)))
				return
			}
			rec := pipeline.Record{Image: b, Raw: f.raw, Path: strconv.FormatInt(row, 10), Where: at(row)}
			if !yield(rec, nil) {
				return
			}
		}
		if err := file.end(); err != nil {
			yield(pipeline.Record{}, err)
		}
	}
}

// An idxFile is an IDX file of bytes, open behind its header.
type idxFile struct {
	path string
	file *os.File
	r    *bufio.Reader
	dims []int64
	size int64
}

// openIDXFile reads the header and, of a file that is not compressed, compares
// its size: nothing is allocated by what a header says.
func openIDXFile(path string) (*idxFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &idxFile{path: path, file: file, r: bufio.NewReaderSize(file, 1<<16)}
	if err := f.open(); err != nil {
		file.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return f, nil
}

func (f *idxFile) open() error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: not a regular file", ErrUnsupported)
	}
	f.size = info.Size()
	magic, _ := f.r.Peek(2)
	compressed := len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b
	if compressed {
		z, err := gzip.NewReader(f.r)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		f.r = bufio.NewReaderSize(z, 1<<16)
	}
	var head [4]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return fmt.Errorf("%w: read magic number: %w", ErrCorrupt, unexpected(err))
	}
	if head[0] != 0 || head[1] != 0 || head[3] < 1 || head[3] > 4 {
		return fmt.Errorf("%w: begins with %x, not an IDX file", ErrCorrupt, head)
	}
	if head[2] != idxBytes {
		return fmt.Errorf("%w: IDX values of type 0x%02x, want unsigned bytes (0x08)", ErrUnsupported, head[2])
	}
	total := int64(1)
	for range head[3] {
		var b [4]byte
		if _, err := io.ReadFull(f.r, b[:]); err != nil {
			return fmt.Errorf("%w: read dimensions: %w", ErrCorrupt, unexpected(err))
		}
		n := int64(binary.BigEndian.Uint32(b[:]))
		f.dims = append(f.dims, n)
		if n > 0 && total > 1<<50/n {
			return fmt.Errorf("%w: dimensions %v", ErrCorrupt, f.dims)
		}
		total *= n
	}
	header := 4 + 4*int64(head[3])
	// Deflate makes at most 1032 bytes of one.
	if !compressed && f.size != header+total || compressed && total > 1032*f.size {
		return fmt.Errorf("%w: %v values in a file of %d bytes", ErrCorrupt, f.dims, f.size)
	}
	return nil
}

// end makes sure that nothing follows, and that a gzip's checksum was right.
func (f *idxFile) end() error {
	switch _, err := f.r.ReadByte(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w: %w", f.path, ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %w: more values than the %v of its header", f.path, ErrCorrupt, f.dims)
}

// Close closes the file.
func (f *idxFile) Close() error { return f.file.Close() }
