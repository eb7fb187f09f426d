package storage

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// A shelf holds the rows of a data set that is being prepared, in the order of
// the source, until it is known which are kept and where each goes. It consists
// of segments, parts of the [Job]; of a row only some numbers are in memory.
type shelf struct {
	job      *Job
	limit    int64 // bytes of a segment, about
	rows     []shelfRow
	kinds    []shelfKind
	number   map[shelfKind]uint16
	segments int  // that are whole
	complete bool // all rows of the source are in them

	mu   sync.Mutex
	open map[int32]File // segments open for reading

	part  *PartWriter // of the segment in the making; nil between two
	out   *bufio.Writer
	at    int64 // bytes written to it
	from  int   // its first row
	known int   // kinds of the segments before it
}

// A shelfRow is one row: what is decided by, and where the rest is.
type shelfRow struct {
	at      int64 // in its segment
	image   uint32
	path    uint16
	group   uint16
	label   int32
	segment int32
	crc     uint32 // of path, group and image
	kind    uint16
	pixels  [16]byte
}

// A shelfKind is a format and size of images. There are at most 65,536 of them
// in a shelf: what comes after is counted as the last.
type shelfKind struct {
	Format  string
	C, H, W int
}

// shelfInfo is what is known of a segment.
type shelfInfo struct {
	Rows     int         `json:"rows"`
	Complete bool        `json:"complete"` // the last one
	Kinds    []shelfKind `json:"kinds"`    // that are new in it
	TableAt  int64       `json:"table_at"`
	Table    string      `json:"table_sha256"`
}

const (
	shelfBytes = 128 << 20 // of a segment, at most about
	shelfCount = 1 << 16   // rows of a segment
	shelfWidth = 8 + 4 + 2 + 2 + 4 + 4 + 2 + 16
)

// openShelf finds the segments that are whole.
func openShelf(job *Job, limit int64) (*shelf, error) {
	s := &shelf{job: job, limit: limit, number: make(map[shelfKind]uint16), open: make(map[int32]File)}
	for n := 0; ; n++ {
		p, ok := job.Part(shelfName(n))
		if !ok {
			return s, nil
		}
		if err := s.load(n, p); err != nil {
			return nil, fmt.Errorf("%s: %w", job.Path(p), err)
		}
	}
}

func shelfName(n int) string { return fmt.Sprintf("spool/%05d", n) }

// load reads what is known of the rows of a segment.
func (s *shelf) load(n int, p Part) error {
	var info shelfInfo
	if err := json.Unmarshal(p.Info, &info); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	table := make([]byte, info.Rows*shelfWidth)
	f, err := s.job.fs.Open(s.job.Path(p))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadAt(table, info.TableAt); err != nil {
		return unexpected(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(table)); sum != info.Table {
		return fmt.Errorf("%w: its table is not the one that was committed", ErrCorrupt)
	}
	for _, k := range info.Kinds {
		s.kindOf(k)
	}
	le := binary.LittleEndian
	for ; len(table) > 0; table = table[shelfWidth:] {
		r := shelfRow{
			at: int64(le.Uint64(table)), image: le.Uint32(table[8:]), path: le.Uint16(table[12:]), group: le.Uint16(table[14:]),
			label: int32(le.Uint32(table[16:])), crc: le.Uint32(table[20:]), kind: le.Uint16(table[24:]), segment: int32(n),
		}
		copy(r.pixels[:], table[26:])
		s.rows = append(s.rows, r)
	}
	s.segments, s.complete = n+1, info.Complete
	return nil
}

func (s *shelf) kindOf(k shelfKind) uint16 {
	n, ok := s.number[k]
	if !ok && len(s.kinds) < 1<<16-1 {
		n = uint16(len(s.kinds))
		s.number[k] = n
		s.kinds = append(s.kinds, k)
	} else if !ok {
		n = 1<<16 - 1
	}
	return n
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// add takes the next row. Those that are not committed when the process ends
// are lost.
func (s *shelf) add(row PreparedRow) error {
	if len(row.Path) > 1<<16-1 || len(row.Group) > 1<<16-1 {
		return fmt.Errorf("row %d: %w: a path or group of more than 65535 bytes", len(s.rows), ErrValue)
	}
	if err := s.begin(); err != nil {
		return err
	}
	r := shelfRow{
		at: s.at, image: uint32(len(row.Image)), path: uint16(len(row.Path)), group: uint16(len(row.Group)),
		label: row.Label, segment: int32(s.segments), pixels: row.Pixels,
		kind: s.kindOf(shelfKind{row.Format, row.Shape.C, row.Shape.H, row.Shape.W}),
	}
	for _, b := range [][]byte{[]byte(row.Path), []byte(row.Group), row.Image} {
		r.crc = crc32.Update(r.crc, castagnoli, b)
		n, err := s.out.Write(b)
		if s.at += int64(n); err != nil {
			return err
		}
	}
	s.rows = append(s.rows, r)
	if s.at >= s.limit || len(s.rows)-s.from >= shelfCount {
		return s.commit(false)
	}
	return nil
}

// begin begins a segment where none is in the making.
func (s *shelf) begin() (err error) {
	if s.part != nil {
		return nil
	}
	if s.part, err = s.job.CreateAside(shelfName(s.segments)); err != nil {
		return err
	}
	s.out = bufio.NewWriterSize(s.part, 1<<18)
	s.at, s.from, s.known = 0, len(s.rows), len(s.kinds)
	return nil
}

// commit ends the segment: behind the rows stands a table of where they are.
func (s *shelf) commit(complete bool) error {
	if err := s.begin(); err != nil {
		return err
	}
	info := shelfInfo{Rows: len(s.rows) - s.from, Complete: complete, Kinds: s.kinds[s.known:], TableAt: s.at}
	le := binary.LittleEndian
	var table []byte
	for _, r := range s.rows[s.from:] {
		table = le.AppendUint64(table, uint64(r.at))
		table = le.AppendUint32(table, r.image)
		table = le.AppendUint16(table, r.path)
		table = le.AppendUint16(table, r.group)
		table = le.AppendUint32(table, uint32(r.label))
		table = le.AppendUint32(table, r.crc)
		table = le.AppendUint16(table, r.kind)
		table = append(table, r.pixels[:]...)
	}
	info.Table = fmt.Sprintf("%x", sha256.Sum256(table))
	if _, err := s.out.Write(table); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	if err := s.part.Commit(info); err != nil {
		return err
	}
	s.part, s.complete = nil, complete
	s.segments++
	return nil
}

// abort gives up the segment in the making.
func (s *shelf) abort() {
	if s.part != nil {
		s.part.Abort()
		s.part = nil
	}
}

// maxOpenSegments is how many segments are kept open: those past it are opened
// for each row.
const maxOpenSegments = 256

// read reads row i. Its Image is in buf, which is used again.
func (s *shelf) read(i int64, row *Row, buf *[]byte) error {
	r := s.rows[i]
	f, keep, err := s.segment(r.segment)
	if err != nil {
		return err
	}
	if !keep {
		defer f.Close()
	}
	size := int(r.path) + int(r.group) + int(r.image)
	*buf = slices.Grow((*buf)[:0], size)
	b := (*buf)[:size]
	if _, err := f.ReadAt(b, r.at); err != nil {
		return fmt.Errorf("read row %d of %s: %w", i, s.path(r.segment), unexpected(err))
	}
	if crc32.Checksum(b, castagnoli) != r.crc {
		return fmt.Errorf("%s: %w: row %d is not what was written", s.path(r.segment), ErrCorrupt, i)
	}
	row.Path, b = string(b[:r.path]), b[r.path:]
	row.Group, b = string(b[:r.group]), b[r.group:]
	row.Image, row.Label = b, r.label
	return nil
}

// path is where a segment is stored.
func (s *shelf) path(n int32) string { return s.job.Path(Part{Name: shelfName(int(n)), Aside: true}) }

// segment is a segment open for reading, and whether it stays open.
func (s *shelf) segment(n int32) (f File, keep bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.open[n]; ok {
		return f, true, nil
	}
	if f, err = s.job.fs.Open(s.path(n)); err != nil {
		return nil, false, err
	}
	if keep = len(s.open) < maxOpenSegments; keep {
		s.open[n] = f
	}
	return f, keep, nil
}

// close lets go of the segments.
func (s *shelf) close() {
	s.abort()
	for _, f := range s.open {
		f.Close()
	}
	clear(s.open)
}
