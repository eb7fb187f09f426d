package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tercet-ml/tercet/pipeline"
)

// A VectorReader reads an Arrow IPC stream of embeddings while it is written:
// id, an integer, and embedding, a list of float32 or float64. Other columns are
// passed over. Bytes that make no sense are errors that say which batch and row.
type VectorReader struct {
	r         io.Reader
	schema    arrowSchema
	id, at    int // the columns
	dim       int
	batches   int
	meta, buf []byte
}

// Limits of a stream that is read as it comes: lengths in it are taken at their
// word up to here.
const (
	maxVectorMeta = 1 << 20
	maxVectorBody = 1 << 28
)

// NewVectorReader reads the schema.
func NewVectorReader(r io.Reader) (*VectorReader, error) {
	v := &VectorReader{r: r, id: -1, at: -1}
	err := guarded(func() error {
		m, _, err := v.message()
		if err != nil {
			return err
		}
		if m.kind != arrowSchemaMessage || m.body != 0 {
			return fmt.Errorf("%w: the first message is of kind %d", ErrCorrupt, m.kind)
		}
		v.schema, err = readArrowSchema(m.header)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	for i, f := range v.schema.fields {
		switch {
		case f.name == "id" && f.typ == arrowInt && f.dict == nil:
			v.id = i
		case f.name == "embedding" && f.column(i).kind == kindFloats:
			v.at, v.dim = i, f.size
		}
	}
	if v.id < 0 || v.at < 0 {
		return nil, fmt.Errorf("%w: columns are %v, want id: int64 and embedding: fixed_size_list<float>", ErrSchema, v.schema.names())
	}
	return v, nil
}

// names are the columns with their types.
func (s *arrowSchema) names() []string {
	var names []string
	for _, f := range s.fields {
		names = append(names, f.name+": "+f.String())
	}
	return names
}

// Metadata is a value of the schema's metadata; "" where there is none.
func (v *VectorReader) Metadata(key string) string { return v.schema.meta[key] }

// Read returns the next batch. Its rows are NaN where a value is null. The end
// of the stream is io.EOF, marked or not; inside a message it is an error that
// wraps io.ErrUnexpectedEOF. What is returned is the caller's.
func (v *VectorReader) Read() (ids []int64, rows pipeline.Embeddings, err error) {
	err = guarded(func() error {
		m, body, err := v.message()
		if err != nil {
			return err
		}
		if m.kind != arrowBatchMessage {
			return fmt.Errorf("%w: message of kind %d", ErrUnsupported, m.kind)
		}
		ids, rows, err = v.batch(m, body)
		return err
	})
	if err != nil {
		if err != io.EOF {
			err = fmt.Errorf("read batch %d: %w", v.batches, err)
		}
		return nil, pipeline.Embeddings{}, err
	}
	v.batches++
	return ids, rows, nil
}

func (v *VectorReader) batch(m arrowMessage, body []byte) (ids []int64, rows pipeline.Embeddings, err error) {
	b := readArrowBatch(m.header, body, m.v4)
	mem := &budget{limit: maxVectorBody}
	if err := b.check(countNodes(v.schema.fields), mem.limit); err != nil {
		return nil, rows, err
	}
	var cur arrowCursor
	columns := make([]*vector, len(v.schema.fields))
	for i, f := range v.schema.fields {
		if i != v.id && i != v.at {
			b.skip(&cur, f)
			continue
		}
		if columns[i], err = b.vector(&cur, f, nil, b.rows, mem); err != nil {
			return nil, rows, err
		}
	}
	id, list := columns[v.id], columns[v.at]
	rows.Dim = v.dim
	for i := range b.rows {
		if id.null(i) || list.null(i) {
			return nil, rows, fmt.Errorf("row %d: %w", i, ErrNull)
		}
		n, err := id.int(i)
		if err != nil {
			return nil, rows, fmt.Errorf("row %d: %w", i, err)
		}
		from, to, err := list.bounds(i)
		if err != nil {
			return nil, rows, fmt.Errorf("row %d: %w", i, err)
		}
		if rows.Dim == 0 {
			rows.Dim = int(min(to-from, maxDim+1))
		}
		if int64(rows.Dim) != to-from || rows.Dim < 1 || rows.Dim > maxDim {
			return nil, rows, fmt.Errorf("row %d: %w: embedding of %d values, want %d in all rows and at most %d", i, ErrValue, to-from, rows.Dim, maxDim)
		}
		if 4*(len(rows.Data)+rows.Dim) > maxVectorBody {
			return nil, rows, fmt.Errorf("%w: more than %d bytes of embeddings in a batch", ErrMemory, maxVectorBody)
		}
		ids = append(ids, n)
		rows.Data = list.children[0].floats(rows.Data, from, to)
	}
	return ids, rows, nil
}

// message reads the next message. At the end of the stream its error is io.EOF.
func (v *VectorReader) message() (m arrowMessage, body []byte, err error) {
	var word [4]byte
	if _, err := io.ReadFull(v.r, word[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return m, nil, err
	}
	n := binary.LittleEndian.Uint32(word[:])
	if n == continuation {
		if _, err := io.ReadFull(v.r, word[:]); err != nil {
			return m, nil, fmt.Errorf("%w: %w", ErrCorrupt, noEOF(err))
		}
		n = binary.LittleEndian.Uint32(word[:])
	}
	if n == 0 {
		return m, nil, io.EOF
	}
	if n > maxVectorMeta {
		return m, nil, fmt.Errorf("%w: a message of %d bytes (the first 4 are %q): not an Arrow IPC stream", ErrCorrupt, n, word)
	}
	if v.meta, err = readInto(v.meta, v.r, int64(n)); err != nil {
		return m, nil, err
	}
	if m, err = readArrowMessage(v.meta); err != nil {
		return m, nil, err
	}
	if m.body > maxVectorBody {
		return m, nil, fmt.Errorf("%w: a message with a body of %d bytes, want at most %d", ErrMemory, m.body, maxVectorBody)
	}
	v.buf, err = readInto(v.buf, v.r, m.body)
	return m, v.buf, err
}

// readInto reads n bytes to buf, which grows as they come and not before.
func readInto(buf []byte, r io.Reader, n int64) ([]byte, error) {
	buf = buf[:0]
	for int64(len(buf)) < n {
		have := len(buf)
		step := min(n-int64(have), max(1<<20, int64(have)))
		buf = append(buf, make([]byte, step)...)
		if _, err := io.ReadFull(r, buf[have:]); err != nil {
			return buf, fmt.Errorf("%w: %w", ErrCorrupt, noEOF(err))
		}
	}
	return buf, nil
}

// noEOF is err, where the end of the input is not expected.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
