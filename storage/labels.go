package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/tercet-ml/tercet/pipeline"
)

// values are a narrow column of one row group: integers, or strings numbered in
// the order of their first appearance.
type values struct {
	numbers []int64       // −1 for null
	names   []string      // of the numbers, where the column is of strings
	isNull  []bool        // nil where none is
	bad     map[int]error // rows that cannot be read, which are null here; with Config.KeepBad
}

// scan reads the labels and groups of every row. Row groups are read by several
// workers and put together in order.
func (d *Dataset) scan(ctx context.Context, names []string) error {
	labels := make([]values, len(d.parts))
	groups := make([]values, len(d.parts))
	err := pipeline.ForEach(ctx, d.cfg.Workers, len(d.parts), func(ctx context.Context, i int) error {
		p := d.parts[i]
		want := []column{*d.roles[p.shard].label}
		dst := []*values{&labels[i]}
		if g := d.roles[p.shard].group; g != nil {
			want, dst = append(want, *g), append(dst, &groups[i])
		}
		return d.readValues(ctx, p, want, dst)
	})
	if err != nil {
		return err
	}
	for i, p := range d.parts {
		for k, err := range labels[i].bad {
			d.spoil(p.first+int64(k), err)
		}
	}
	if d.roles[0].label.kind == kindString {
		d.nameLabels(labels)
	} else if err := d.checkLabels(labels, names); err != nil {
		return err
	}
	if d.roles[0].group != nil {
		d.numberGroups(groups)
	}
	return nil
}

// spoil marks a row as one that cannot be used.
func (d *Dataset) spoil(id int64, err error) {
	if d.bad == nil {
		d.bad = make(map[int64]error)
	}
	d.bad[id] = err
}

// readValues reads narrow columns of one row group.
func (d *Dataset) readValues(ctx context.Context, p part, want []column, dst []*values) error {
	seen := make([]map[string]int64, len(want))
	for i := range seen {
		seen[i] = make(map[string]int64)
	}
	for t, err := range d.tables(ctx, p, want, nil) {
		if t == nil {
			return err
		}
		if err != nil {
			for _, v := range dst {
				v.addNull()
			}
			v := dst[0]
			if v.bad == nil {
				v.bad = make(map[int]error)
			}
			v.bad[len(v.numbers)-1] = err
			continue
		}
		for i, c := range t.cells {
			v := dst[i]
			for k := range t.rows {
				if c.isNull(k) {
					v.addNull()
					continue
				}
				if v.isNull != nil {
					v.isNull = append(v.isNull, false)
				}
				if want[i].kind != kindString {
					v.numbers = append(v.numbers, c.ints[k])
					continue
				}
				n, ok := seen[i][c.strs[k]]
				if !ok {
					n = int64(len(v.names))
					seen[i][c.strs[k]] = n
					v.names = append(v.names, c.strs[k])
				}
				v.numbers = append(v.numbers, n)
			}
		}
	}
	return nil
}

// addNull appends a null.
func (v *values) addNull() {
	for len(v.isNull) < len(v.numbers) {
		v.isNull = append(v.isNull, false)
	}
	v.isNull = append(v.isNull, true)
	v.numbers = append(v.numbers, -1)
}

// checkLabels takes integer labels as class numbers. Those that have no names
// and are too large for that, as product numbers are, become names themselves:
// they are numbered by their order.
func (d *Dataset) checkLabels(labels []values, names []string) error {
	d.classes = names
	most := int64(math.MaxInt64)
	if names != nil {
		most = int64(len(names)) - 1
	}
	large := false
	d.labels = slices.Grow(d.labels, int(d.rows))
	for i, p := range d.parts {
		for k, n := range labels[i].numbers {
			if n < -1 || n > most {
				err := fmt.Errorf("%w: label %d, want −1 (unknown) or more", ErrValue, n)
				if names != nil {
					err = fmt.Errorf("%w: label %d, there are %d class names", ErrValue, n, len(names))
				}
				err = d.rowError(p, int64(k), d.roles[p.shard].label.name, err)
				if !d.cfg.KeepBad {
					return err
				}
				d.spoil(p.first+int64(k), err)
				n = int64(pipeline.Unknown)
				labels[i].numbers[k] = n
			}
			large = large || n > math.MaxInt32
			d.labels = append(d.labels, int32(n))
		}
	}
	if large {
		d.numberLabels(labels)
	}
	return nil
}

// numberLabels numbers integer labels by their order over all of them.
func (d *Dataset) numberLabels(labels []values) {
	all := make(map[int64]int32)
	for _, v := range labels {
		for _, n := range v.numbers {
			all[n] = 0
		}
	}
	delete(all, int64(pipeline.Unknown))
	d.classes = nil
	for i, n := range slices.Sorted(maps.Keys(all)) {
		all[n] = int32(i)
		d.classes = append(d.classes, strconv.FormatInt(n, 10))
	}
	all[int64(pipeline.Unknown)] = pipeline.Unknown
	d.labels = d.labels[:0]
	for _, v := range labels {
		for _, n := range v.numbers {
			d.labels = append(d.labels, all[n])
		}
	}
}

// nameLabels numbers string labels by bytewise order over all of them.
func (d *Dataset) nameLabels(labels []values) {
	all := make(map[string]int32)
	for _, v := range labels {
		for _, name := range v.names {
			all[name] = 0
		}
	}
	d.classes = slices.Sorted(maps.Keys(all))
	for n, name := range d.classes {
		all[name] = int32(n)
	}
	d.labels = slices.Grow(d.labels, int(d.rows))
	for _, v := range labels {
		for _, n := range v.numbers {
			if n < 0 {
				d.labels = append(d.labels, pipeline.Unknown)
			} else {
				d.labels = append(d.labels, all[v.names[n]])
			}
		}
	}
}

// numberGroups numbers the values of the group column in id order.
func (d *Dataset) numberGroups(groups []values) {
	names, numbers := make(map[string]int32), make(map[int64]int32)
	d.groups = make([]int32, 0, d.rows)
	for _, v := range groups {
		for k, n := range v.numbers {
			var number int32
			switch {
			case v.isNull != nil && v.isNull[k]:
				number = -1
			case v.names != nil:
				number = numberOf(names, v.names[n])
			default:
				number = numberOf(numbers, n)
			}
			d.groups = append(d.groups, number)
		}
	}
	d.groupNames = make([]string, len(names)+len(numbers))
	for name, n := range names {
		d.groupNames[n] = name
	}
	for name, n := range numbers {
		d.groupNames[n] = strconv.FormatInt(name, 10)
	}
}

// numberOf is the number of v, the next one where v is new.
func numberOf[T comparable](numbers map[T]int32, v T) int32 {
	n, ok := numbers[v]
	if !ok {
		n = int32(len(numbers))
		numbers[v] = n
	}
	return n
}

// sum computes the digest.
func (d *Dataset) sum() string {
	h := sha256.New()
	number := func(n int64) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	text := func(b []byte) { number(int64(len(b))); h.Write(b) }
	text([]byte("tercet data set 1"))
	number(int64(len(d.shards)))
	for _, s := range d.shards {
		text([]byte(filepath.Base(s.path())))
		number(s.size())
		number(int64(len(s.groups())))
		for _, rows := range s.groups() {
			number(rows)
		}
		text(s.identity())
	}
	b := make([]byte, 0, 4096)
	for _, l := range d.labels {
		if b = binary.LittleEndian.AppendUint32(b, uint32(l)); len(b) == cap(b) {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
