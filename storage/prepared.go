package storage

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// A listedShard is a shard of a prepared data set. It is opened when it is read
// first, and so is the digest of each of its row groups checked: once.
type listedShard struct {
	entry *ManifestShard
	dir   string       // of the manifest
	first *listedShard // of the same data set, which has the columns of all; itself for the first
	cfg   Config
	form  Format
	rows  []int64

	mu     sync.Mutex
	inner  shard // nil until it is opened
	checks []groupCheck
}

// A groupCheck says whether a row group is what the manifest says. Who checks
// it holds mu.
type groupCheck struct {
	mu   sync.Mutex
	done bool
}

// newListedShard describes shard i of a manifest. Without a first one, it is that.
func newListedShard(m *Manifest, dir string, i int, first *listedShard, cfg Config) *listedShard {
	s := &listedShard{entry: &m.Shards[i], dir: dir, first: first, cfg: cfg, form: m.Format}
	if first == nil {
		s.first = s
	}
	for _, g := range s.entry.Groups {
		s.rows = append(s.rows, g.Rows)
	}
	s.checks = make([]groupCheck, len(s.rows))
	return s
}

// load opens the file, which has to have the row groups of the manifest and the
// columns of the first shard.
func (s *listedShard) load(ctx context.Context) (shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inner != nil {
		return s.inner, nil
	}
	f, err := OpenFile(s.dir, s.entry.Path, s.entry.Size)
	if err != nil {
		return nil, err
	}
	err = s.entry.CheckGroup(f, len(s.rows)) // the footer, before anything in it is believed
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(), err)
	}
	open := openParquet
	if s.form == FormatArrow {
		open = openArrow
	}
	inner, err := open(ctx, s.path(), s.cfg)
	if err != nil {
		return nil, err
	}
	switch {
	case !slices.Equal(inner.groups(), s.rows):
		err = fmt.Errorf("%s: %w: its row groups are not those that the manifest lists", s.path(), ErrCorrupt)
	case s.first != s && !slices.Equal(inner.columns(), s.first.columns()):
		err = fmt.Errorf("%s: %w: columns differ from those of %s", s.path(), ErrSchema, s.first.path())
	}
	if err != nil {
		inner.close()
		return nil, err
	}
	s.inner = inner
	return inner, nil
}

// verify checks the digest of a row group at its first touch.
func (s *listedShard) verify(group int) error {
	c := &s.checks[group]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil
	}
	f, err := OpenFile(s.dir, s.entry.Path, s.entry.Size)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.entry.CheckGroup(f, group); err != nil {
		return &RowError{Location: pipeline.Location{File: s.path(), RowGroup: group, Row: -1}, Err: err}
	}
	c.done = true
	return nil
}

// read implements [shard].
func (s *listedShard) read(ctx context.Context, group int, want []column, rows []int64) iter.Seq2[*table, error] {
	return func(yield func(*table, error) bool) {
		inner, err := s.load(ctx)
		if err == nil {
			err = s.verify(group)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		inner.read(ctx, group, want, rows)(yield)
	}
}

// weight implements [shard]. It opens the file.
func (s *listedShard) weight(ctx context.Context, group int, c column) (int64, error) {
	inner, err := s.load(ctx)
	if err != nil {
		return 0, err
	}
	return inner.weight(ctx, group, c)
}

func (s *listedShard) path() string     { return filepath.Join(s.dir, filepath.FromSlash(s.entry.Path)) }
func (s *listedShard) format() string   { return string(s.form) }
func (s *listedShard) size() int64      { return s.entry.Size }
func (s *listedShard) identity() []byte { return []byte(s.entry.Tail) }
func (s *listedShard) groups() []int64  { return s.rows }

// columns and metadata are those of the first shard, which has been loaded.
func (s *listedShard) columns() []column          { return s.first.inner.columns() }
func (s *listedShard) metadata(key string) string { return s.first.inner.metadata(key) }

func (s *listedShard) close() error {
	if s.inner == nil {
		return nil
	}
	return s.inner.close()
}

// openPrepared opens a data set by its manifest: one shard, for its columns. The
// others are only looked for.
func (d *Dataset) openPrepared(ctx context.Context, m *Manifest, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	err = pipeline.ForEach(ctx, d.cfg.Workers, len(m.Shards), func(_ context.Context, i int) error {
		return checkFile(root, m.Shards[i].Path, m.Shards[i].Size)
	})
	if err != nil {
		return err
	}
	first := newListedShard(m, dir, 0, nil, d.cfg)
	d.shards[0] = first
	if _, err := first.load(ctx); err != nil {
		return err
	}
	if d.roles[0], err = findRoles(first, d.cfg); err != nil {
		return err
	}
	for i := range d.shards[1:] {
		d.shards[i+1], d.roles[i+1] = newListedShard(m, dir, i+1, first, d.cfg), d.roles[0]
	}
	d.number()
	names, err := classNames(first, d.roles[0].label.name)
	if err != nil {
		return err
	}
	if r := d.roles[0]; !d.cfg.scanLabels && r.label.name == labelColumn && (r.group != nil) == m.Labels.Groups && (r.group == nil || r.group.name == groupColumn) {
		if !slices.EqualFunc(m.Classes, names, func(c ManifestClass, name string) bool { return c.Name == name }) {
			return fmt.Errorf("%s: %w: class names are not those of the manifest", first.path(), ErrCorrupt)
		}
		d.classes = names
		d.labels, d.groups, err = m.ReadLabels(dir)
	} else {
		err = d.scan(ctx, names) // of another column than the one the manifest counts
	}
	if err != nil {
		return err
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	d.digest = m.Digest
	return nil
}

// Columns of a prepared data set.
const (
	labelColumn = "label"
	groupColumn = "group"
)
