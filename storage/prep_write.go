package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// A PrepLayout says which rows are kept, and where they go.
type PrepLayout struct {
	Order   []int64 // rows of the source, in the order in which they are stored
	Classes []int32 // by class number of the source: the number in what is stored; −1 for a class that is left out
}

// Write writes the shards, the labels and the manifest, of which settings,
// counts and sources are given. done, which may be nil, is told of rows written,
// from any goroutine.
func (p *Prep) Write(ctx context.Context, layout PrepLayout, m *Manifest, done func(rows int64)) error {
	shards := p.shards(layout.Order)
	if len(shards) == 0 {
		return errors.New("no row is left to write")
	}
	names := p.classes(layout)
	raw := pipeline.Raw{}
	if k := p.shelf.kinds[p.shelf.rows[layout.Order[0]].kind]; k.Format == "raw" {
		raw = pipeline.Raw{Shape: pipeline.Shape{C: k.C, H: k.H, W: k.W}, Interleaved: k.C > 1}
	}
	// A writer holds a row group twice, and what the library holds of it.
	workers := max(1, min(int64(p.cfg.Workers), p.cfg.Memory/(4*p.cfg.GroupBytes)))
	written := make([]ManifestShard, len(shards))
	groups := make([][]string, len(shards))
	err := pipeline.ForEach(ctx, int(workers), len(shards), func(ctx context.Context, i int) error {
		name := fmt.Sprintf("data/%s-%05d-of-%05d.%s", p.cfg.Split, i, len(shards), p.cfg.Format)
		w := shardWriter{prep: p, name: name, classes: names, numbers: layout.Classes, raw: raw}
		info, err := w.write(ctx, shards[i])
		if err != nil {
			return err
		}
		written[i], groups[i] = info.Shard, info.Groups
		if done != nil {
			done(int64(len(shards[i])))
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.Version, m.Format, m.Split, m.Encoding, m.Raw, m.Shards = ManifestVersion, p.cfg.Format, p.cfg.Split, p.cfg.Encoding, raw, written
	m.Rows = int64(len(layout.Order))
	p.count(m, layout, names)
	return p.describe(m, layout, groups)
}

// classes are the names of the classes that are kept, by new number.
func (p *Prep) classes(layout PrepLayout) []string {
	var names []string
	for old, n := range layout.Classes {
		if n >= 0 {
			names = append(names, p.cfg.Classes[old])
		}
	}
	return names
}

// shards cuts the rows into shards of about equal size.
func (p *Prep) shards(order []int64) [][]int64 {
	var total int64
	for _, i := range order {
		total += int64(p.shelf.rows[i].image)
	}
	n := (total + p.cfg.ShardBytes - 1) / p.cfg.ShardBytes
	var shards [][]int64
	var sum int64
	from := 0
	for at, i := range order {
		sum += int64(p.shelf.rows[i].image)
		if end := int64(len(shards)) + 1; end < n && sum >= total/n*end {
			shards = append(shards, order[from:at+1])
			from = at + 1
		}
	}
	if from < len(order) {
		shards = append(shards, order[from:])
	}
	return shards
}

// count fills in how many rows there are of what.
func (p *Prep) count(m *Manifest, layout PrepLayout, names []string) {
	m.Classes = make([]ManifestClass, len(names))
	for n, name := range names {
		m.Classes[n].Name = name
	}
	images := make(map[uint16]int64)
	for _, i := range layout.Order {
		r := p.shelf.rows[i]
		images[r.kind]++
		if l := layout.label(r.label); l >= 0 {
			m.Classes[l].Rows++
		} else {
			m.Unknown++
		}
	}
	kinds := slices.SortedFunc(maps.Keys(images), func(a, b uint16) int {
		return cmp.Or(cmp.Compare(images[b], images[a]), cmp.Compare(a, b))
	})
	m.Images = []ManifestImage{}
	for _, k := range kinds {
		if int(k) >= len(p.shelf.kinds) || len(m.Images) == MaxManifestImages {
			m.Other += images[k]
			continue
		}
		kind := p.shelf.kinds[k]
		m.Images = append(m.Images, ManifestImage{kind.Format, kind.C, kind.H, kind.W, images[k]})
	}
}

// label is the number that a class of the source has in what is stored.
func (l PrepLayout) label(n int32) int32 {
	if n < 0 {
		return pipeline.Unknown
	}
	return l.Classes[n]
}

// labelsName is the file of labels in a prepared folder.
const labelsName = "labels.bin"

// describe writes the labels and, last, the manifest.
func (p *Prep) describe(m *Manifest, layout PrepLayout, names [][]string) error {
	labels := make([]int32, len(layout.Order))
	for at, i := range layout.Order {
		labels[at] = layout.label(p.shelf.rows[i].label)
	}
	var groups []int32
	if p.cfg.Groups {
		groups = numberNames(names, len(labels))
	}
	if part, done := p.job.Part(labelsName); done {
		if err := json.Unmarshal(part.Info, &m.Labels); err != nil {
			return fmt.Errorf("%s: %w: %w", p.job.Path(part), ErrCorrupt, err)
		}
	} else {
		w, err := p.job.Create(labelsName)
		if err != nil {
			return err
		}
		defer w.Abort()
		m.Labels = ManifestFile{Path: labelsName, Groups: groups != nil}
		if m.Labels.Size, m.Labels.SHA256, err = writeLabels(w, labels, groups); err != nil {
			return err
		}
		if err := w.Commit(m.Labels); err != nil {
			return err
		}
	}
	text, err := m.Encode()
	if err != nil {
		return err
	}
	w, err := p.job.Create(ManifestName)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(text); err != nil {
		return err
	}
	return w.Commit(nil)
}

// numberNames numbers the groups of all shards in the order of their rows, "" as −1.
func numberNames(names [][]string, rows int) []int32 {
	numbers := make(map[string]int32)
	groups := make([]int32, 0, rows)
	for _, shard := range names {
		for _, name := range shard {
			if name == "" {
				groups = append(groups, -1)
				continue
			}
			groups = append(groups, numberOf(numbers, name))
		}
	}
	return groups
}
