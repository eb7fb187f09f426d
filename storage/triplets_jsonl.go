package storage

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// A jsonEncoder writes each row as a line of JSON, members in the order of the
// columns. The first line has one more, "tercet": the metadata as a string, the
// same text as in the other formats. So every line is a row, and readers that
// take a table from it see one more column, null but for its first row. A file
// without rows is one line with that member alone.
type jsonEncoder struct {
	w    io.Writer
	meta string // until it is written
	buf  bytes.Buffer
}

func newJSONEncoder(w io.Writer, meta string) *jsonEncoder { return &jsonEncoder{w: w, meta: meta} }

func (e *jsonEncoder) write(f frame) error {
	e.buf.Reset()
	for r := range f.rows() {
		e.buf.WriteByte('{')
		for i := range f {
			if i > 0 {
				e.buf.WriteByte(',')
			}
			e.member(&f[i], r)
		}
		if e.meta != "" {
			e.buf.WriteString(`,"` + metaKey + `":`)
			e.quote(e.meta)
			e.meta = ""
		}
		e.buf.WriteString("}\n")
	}
	_, err := e.w.Write(e.buf.Bytes())
	return err
}

func (e *jsonEncoder) member(c *frameColumn, r int) {
	e.buf.WriteString(`"` + c.name + `":`)
	b := e.buf.AvailableBuffer()
	switch c.typ {
	case frameInt64:
		e.buf.Write(strconv.AppendInt(b, c.i64[r], 10))
	case frameInt32:
		e.buf.Write(strconv.AppendInt(b, int64(c.i32[r]), 10))
	case frameFloat32:
		e.buf.Write(appendJSONFloat(b, c.f32[r]))
	case frameString:
		e.quote(c.str[r])
	case frameKind:
		e.buf.WriteString(`"` + kindNames[c.kind[r]] + `"`)
	}
}

// appendJSONFloat appends the shortest decimal that reads back as v, with a point
// or an exponent, so that readers that guess types see a float in the first row.
func appendJSONFloat(b []byte, v float32) []byte {
	start := len(b)
	b = strconv.AppendFloat(b, float64(v), 'g', -1, 32)
	if !bytes.ContainsAny(b[start:], ".e") {
		b = append(b, ".0"...)
	}
	return b
}

func (e *jsonEncoder) quote(s string) {
	enc := json.NewEncoder(&e.buf)
	enc.SetEscapeHTML(false)
	enc.Encode(s) // of a string to memory: cannot fail
	e.buf.Truncate(e.buf.Len() - 1)
}

func (e *jsonEncoder) close(string) error {
	if e.meta == "" {
		return nil
	}
	e.buf.Reset()
	e.buf.WriteString(`{"` + metaKey + `":`)
	e.quote(e.meta)
	e.buf.WriteString("}\n")
	_, err := e.w.Write(e.buf.Bytes())
	return err
}

// jsonLine is the longest line that is read: a row with three paths and the metadata.
const jsonLine = 1 << 20

// jsonBlock is how many bytes end a block early: what a reader holds at a time.
const jsonBlock = 2 * frameText

// A jsonDecoder reads what a [jsonEncoder] wrote, and nothing else: the same
// members in the same order, without spaces.
type jsonDecoder struct {
	r      io.ReaderAt
	size   int64
	starts []int64 // where each block begins: frameRows lines or, with long ones, at least jsonBlock bytes
	lines  []int   // the line that each block begins with, from 0
	text   string
	cols   []string // members of the first line but the metadata
}

func newJSONDecoder(r io.ReaderAt, size int64) (*jsonDecoder, error) {
	d := &jsonDecoder{r: r, size: size}
	lines := jsonLines(r, 0, size)
	var at int64
	for n := 0; ; n++ {
		line, err := readLine(lines)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if n == 0 {
			if err := d.first(line); err != nil {
				return nil, fmt.Errorf("line 1: %w", err)
			}
		}
		if k := len(d.starts) - 1; len(d.cols) > 0 && (k < 0 || n-d.lines[k] == frameRows || at-d.starts[k] >= jsonBlock) {
			d.starts, d.lines = append(d.starts, at), append(d.lines, n)
		}
		at += int64(len(line)) + 1
	}
	return d, nil
}

// jsonLines reads a part of a file.
func jsonLines(r io.ReaderAt, start, end int64) *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(r, start, end-start), int(min(jsonLine, end-start+1)))
}

// readLine returns the next line without its end, or io.EOF at the end of the file.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case err == bufio.ErrBufferFull:
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrCorrupt, jsonLine)
	case err == io.EOF && len(line) > 0:
		return nil, fmt.Errorf("%w: ends without a line feed", ErrCorrupt)
	}
	return nil, err
}

// first takes the names and the metadata from the first line.
func (d *jsonDecoder) first(line []byte) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%w: not a JSON object", ErrCorrupt)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		value, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if name == metaKey {
			d.text, _ = value.(string)
		} else {
			d.cols = append(d.cols, name.(string))
		}
	}
	return nil
}

func (d *jsonDecoder) meta() (string, bool) { return d.text, d.text != "" }

func (d *jsonDecoder) check(layout frame) error {
	if len(d.cols) == 0 {
		return nil // no rows
	}
	return checkNames(d.cols, layout, func(i int) string { return layout[i].typ.String() })
}

func (d *jsonDecoder) names() []string { return d.cols }

func (d *jsonDecoder) blocks() int { return len(d.starts) }

func (d *jsonDecoder) read(i int, f frame) error {
	f.reset()
	end := d.size
	if i+1 < len(d.starts) {
		end = d.starts[i+1]
	}
	lines := jsonLines(d.r, d.starts[i], end)
	for n := 0; ; n++ {
		line, err := readLine(lines)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = d.row(string(line), f, i == 0 && n == 0)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", d.lines[i]+n+1, err)
		}
	}
}

// row parses one line into f.
func (d *jsonDecoder) row(line string, f frame, first bool) error {
	for i := range f {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		rest, ok := strings.CutPrefix(line, sep+`"`+f[i].name+`":`)
		if !ok {
			return fmt.Errorf("%w: member %q is not where it belongs", ErrCorrupt, f[i].name)
		}
		value, rest, err := cutValue(rest)
		if err == nil {
			err = f[i].parse(value)
		}
		if err != nil {
			return fmt.Errorf("member %q: %w", f[i].name, err)
		}
		line = rest
	}
	if first {
		rest, ok := strings.CutPrefix(line, `,"`+metaKey+`":`)
		if !ok {
			return fmt.Errorf("%w: no metadata", ErrCorrupt)
		}
		var err error
		if _, line, err = cutValue(rest); err != nil {
			return err
		}
	}
	if line != "}" {
		return fmt.Errorf("%w: more members than columns", ErrCorrupt)
	}
	return nil
}

// cutValue splits a number or a string off s.
func cutValue(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, ",}")
		if i < 0 {
			return "", "", fmt.Errorf("%w: unexpected end of line", ErrCorrupt)
		}
		return s[:i], s[i:], nil
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[:i+1], s[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("%w: unexpected end of line", ErrCorrupt)
}

// parse appends the value that a JSON text stands for.
func (c *frameColumn) parse(text string) error {
	var err error
	switch c.typ {
	case frameInt64:
		var v int64
		v, err = strconv.ParseInt(text, 10, 64)
		c.i64 = append(c.i64, v)
	case frameInt32:
		var v int64
		v, err = strconv.ParseInt(text, 10, 32)
		c.i32 = append(c.i32, int32(v))
	case frameFloat32:
		var v float64
		v, err = strconv.ParseFloat(text, 32)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			err = errors.New("not a finite number")
		}
		c.f32 = append(c.f32, float32(v))
	default:
		if n := len(text) - 1; n > 0 && text[0] == '"' && text[n] == '"' && !strings.Contains(text, `\`) {
			return c.appendString([]byte(text[1:n])) // as most are
		}
		var s string
		if err = json.Unmarshal([]byte(text), &s); err == nil {
			return c.appendString([]byte(s))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
