package storage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Stream is the rows of an Arrow IPC stream as they arrive, for as long as
// they do: what [Open] reads to its end before anything else, this reads a
// record batch at a time. The sample id of a row is its place in the stream.
//
// Columns are found as Open finds them. Integer labels are class numbers;
// strings are numbered in the order in which they first appear, as there is no
// end at which they could be sorted.
//
// One goroutine at a time uses a Stream.
type Stream struct {
	r       io.Reader
	limit   int64 // bytes of a message
	set     Dataset
	index   arrowIndex // of one record batch
	nodes   int
	dicts   map[int64]*arrowDict
	names   map[string]int32
	batches int   // record batches read
	rows    int64 // in those
	err     error // after which there is nothing more; io.EOF at the end
}

// OpenStream reads the schema of an Arrow IPC stream. Of cfg, only the names of
// columns, Shape and Memory are used: Memory (default 256 MiB) bounds a record
// batch, as it is stored and decompressed; a larger one is [ErrMemory]. Paths may
// name the stream in errors.
//
// Where r has SetReadDeadline, as connections and pipes do, a cancelled context
// ends a read that waits; of others, the read has to return first.
func OpenStream(ctx context.Context, r io.Reader, cfg Config) (*Stream, error) {
	name := stdin
	if len(cfg.Paths) > 0 {
		name = cfg.Paths[0]
	}
	s := &Stream{r: r, limit: cmp.Or(cfg.Memory, DefaultMemory), dicts: map[int64]*arrowDict{}, names: map[string]int32{}}
	s.set.cfg = cfg
	if err := s.open(ctx, name); err != nil {
		if _, named := errors.AsType[*ColumnError](err); named {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func (s *Stream) open(ctx context.Context, name string) error {
	m, meta, err := s.message(ctx)
	switch {
	case err == io.EOF:
		return fmt.Errorf("read schema: %w: the stream ends where its schema should be", ErrCorrupt)
	case err != nil:
		return fmt.Errorf("read schema: %w", err)
	case m.kind != arrowSchemaMessage || m.body != 0:
		return fmt.Errorf("read schema: %w: the first message is of kind %d", ErrCorrupt, m.kind)
	}
	s.index = arrowIndex{stream: true, identity: meta}
	sh := &arrowShard{src: &source{path: name}, index: &s.index, limit: s.limit}
	err = guarded(func() (err error) {
		s.index.schema, err = readArrowSchema(m.header)
		return err
	})
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	for i, f := range s.index.schema.fields {
		sh.cols = append(sh.cols, f.column(i))
	}
	s.nodes = countNodes(s.index.schema.fields)
	r, err := findRoles(sh, s.set.cfg)
	if err != nil {
		return err
	}
	if r.image == nil {
		return fmt.Errorf("%w: no image column (found: %v)", ErrSchema, describe(sh.cols))
	}
	r.embedding = nil
	s.set.shards, s.set.roles = []shard{sh}, []roles{r}
	s.set.classes, err = classNames(sh, r.label.name)
	if r.label.kind == kindString {
		s.set.classes = nil // the names are the labels
	}
	return err
}

// Digest identifies the kind of stream it is: it is that of its schema.
func (s *Stream) Digest() string { return pipeline.Digest("stream", s.index.identity) }

// Classes are the names of the classes by number, as far as they have appeared;
// nil where integer labels come without names.
func (s *Stream) Classes() []string { return s.set.classes }

// Rows is how many rows have been read.
func (s *Stream) Rows() int64 { return s.rows }

// Run implements [pipeline.Source]: the rows from where the stream is, to its
// end. It reads no further than its receiver does, but for one record batch.
func (s *Stream) Run(ctx context.Context, out chan<- pipeline.Record) error {
	for {
		recs, err := s.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range recs {
			if err := pipeline.Send(ctx, out, r); err != nil {
				return err
			}
		}
	}
}

// Next is the rows of the next record batch, the receiver's own, or [io.EOF] at
// the end of the stream. A row that cannot be read is a [*RowError]: its
// RowGroup is the number of the record batch. After an error there is nothing more.
func (s *Stream) Next(ctx context.Context) (recs []pipeline.Record, err error) {
	if s.err != nil {
		return nil, s.err
	}
	defer func() {
		if s.err = err; err == nil || err == io.EOF {
			return
		}
		name := s.set.shards[0].path()
		if at, ok := errors.AsType[*RowError](err); ok {
			at.RowGroup = s.batches
		} else if context.Cause(ctx) == nil {
			err = fmt.Errorf("%s: read message behind record batch %d: %w", name, s.batches, err)
		}
		s.err = err
	}()
	for len(recs) == 0 {
		m, _, err := s.message(ctx)
		if err != nil {
			return nil, err
		}
		body, err := s.bytes(ctx, m.body)
		if err != nil {
			return nil, err
		}
		switch m.kind {
		case arrowDictionaryMessage:
			err = guarded(func() error { return s.index.addDict(s.dicts, m, body, true) })
			if size := s.dictionaries(); err == nil && size > s.limit {
				err = fmt.Errorf("%w: dictionaries of %d bytes, limit %d", ErrMemory, size, s.limit)
			}
		case arrowBatchMessage:
			if recs, err = s.batch(ctx, m, body); err == nil {
				s.batches++
				s.rows += int64(len(recs))
			}
		default:
			err = fmt.Errorf("%w: message of kind %d", ErrUnsupported, m.kind)
		}
		if err != nil {
			return nil, err
		}
	}
	return recs, nil
}

// dictionaries is how many bytes they take as they came, with those that they
// are additions to.
func (s *Stream) dictionaries() (size int64) {
	for _, d := range s.dicts {
		for ; d != nil; d = d.before {
			size += int64(len(d.batch.body))
		}
	}
	return size
}

// batch is the rows of a record batch.
func (s *Stream) batch(ctx context.Context, m arrowMessage, body []byte) ([]pipeline.Record, error) {
	d := &s.set
	sh := d.shards[0].(*arrowShard)
	var g arrowGroup
	if err := guarded(func() error {
		g = arrowGroup{readArrowBatch(m.header, body, m.v4), s.dicts}
		return g.check(s.nodes, s.limit)
	}); err != nil {
		return nil, sh.errorAt(s.batches, -1, "", err)
	}
	if g.rows == 0 {
		return nil, nil
	}
	s.index.batches = []arrowGroup{g}
	sh.rows = []int64{g.rows}
	d.parts = []part{{rows: g.rows}}
	d.rows = g.rows
	if err := s.label(ctx); err != nil {
		return nil, err
	}
	if d.raw == (pipeline.Raw{}) {
		if err := d.measure(ctx); err != nil {
			return nil, err
		}
	}
	recs := make([]pipeline.Record, 0, min(g.rows, tableRows))
	for some, err := range d.records(ctx, 0, nil) {
		if err != nil {
			return nil, err
		}
		for _, r := range some {
			r.ID += s.rows
			r.Where.RowGroup = s.batches
			recs = append(recs, r)
		}
	}
	return recs, nil
}

// label reads the labels of the record batch at hand.
func (s *Stream) label(ctx context.Context) error {
	d := &s.set
	var v values
	label := *d.roles[0].label
	if err := d.readValues(ctx, d.parts[0], []column{label}, []*values{&v}); err != nil {
		return err
	}
	d.labels = d.labels[:0]
	for k, n := range v.numbers {
		switch most := int64(len(d.classes)) - 1; {
		case n < 0 && (label.kind == kindString || n == -1):
			d.labels = append(d.labels, pipeline.Unknown)
		case label.kind == kindString:
			number, ok := s.names[v.names[n]]
			if !ok {
				number = int32(len(d.classes))
				s.names[v.names[n]] = number
				d.classes = append(d.classes, v.names[n])
			}
			d.labels = append(d.labels, number)
		case n < 0 || n > math.MaxInt32 || d.classes != nil && n > most:
			want := fmt.Sprintf("−1 (unknown) to %d", math.MaxInt32)
			if d.classes != nil {
				want = fmt.Sprintf("one of %d classes", len(d.classes))
			}
			return d.rowError(d.parts[0], int64(k), label.name, fmt.Errorf("%w: label %d, want %s", ErrValue, n, want))
		default:
			d.labels = append(d.labels, int32(n))
		}
	}
	return nil
}

// message reads the metadata of the next message; io.EOF at the end of the stream.
func (s *Stream) message(ctx context.Context) (m arrowMessage, meta []byte, err error) {
	word := func() (uint32, error) {
		b, err := s.bytes(ctx, 4)
		if err != nil {
			return 0, err
		}
		return binary.LittleEndian.Uint32(b), nil
	}
	n, err := word()
	if err == nil && n == continuation {
		n, err = word()
	}
	switch {
	case err != nil:
		return m, nil, err
	case n == 0:
		return m, nil, io.EOF
	}
	if meta, err = s.bytes(ctx, int64(n)); err != nil {
		return m, nil, err
	}
	err = guarded(func() (err error) {
		m, err = readArrowMessage(meta)
		return err
	})
	return m, meta, err
}

// bytes reads n bytes. Memory grows with what has arrived, whatever n says.
func (s *Stream) bytes(ctx context.Context, n int64) ([]byte, error) {
	if n > s.limit {
		return nil, fmt.Errorf("%w: message of %d bytes, limit %d: allow more memory, or write smaller record batches", ErrMemory, n, s.limit)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if r, ok := s.r.(interface{ SetReadDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	var b bytes.Buffer
	b.Grow(int(min(n, 64<<10)))
	got, err := io.CopyN(&b, s.r, n)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: no end-of-stream marker: the stream has been cut short, %d bytes are missing", ErrCorrupt, n-got)
	case err != nil:
		return nil, err
	}
	return b.Bytes(), nil
}
