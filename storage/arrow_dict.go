package storage

import (
	"fmt"
	"slices"
	"sync"
)

// An arrowDict is a dictionary: the values of one dictionary batch, after
// those of the dictionary it adds to.
type arrowDict struct {
	before *arrowDict // nil unless the batch was a delta
	field  *arrowField
	batch  arrowBatch

	once sync.Once
	strs []string // of before, then the batch's
	ints []int64
	null []bool // of strs or ints
	err  error
}

// addDict adds the dictionary of a message to dicts. A file has one for each id
// and deltas; a stream may replace it.
func (x *arrowIndex) addDict(dicts map[int64]*arrowDict, m arrowMessage, body []byte, replace bool) error {
	id := m.header.int64(0)
	data, ok := m.header.table(1)
	if !ok {
		return fmt.Errorf("%w: dictionary %d without values", ErrCorrupt, id)
	}
	d := &arrowDict{batch: readArrowBatch(data, body, m.v4), field: x.schema.dicts[id]}
	if d.field == nil {
		return fmt.Errorf("%w: dictionary %d belongs to no field", ErrCorrupt, id)
	}
	before := dicts[id]
	switch delta := m.header.byte(2) != 0; {
	case delta && before == nil:
		return fmt.Errorf("%w: addition to dictionary %d, which is not there", ErrCorrupt, id)
	case delta:
		d.before = before
	case before != nil && !replace:
		return fmt.Errorf("%w: two dictionaries %d in a file", ErrCorrupt, id)
	}
	dicts[id] = d
	return nil
}

// load reads the values, once. limit bounds the memory of compressed ones.
func (d *arrowDict) load(limit int64) error {
	d.once.Do(func() {
		// A chain of additions is as long as the stream: no recursion.
		var chain []*arrowDict
		for b := d; b != nil; b = b.before {
			chain = append(chain, b)
		}
		mem := &budget{limit: limit}
		defer func() {
			if r := recover(); r != nil {
				d.err = caught(r)
			}
		}()
		for _, b := range slices.Backward(chain) {
			if d.err = d.append(b, mem); d.err != nil {
				return
			}
		}
	})
	return d.err
}

// append adds the values of one dictionary batch to d.
func (d *arrowDict) append(b *arrowDict, mem *budget) error {
	v, err := b.batch.vector(new(arrowCursor), b.field, nil, b.batch.rows, mem)
	if err != nil {
		return err
	}
	for i := range b.batch.rows {
		d.null = append(d.null, v.null(i))
		switch {
		case b.field.typ == arrowInt:
			var x int64
			if !v.null(i) {
				if x, err = v.int(i); err != nil {
					return err
				}
			}
			d.ints = append(d.ints, x)
		default:
			var s []byte
			if !v.null(i) {
				if s, err = v.bytes(i); err != nil {
					return err
				}
			}
			mem.take(int64(len(s)))
			d.strs = append(d.strs, string(s))
		}
	}
	return nil
}
