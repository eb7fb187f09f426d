package storage

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// Hold reads a row group, by its number in the [pipeline.Layout], from its
// first byte to its last, and keeps it until as many calls of Release as there
// were of Hold: Read finds its rows in memory, beside the cache of
// Config.Memory. It takes the Bytes of the Layout and no more. A row group with
// a fault in it is not kept: a bad row is an error for those who Read it.
func (d *Dataset) Hold(ctx context.Context, group int) error {
	if err := d.usable(); err != nil {
		return err
	}
	if group < 0 || group >= len(d.parts) {
		return fmt.Errorf("storage: row group %d in a data set of %d", group, len(d.parts))
	}
	h := d.holds.acquire(group, true)
	h.loading.Lock()
	defer h.loading.Unlock()
	if h.loaded {
		return nil
	}
	if err := d.load(ctx, group, h); err != nil {
		d.holds.release(h)
		return err
	}
	h.loaded = true
	return nil
}

// Release undoes one [Dataset.Hold]. It may be called while others Read.
func (d *Dataset) Release(group int) {
	if h := d.holds.acquire(group, false); h != nil {
		d.holds.release(h)
		d.holds.release(h)
	}
}

// load reads all rows of a part into h.
func (d *Dataset) load(ctx context.Context, group int, h *heldGroup) error {
	layout, err := d.rowGroup(ctx, group)
	if err != nil {
		return err
	}
	h.rows = make([]heldRow, 0, layout.Rows)
	h.seen = make(map[uint64]int, layout.Rows)
	defer func() { h.seen = nil }()
	for recs, err := range d.records(ctx, group, nil) {
		if _, bad := errors.AsType[*RowError](err); bad && ofContent(err) {
			h.drop(&d.holds)
			h.apart = true
			return nil
		}
		if err != nil {
			h.drop(&d.holds)
			return err
		}
		for _, r := range recs {
			h.add(r, &d.holds)
		}
		if size := heldBytes(layout.Rows, h.size); size > layout.Bytes {
			h.drop(&d.holds)
			return d.rowError(d.parts[group], -1, "", fmt.Errorf("%w: its rows take more than the %d bytes that its metadata says", ErrMemory, layout.Bytes))
		}
	}
	return nil
}

// chunkSize is the unit in which held row groups take memory, so that the
// memory of one serves for the next, of whatever size.
const chunkSize = 16 << 10

// heldBytes is what a row group takes when it is held: whole chunks for size
// bytes of images and paths, and the bookkeeping of its rows, which is twice as
// much while it is read.
func heldBytes(rows, size int64) int64 {
	const row, group = 64, 4 << 10
	return (size+chunkSize-1)/chunkSize*chunkSize + row*rows + group
}

// holds are the row groups in memory, and chunks for more.
type holds struct {
	mu     sync.Mutex
	groups map[int]*heldGroup // by part
	free   [][]byte           // of chunkSize
}

// A heldGroup is a row group in memory. Images and paths lie one after the
// other in its chunks, without regard to where one ends.
type heldGroup struct {
	group int
	users int // under holds.mu

	loading sync.Mutex
	loaded  bool            // under loading, as is the rest until it is set
	apart   bool            // nothing is kept: there is a fault in it
	errs    map[int64]error // of rows that cannot be used, with Config.KeepBad
	like    pipeline.Record
	rows    []heldRow
	chunks  [][]byte
	size    int64 // bytes in chunks
	seen    map[uint64]int
}

// A heldRow is where the image and the path of a row begin, and their lengths.
type heldRow struct {
	image, path   int64
	bytes, length int32
}

var heldSeed = maphash.MakeSeed() // of sums that only find equal bytes

// acquire finds the group of a part, or makes it, and counts one more user of
// it; nil when it is not there and not to be made.
func (s *holds) acquire(group int, make bool) *heldGroup {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.groups[group]
	if h == nil && make {
		h = &heldGroup{group: group}
		if s.groups == nil {
			s.groups = map[int]*heldGroup{}
		}
		s.groups[group] = h
	}
	if h != nil {
		h.users++
	}
	return h
}

// release counts one user less, and lets go of a group without any.
func (s *holds) release(h *heldGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.users--; h.users > 0 {
		return
	}
	delete(s.groups, h.group)
	s.free = append(s.free, h.chunks...)
	h.chunks = nil
	if len(s.groups) == 0 {
		s.free = nil
	}
}

// chunk is memory for chunkSize bytes.
func (s *holds) chunk() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	return make([]byte, chunkSize)
}

// drop lets go of what was read so far.
func (h *heldGroup) drop(s *holds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, h.chunks...)
	h.rows, h.chunks, h.size, h.errs = nil, nil, 0, nil
}

// add keeps the next row. All rows of a group differ in nothing but sample id,
// row, label, image, path and error.
func (h *heldGroup) add(r pipeline.Record, s *holds) {
	h.like = r
	h.like.Image, h.like.Path, h.like.Err = nil, "", nil
	if r.Err != nil {
		if h.errs == nil {
			h.errs = map[int64]error{}
		}
		h.errs[int64(len(h.rows))] = r.Err
	}
	row := heldRow{bytes: int32(len(r.Image)), length: int32(len(r.Path))}
	row.image = h.put(r.Image, s)
	row.path = h.put([]byte(r.Path), s)
	h.rows = append(h.rows, row)
}

// put is where b is: bytes that are there already are kept once, as a
// dictionary of the file keeps them.
func (h *heldGroup) put(b []byte, s *holds) int64 {
	if len(b) == 0 {
		return 0
	}
	sum := maphash.Bytes(heldSeed, b)
	if at, ok := h.seen[sum]; ok && h.equal(int64(at), b) {
		return int64(at)
	}
	at := h.size
	h.seen[sum] = int(at)
	for len(b) > 0 {
		within := h.size % chunkSize
		if within == 0 {
			h.chunks = append(h.chunks, s.chunk())
		}
		n := copy(h.chunks[h.size/chunkSize][within:], b)
		h.size += int64(n)
		b = b[n:]
	}
	return at
}

// equal reports whether the bytes from at on are b.
func (h *heldGroup) equal(at int64, b []byte) bool {
	if at+int64(len(b)) > h.size {
		return false
	}
	for len(b) > 0 {
		c := h.chunks[at/chunkSize][at%chunkSize:]
		n := min(len(c), len(b))
		if string(c[:n]) != string(b[:n]) {
			return false
		}
		at += int64(n)
		b = b[n:]
	}
	return true
}

// get is a copy of n bytes from at on; nil for none.
func (h *heldGroup) get(at int64, n int32) []byte {
	if n == 0 {
		return nil
	}
	b := make([]byte, 0, n)
	for len(b) < int(n) {
		c := h.chunks[at/chunkSize][at%chunkSize:]
		c = c[:min(len(c), int(n)-len(b))]
		b = append(b, c...)
		at += int64(len(c))
	}
	return b
}

// record is row i, the receiver's own.
func (h *heldGroup) record(d *Dataset, i int64) pipeline.Record {
	r := h.like
	r.Where.Row = i
	r.ID = d.parts[h.group].first + i
	r.Label = d.labels[r.ID]
	r.Err = h.errs[i]
	row := h.rows[i]
	r.Image = h.get(row.image, row.bytes)
	r.Path = string(h.get(row.path, row.length))
	return r
}

// readHeld fills the given positions of dst from a part that is held; false
// when it is not.
func (d *Dataset) readHeld(part int, positions []int, ids []int64, dst []pipeline.Record) bool {
	h := d.holds.acquire(part, false)
	if h == nil {
		return false
	}
	defer d.holds.release(h)
	h.loading.Lock() // those who come while it is read wait for it
	held := h.loaded && !h.apart
	h.loading.Unlock()
	for _, at := range positions {
		if !held {
			return false
		}
		dst[at] = h.record(d, ids[at]-d.parts[part].first)
	}
	return held
}
