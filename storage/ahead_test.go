package storage

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// counted counts the bytes that are read of it.
type counted struct {
	io.ReaderAt
	n int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(b, off)
	c.n += n
	return n, err
}

func TestAheadReadsEachByteOnce(t *testing.T) {
	data := make([]byte, 1<<20)
	dice := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(dice.Uint32())
	}
	const from, end = 1000, 900_000
	src := &counted{ReaderAt: bytes.NewReader(data)}
	a := &ahead{src: src, end: end}
	for off := int64(from); off < end; {
		// A header is read with more than it is; the next read begins at its end.
		look := min(1024, end-off)
		size := min(int64(dice.IntN(200_000)), end-off)
		if dice.IntN(2) == 0 {
			size = min(size, 2000)
		}
		for _, n := range []int64{look, size} {
			b := make([]byte, n)
			if k, err := a.ReadAt(b, off); err != nil || k != len(b) || !bytes.Equal(b, data[off:off+n]) {
				t.Fatalf("ReadAt of %d bytes at %d: %d, %v", n, off, k, err)
			}
		}
		off += size
	}
	if most := (end - from) * 101 / 100; src.n > most {
		t.Errorf("read %d bytes of %d", src.n, end-from)
	}
	if _, err := a.ReadAt(make([]byte, 10), int64(len(data))-5); !errors.Is(err, io.EOF) {
		t.Errorf("past the end: %v", err)
	}
}
