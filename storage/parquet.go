package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/schema"
	"github.com/tercet-ml/tercet/pipeline"
)

// A parquetFile is a [shard] in Parquet. Footers, schema and levels are decoded
// by Arrow; every length they hold is checked before Arrow sees it, and
// everything runs on the caller's goroutine, behind one recover.
type parquetFile struct {
	name   string
	info   os.FileInfo // of the moment it was opened
	footer []byte
	schema *schema.Schema // one for all files of a data set that have the same
	cols   []column
	leaves []leaves
	rows   []int64
	chunks [][]chunk // by row group and leaf column
	limit  int64     // bytes that decoding may hold at a time, for one reader
	fs     FS        // nil for OS
}

// A chunk is where the pages of one leaf column of a row group are.
type chunk struct {
	from, to int64
	values   int64
	size     int64 // of its pages when decompressed, as the footer has it
	codec    compress.Compression
	prefixed bool  // values leave out what they have in common with the one before
	broken   error // why it cannot be read, if it cannot
}

var _ shard = (*parquetFile)(nil)

const (
	maxFooter  = 256 << 20
	tableRows  = 256     // rows in a table, at most
	tableBytes = 8 << 20 // bytes that a table should hold
)

// openParquet reads the footer of a Parquet file and checks everything in it
// that a later read will rely on.
func openParquet(ctx context.Context, path string, cfg Config) (_ shard, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %w", path, caught(r))
		}
	}()
	p := &parquetFile{name: path, limit: cfg.decoding(), fs: cfg.FS}
	if err := p.open(ctx, cfg.schemas); err != nil {
		if _, named := errors.AsType[*RowError](err); named {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// open keeps of the decoded footer only what reads need: a data set may have
// many thousand files.
func (p *parquetFile) open(ctx context.Context, known *schemas) error {
	f, info, err := openInput(ctx, p.fs, p.name)
	if err != nil {
		return err
	}
	defer f.Close()
	p.info = info
	if err := p.readFooter(f); err != nil {
		return err
	}
	meta, err := metadata.NewFileMetaData(p.footer, nil)
	if err != nil {
		return fmt.Errorf("%w: read footer: %w", ErrCorrupt, err)
	}
	p.schema = known.share(footerList(p.footer, footerSchema), meta.Schema)
	p.cols, p.leaves = parquetColumns(p.schema)
	if err := p.checkGroups(meta); err != nil {
		return err
	}
	tensor := tensors(p.metadata(arrowSchemaKey))
	for i, at := range p.leaves {
		if at.value >= 0 {
			p.cols[i].codec = p.codecs(at.value)
			p.cols[i].tensor = tensor[p.cols[i].name]
		}
	}
	return nil
}

// codecs names the compression of a column's chunks: "snappy", or "snappy, none"
// where they differ.
func (p *parquetFile) codecs(leaf int) string {
	var names []string
	for _, chunks := range p.chunks {
		if name := codecName(chunks[leaf].codec); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// readFooter reads the bytes of the footer, between the magic numbers.
func (p *parquetFile) readFooter(f io.ReaderAt) error {
	const ends = 12 // magic at the start; length and magic at the end
	if p.size() < ends {
		return fmt.Errorf("%w: %d bytes are too few for a Parquet file", ErrCorrupt, p.size())
	}
	head, tail := make([]byte, 4), make([]byte, 8)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read magic: %w", unexpected(err))
	}
	if _, err := f.ReadAt(tail, p.size()-8); err != nil {
		return fmt.Errorf("read footer length: %w", unexpected(err))
	}
	if string(head) == "PARE" || string(tail[4:]) == "PARE" {
		return fmt.Errorf("%w: encrypted Parquet", ErrUnsupported)
	}
	if string(head) != "PAR1" {
		return fmt.Errorf("%w: begins with %q, not a Parquet file", ErrCorrupt, head)
	}
	if string(tail[4:]) != "PAR1" {
		return fmt.Errorf("%w: ends with %q, not with a Parquet footer: truncated?", ErrCorrupt, tail[4:])
	}
	size := int64(binary.LittleEndian.Uint32(tail))
	if size > p.size()-ends || size > maxFooter {
		return fmt.Errorf("%w: footer of %d bytes in a file of %d", ErrCorrupt, size, p.size())
	}
	p.footer = make([]byte, size)
	if _, err := f.ReadAt(p.footer, p.size()-8-size); err != nil {
		return fmt.Errorf("read footer: %w", unexpected(err))
	}
	if err := checkFooter(p.footer); err != nil {
		return fmt.Errorf("read footer: %w", err)
	}
	return nil
}

// checkGroups looks at every column chunk's metadata: it has to lie inside the
// file, and all columns of a row group have to have its rows.
func (p *parquetFile) checkGroups(meta *metadata.FileMetaData) error {
	dataEnd := p.size() - 8 - int64(len(p.footer))
	var rows int64
	for g, rg := range meta.RowGroups {
		at := func(leaf int, err error) error {
			l := pipeline.Location{File: p.name, RowGroup: g, Row: -1}
			if leaf >= 0 {
				l.Column = p.schema.Column(leaf).Path()
			}
			return &RowError{Location: l, Err: err}
		}
		n := rg.GetNumRows()
		if n < 0 || len(rg.GetColumns()) != p.schema.NumColumns() {
			return at(-1, fmt.Errorf("%w: %d rows in %d columns, the schema has %d columns", ErrCorrupt, n, len(rg.GetColumns()), p.schema.NumColumns()))
		}
		rows += n
		// Every row of a data set takes some bytes; no row group may promise
		// more labels than memory should be given for.
		if n > 16*p.size()+1<<16 || rows > 16*p.size()+1<<16 {
			return at(-1, fmt.Errorf("%w: %d rows in a file of %d bytes", ErrCorrupt, rows, p.size()))
		}
		m := meta.RowGroup(g)
		chunks := make([]chunk, p.schema.NumColumns())
		for i := range chunks {
			c, err := p.checkChunk(m, i, n, dataEnd)
			if err != nil {
				return at(i, err)
			}
			chunks[i] = c
		}
		p.rows = append(p.rows, n)
		p.chunks = append(p.chunks, chunks)
	}
	if rows != meta.NumRows {
		return fmt.Errorf("%w: row groups have %d rows, the footer says %d", ErrCorrupt, rows, meta.NumRows)
	}
	return nil
}

// checkChunk looks at one column chunk. Faults that matter only to who reads it
// are kept for then.
func (p *parquetFile) checkChunk(m *metadata.RowGroupMetaData, i int, rows, dataEnd int64) (c chunk, err error) {
	defer func() {
		if r := recover(); r != nil { // the library's metadata may be nil here
			err = caught(r)
		}
	}()
	col, err := m.ColumnChunk(i)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	leaf := p.schema.Column(i)
	c.values = col.NumValues()
	c.size = col.TotalUncompressedSize()
	c.codec = col.Compression()
	c.prefixed = slices.Contains(col.Encodings(), parquet.Encodings.DeltaByteArray)
	c.from = col.DataPageOffset()
	if at := col.DictionaryPageOffset(); col.HasDictionaryPage() && at > 0 && (at < c.from || c.from == 0) {
		c.from = at // without rows there may be a dictionary alone
	}
	size := col.TotalCompressedSize()
	c.to = c.from + size
	switch {
	case col.FilePath() != "":
		c.broken = fmt.Errorf("%w: column chunk in another file", ErrUnsupported)
	case col.CryptoMetadata() != nil:
		c.broken = fmt.Errorf("%w: encrypted column", ErrUnsupported)
	case col.Type() != leaf.PhysicalType():
		return c, fmt.Errorf("%w: column chunk of type %s, the schema says %s", ErrCorrupt, col.Type(), leaf.PhysicalType())
	case size < 0 || c.from < 0 || c.to > dataEnd || c.to < c.from:
		return c, fmt.Errorf("%w: column chunk from byte %d to %d of %d", ErrCorrupt, c.from, c.to, dataEnd)
	case size > 0 && c.from < 4:
		return c, fmt.Errorf("%w: column chunk begins at byte %d, within the magic number", ErrCorrupt, c.from)
	case c.values < 0 || leaf.MaxRepetitionLevel() == 0 && c.values != rows:
		return c, fmt.Errorf("%w: column chunk of %d values in a row group of %d rows", ErrCorrupt, c.values, rows)
	default:
		c.broken = checkCodec(col.Compression())
	}
	return c, nil
}

func (p *parquetFile) path() string      { return p.name }
func (p *parquetFile) format() string    { return "parquet" }
func (p *parquetFile) size() int64       { return p.info.Size() }
func (p *parquetFile) identity() []byte  { return p.footer }
func (p *parquetFile) columns() []column { return p.cols }
func (p *parquetFile) groups() []int64   { return p.rows }
func (p *parquetFile) close() error      { return nil }

// weight implements [shard]. A chunk holds each of its values at least once,
// but where it leaves out what a value has in common with the one before.
func (p *parquetFile) weight(ctx context.Context, group int, c column) (size int64, err error) {
	ch := p.chunks[group][p.leafOf(c)]
	if !ch.prefixed {
		return max(ch.size, ch.to-ch.from), nil
	}
	for t, err := range p.read(ctx, group, []column{c}, nil) {
		if err != nil {
			return 0, err
		}
		for _, b := range t.cells[0].bytes {
			size += int64(len(b))
		}
		for _, s := range t.cells[0].strs {
			size += int64(len(s))
		}
	}
	return size, nil
}

// reopen opens the file for one read: a data set of ten thousand files must not
// need ten thousand descriptors. The file has to be the one it was.
func (p *parquetFile) reopen(ctx context.Context) (*input, error) {
	f, now, err := openInput(ctx, p.fs, p.name)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(now, p.info) || now.Size() != p.info.Size() || !now.ModTime().Equal(p.info.ModTime()) {
		f.Close()
		return nil, fmt.Errorf("%s: %w: %w: it has changed since it was opened", p.name, ErrRead, ErrCorrupt)
	}
	return f, nil
}

func (p *parquetFile) metadata(key string) string { return footerValue(p.footer, key) }
