package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow/go/v17/parquet"
)

// The decoders of the library believe what a page says of itself: they allocate
// by its counts, loop until they have as many values as it promises, and index
// dictionaries that are not there. So each page is walked before they see it.

// runs walks n values of the given bit width in Parquet's hybrid of runs and
// bit-packed groups, and calls visit with each value and how often it comes in
// a row.
func runs(b []byte, width, n int, visit func(v uint32, count int)) error {
	if width < 0 || width > 32 {
		return fmt.Errorf("%w: values of %d bits", ErrCorrupt, width)
	}
	for n > 0 {
		head, k := binary.Uvarint(b)
		if k <= 0 {
			return fmt.Errorf("%w: %d values are missing from a page", ErrCorrupt, n)
		}
		b = b[k:]
		count := head >> 1
		if count == 0 || count > 1<<28-1 {
			return fmt.Errorf("%w: a run of %d values", ErrCorrupt, count)
		}
		if head&1 == 0 {
			size := (width + 7) / 8
			if len(b) < size {
				return fmt.Errorf("%w: %d values are missing from a page", ErrCorrupt, n)
			}
			var v uint32
			for i := range size {
				v |= uint32(b[i]) << (8 * i)
			}
			k := min(int(count), n)
			visit(v, k)
			b, n = b[size:], n-k
			continue
		}
		k = min(int(count)*8, n)
		if len(b)*8 < k*width {
			return fmt.Errorf("%w: %d values are missing from a page", ErrCorrupt, n)
		}
		unpack(b, width, k, visit)
		b, n = b[min(len(b), int(count)*width):], n-k
	}
	return nil
}

// unpack visits n bit-packed values, which b is long enough for.
func unpack(b []byte, width, n int, visit func(v uint32, count int)) {
	if width == 0 {
		visit(0, n)
		return
	}
	var bits uint64
	var have int
	mask := uint64(1)<<width - 1
	for range n {
		for have < width {
			bits |= uint64(b[0]) << have
			b = b[1:]
			have += 8
		}
		visit(uint32(bits&mask), 1)
		bits >>= width
		have -= width
	}
}

// checkLevels makes sure that b holds n levels of at most most, and counts
// those that are most.
func checkLevels(b []byte, most int16, n int) (full int, err error) {
	over := false
	width := 0
	for m := most; m > 0; m >>= 1 {
		width++
	}
	err = runs(b, width, n, func(v uint32, count int) {
		over = over || v > uint32(most)
		if v == uint32(most) {
			full += count
		}
	})
	if err == nil && over {
		err = fmt.Errorf("%w: a level is above %d", ErrCorrupt, most)
	}
	return full, err
}

// checkIndices makes sure that b holds n indices into a dictionary of size values.
func checkIndices(b []byte, n, size int) error {
	if n == 0 {
		return nil
	}
	if len(b) == 0 {
		return fmt.Errorf("%w: %d values are missing from a page", ErrCorrupt, n)
	}
	var most uint32
	if err := runs(b[1:], int(b[0]), n, func(v uint32, _ int) { most = max(most, v) }); err != nil {
		return err
	}
	if int64(most) >= int64(size) {
		return fmt.Errorf("%w: index %d into a dictionary of %d values", ErrCorrupt, most, size)
	}
	return nil
}

// delta walks a DELTA_BINARY_PACKED sequence of n values and returns their sum,
// which is how a page of lengths says how many bytes it makes, and what follows
// the sequence in b.
func delta(b []byte, n int, lengths bool) (sum int64, rest []byte, err error) {
	r := &thriftReader{b: b} // the same varints
	block, minis, total, value := r.uvarint(), r.uvarint(), r.uvarint(), r.varint()
	switch {
	case r.err != nil:
		return 0, nil, fmt.Errorf("%w: delta-encoded page without its header", ErrCorrupt)
	case total != uint64(n):
		return 0, nil, fmt.Errorf("%w: delta-encoded page of %d values, want %d", ErrCorrupt, total, n)
	case block == 0 || block > 1<<16 || minis == 0 || block%minis != 0 || (block/minis)%8 != 0:
		return 0, nil, fmt.Errorf("%w: delta-encoded page with blocks of %d values in %d parts", ErrCorrupt, block, minis)
	}
	each := int(block / minis)
	add := func(v int64) {
		if lengths && (v < 0 || v > 1<<31-1) && err == nil {
			err = fmt.Errorf("%w: a value has length %d", ErrCorrupt, v)
		}
		sum += v
	}
	if n > 0 {
		add(value)
	}
	for left := n - 1; left > 0 && r.err == nil && err == nil; {
		least := r.varint()
		widths := r.take(minis)
		for _, width := range widths {
			if left <= 0 {
				break // parts past the last value have a width and no bytes
			}
			if width > 64 {
				return 0, nil, fmt.Errorf("%w: deltas of %d bits", ErrCorrupt, width)
			}
			packed := r.take(uint64(each) * uint64(width) / 8)
			if r.err != nil {
				break
			}
			if lengths {
				for i := range min(each, left) {
					value += least + int64(bitsAt(packed, i*int(width), int(width)))
					add(value)
				}
			}
			left -= each
		}
	}
	if r.err != nil {
		return 0, nil, fmt.Errorf("%w: delta-encoded page is cut short", ErrCorrupt)
	}
	return sum, r.b, err
}

// bitsAt is the number of the given width at bit position at.
func bitsAt(b []byte, at, width int) (v uint64) {
	for i := 0; i < width; {
		k := min(8-at%8, width-i)
		v |= uint64(b[at/8]>>(at%8)&(1<<k-1)) << i
		at, i = at+k, i+k
	}
	return v
}

// checkPlain makes sure that b holds n values in PLAIN encoding.
func checkPlain(b []byte, n int, t parquet.Type, typeLen int) error {
	if t == parquet.Types.ByteArray {
		for range n {
			if len(b) < 4 {
				return fmt.Errorf("%w: a page ends within a value", ErrCorrupt)
			}
			size := binary.LittleEndian.Uint32(b)
			if uint64(size) > uint64(len(b)-4) {
				return fmt.Errorf("%w: a value of %d bytes in a page with %d left", ErrCorrupt, size, len(b)-4)
			}
			b = b[4+size:]
		}
		return nil
	}
	width := plainWidth(t, typeLen)
	if width <= 0 || uint64(len(b)) < uint64(n)*uint64(width) {
		return fmt.Errorf("%w: a page of %d bytes says it has %d values of %d bytes", ErrCorrupt, len(b), n, width)
	}
	return nil
}

// plainWidth is the size of a value in bytes; 0 for types that are not read here.
func plainWidth(t parquet.Type, typeLen int) int {
	switch t {
	case parquet.Types.Int32, parquet.Types.Float:
		return 4
	case parquet.Types.Int64, parquet.Types.Double:
		return 8
	case parquet.Types.FixedLenByteArray:
		return typeLen
	}
	return 0
}

// checkValues makes sure that a data page's values can be decoded: n of them
// (nulls are not stored), in the given encoding. mem pays for values that the
// decoder will make out of less.
func checkValues(b []byte, n int, encoding int32, t parquet.Type, typeLen, dictionary int, mem *budget) error {
	var sum int64
	var err error
	switch parquet.Encoding(encoding) {
	case parquet.Encodings.Plain:
		return checkPlain(b, n, t, typeLen)
	case parquet.Encodings.PlainDict, parquet.Encodings.RLEDict:
		if dictionary < 0 {
			return fmt.Errorf("%w: a page of indices without a dictionary", ErrCorrupt)
		}
		return checkIndices(b, n, dictionary)
	case parquet.Encodings.DeltaBinaryPacked:
		_, _, err = delta(b, n, false)
		return err
	case parquet.Encodings.DeltaLengthByteArray:
		if sum, b, err = delta(b, n, true); err == nil && sum > int64(len(b)) {
			err = fmt.Errorf("%w: values of %d bytes in a page with %d", ErrCorrupt, sum, len(b))
		}
		return err
	case parquet.Encodings.DeltaByteArray:
		var prefixes int64
		if prefixes, b, err = delta(b, n, true); err != nil {
			return err
		}
		if sum, b, err = delta(b, n, true); err == nil && sum > int64(len(b)) {
			err = fmt.Errorf("%w: values of %d bytes in a page with %d", ErrCorrupt, sum, len(b))
		}
		if err == nil {
			mem.take(prefixes + sum)
			mem.give(prefixes + sum) // not all at once, but none is let go before the page
		}
		return err
	default:
		return fmt.Errorf("%w: encoding %d", ErrUnsupported, encoding)
	}
}
