package storage

import "io"

// aheadSize is how many bytes are read at a time, at least.
const aheadSize = 64 << 10

// An ahead reads the bytes of a column chunk once, from its beginning to its
// end: what was read with one page's header is there for the next read. It is
// for those who read all of a chunk; one goroutine at a time uses it.
type ahead struct {
	src io.ReaderAt
	end int64 // of the chunk: nothing is read beyond it
	at  int64 // of the first byte in buf
	buf []byte
}

// ReadAt implements [io.ReaderAt].
func (a *ahead) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		if skip := off - a.at; skip >= 0 && skip < int64(len(a.buf)) {
			k := copy(b[n:], a.buf[skip:])
			n, off = n+k, off+int64(k)
			continue
		}
		if len(b)-n >= aheadSize || off >= a.end {
			k, err := a.src.ReadAt(b[n:], off)
			return n + k, err
		}
		if a.buf == nil {
			a.buf = make([]byte, 0, min(aheadSize, a.end-off))
		}
		size := min(int64(cap(a.buf)), a.end-off)
		a.at = off
		k, err := a.src.ReadAt(a.buf[:size], off)
		a.buf = a.buf[:k]
		if err != nil && k == 0 {
			return n, err
		}
	}
	return n, nil
}
