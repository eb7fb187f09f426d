package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// An arrowIndex says what is where in an Arrow file or stream.
type arrowIndex struct {
	stream   bool
	schema   arrowSchema
	identity []byte // the footer of a file, the schema message of a stream
	batches  []arrowGroup
}

// An arrowGroup is a record batch and the dictionaries that its indices are
// into: those that stood before it in a stream, all of them in a file.
type arrowGroup struct {
	arrowBatch
	dicts map[int64]*arrowDict // by dictionary id; shared between groups
}

// Kinds of messages, by the numbers in Arrow's Message.fbs.
const (
	arrowSchemaMessage     = 1
	arrowDictionaryMessage = 2
	arrowBatchMessage      = 3
)

const (
	arrowMagic   = "ARROW1"
	arrowV4      = 3          // metadata version of Arrow 0.8 to 0.17
	arrowV5      = 4          // of Arrow 1.0 and later
	continuation = 0xffffffff // before the length of a message since Arrow 0.15
)

// indexArrow finds the messages of a file or stream and checks where they say
// their parts are. No values are looked at.
func indexArrow(data []byte) (*arrowIndex, error) {
	switch {
	case bytes.HasPrefix(data, []byte(arrowMagic)):
		return indexArrowFile(data)
	case bytes.HasPrefix(data, []byte("PAR1")):
		return nil, fmt.Errorf("%w: Parquet where Arrow is expected: name a file that ends in .parquet", ErrUnsupported)
	case bytes.HasPrefix(data, []byte("FEA1")):
		return nil, fmt.Errorf("%w: Feather of version 1: write the file again in version 2", ErrUnsupported)
	}
	return indexArrowStream(data)
}

// An arrowMessage is a message's metadata, and how long its body is.
type arrowMessage struct {
	kind   byte
	v4     bool
	header flat
	body   int64
}

func readArrowMessage(meta []byte) (arrowMessage, error) {
	t := flatRoot(meta)
	version := t.int16(0)
	if version < arrowV4 || version > arrowV5 {
		return arrowMessage{}, fmt.Errorf("%w: metadata version %d, want %d or %d", ErrUnsupported, version+1, arrowV4+1, arrowV5+1)
	}
	m := arrowMessage{kind: t.byte(1), v4: version == arrowV4, body: t.int64(3)}
	header, ok := t.table(2)
	if !ok || m.body < 0 {
		return m, fmt.Errorf("%w: message without a header, or with a body of %d bytes", ErrCorrupt, m.body)
	}
	m.header = header
	return m, nil
}

// errStreamEnd is what nextArrowMessage returns at the end-of-stream marker.
var errStreamEnd = errors.New("end of stream")

// nextArrowMessage splits the message at the start of data into metadata and
// what follows it.
func nextArrowMessage(data []byte) (meta, rest []byte, err error) {
	word := func() (n uint32, ok bool) {
		if len(data) < 4 {
			return 0, false
		}
		n, data = binary.LittleEndian.Uint32(data), data[4:]
		return n, true
	}
	n, ok := word()
	if ok && n == continuation {
		n, ok = word()
	}
	switch {
	case !ok:
		return nil, nil, fmt.Errorf("%w: no end-of-stream marker: the stream has been cut short", ErrCorrupt)
	case n == 0:
		return nil, data, errStreamEnd
	case uint64(n) > uint64(len(data)):
		return nil, nil, fmt.Errorf("%w: message of %d bytes, %d bytes left", ErrCorrupt, n, len(data))
	}
	return data[:n:n], data[n:], nil
}

func indexArrowStream(data []byte) (*arrowIndex, error) {
	x := &arrowIndex{stream: true}
	meta, rest, err := nextArrowMessage(data)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", notCut(err))
	}
	m, err := readArrowMessage(meta)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	if m.kind != arrowSchemaMessage || m.body != 0 {
		return nil, fmt.Errorf("read schema: %w: the first message is of kind %d", ErrCorrupt, m.kind)
	}
	if x.schema, err = readArrowSchema(m.header); err != nil {
		return nil, err
	}
	x.identity = meta
	dicts, used := map[int64]*arrowDict{}, false
	for {
		at := len(data) - len(rest)
		meta, body, err := nextArrowMessage(rest)
		if err == errStreamEnd {
			if len(body) > 0 {
				return nil, fmt.Errorf("%w: %d bytes after the end of the stream", ErrCorrupt, len(body))
			}
			return x, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read message %d bytes in: %w", at, err)
		}
		m, err := readArrowMessage(meta)
		if err != nil {
			return nil, fmt.Errorf("read message %d bytes in: %w", at, err)
		}
		if m.body > int64(len(body)) {
			return nil, fmt.Errorf("%w: message %d bytes in has a body of %d bytes, %d bytes left", ErrCorrupt, at, m.body, len(body))
		}
		body, rest = body[:m.body:m.body], body[m.body:]
		switch m.kind {
		case arrowBatchMessage:
			x.batches = append(x.batches, arrowGroup{readArrowBatch(m.header, body, m.v4), dicts})
			used = true
		case arrowDictionaryMessage:
			if used { // earlier batches keep theirs
				dicts, used = maps.Clone(dicts), false
			}
			if err := x.addDict(dicts, m, body, true); err != nil {
				return nil, fmt.Errorf("read message %d bytes in: %w", at, err)
			}
		default:
			return nil, fmt.Errorf("%w: message %d bytes in is of kind %d", ErrUnsupported, at, m.kind)
		}
	}
}

// notCut is err, but for an end of stream: a corrupt file.
func notCut(err error) error {
	if err == errStreamEnd {
		return fmt.Errorf("%w: the stream ends where its schema should be", ErrCorrupt)
	}
	return err
}

func indexArrowFile(data []byte) (*arrowIndex, error) {
	tail := len(arrowMagic) + 4 // length of the footer, magic
	if len(data) < 8+tail || string(data[len(data)-len(arrowMagic):]) != arrowMagic {
		return nil, fmt.Errorf("%w: does not end with %s: the file has been cut short", ErrCorrupt, arrowMagic)
	}
	rest := data[:len(data)-tail]
	n := binary.LittleEndian.Uint32(data[len(rest):])
	if int64(n) > int64(len(rest)-8) {
		return nil, fmt.Errorf("%w: footer of %d bytes in a file of %d", ErrCorrupt, n, len(data))
	}
	footerAt := len(rest) - int(n)
	x := &arrowIndex{identity: rest[footerAt:]}
	t := flatRoot(x.identity)
	schema, ok := t.table(1)
	if !ok {
		return nil, fmt.Errorf("%w: footer without a schema", ErrCorrupt)
	}
	var err error
	if x.schema, err = readArrowSchema(schema); err != nil {
		return nil, err
	}
	file := data[:footerAt]
	dictBlocks, batchBlocks := t.structs(2, 24), t.structs(3, 24)
	if err := apart(dictBlocks, batchBlocks); err != nil {
		return nil, err
	}
	dicts := map[int64]*arrowDict{}
	for i := 0; i < len(dictBlocks); i += 24 {
		m, body, err := readArrowBlock(file, dictBlocks[i:i+24], arrowDictionaryMessage)
		if err == nil {
			err = x.addDict(dicts, m, body, false)
		}
		if err != nil {
			return nil, fmt.Errorf("read dictionary batch %d: %w", i/24, err)
		}
	}
	for i := 0; i < len(batchBlocks); i += 24 {
		m, body, err := readArrowBlock(file, batchBlocks[i:i+24], arrowBatchMessage)
		if err != nil {
			return nil, fmt.Errorf("read record batch %d: %w", i/24, err)
		}
		x.batches = append(x.batches, arrowGroup{readArrowBatch(m.header, body, m.v4), dicts})
	}
	return x, nil
}

// block is what a Block struct of a footer says: where a message is.
func block(b []byte) (at, meta, body int64) {
	return int64(binary.LittleEndian.Uint64(b)), int64(int32(binary.LittleEndian.Uint32(b[8:]))), int64(binary.LittleEndian.Uint64(b[16:]))
}

// apart checks that no two blocks share bytes: together they are no more than
// the file, however often it is read.
func apart(blocks ...[]byte) error {
	type extent struct{ from, to int64 }
	var all []extent
	for _, b := range blocks {
		for i := 0; i < len(b); i += 24 {
			at, meta, body := block(b[i:])
			if at < 8 || meta < 8 || body < 0 || at > 1<<62 || body > 1<<62 {
				return fmt.Errorf("%w: footer has a block at %d of %d and %d bytes", ErrCorrupt, at, meta, body)
			}
			all = append(all, extent{at, at + meta + body})
		}
	}
	slices.SortFunc(all, func(a, b extent) int { return int(min(max(a.from-b.from, -1), 1)) })
	for i := 1; i < len(all); i++ {
		if all[i].from < all[i-1].to {
			return fmt.Errorf("%w: footer has two blocks that share byte %d", ErrCorrupt, all[i].from)
		}
	}
	return nil
}

// readArrowBlock is the message that a block of the footer names.
func readArrowBlock(file, b []byte, kind byte) (m arrowMessage, body []byte, err error) {
	at, metaLen, bodyLen := block(b)
	if at+metaLen+bodyLen > int64(len(file)) {
		return m, nil, fmt.Errorf("%w: block of %d and %d bytes at %d, in %d bytes", ErrCorrupt, metaLen, bodyLen, at, len(file))
	}
	meta, _, err := nextArrowMessage(file[at : at+metaLen])
	if err != nil {
		return m, nil, notCut(err)
	}
	if m, err = readArrowMessage(meta); err != nil {
		return m, nil, err
	}
	if m.kind != kind || m.body > bodyLen {
		return m, nil, fmt.Errorf("%w: message of kind %d with a body of %d bytes, want kind %d and %d", ErrCorrupt, m.kind, m.body, kind, bodyLen)
	}
	at += metaLen
	return m, file[at : at+m.body : at+m.body], nil
}
