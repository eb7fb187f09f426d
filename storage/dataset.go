package storage

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/tercet-ml/tercet/pipeline"
)

// Config says what to [Open].
type Config struct {
	Paths []string // files, globs and folders; "-" is an Arrow IPC stream on the standard input
	Split string   // "train", "validation", "test"; needed where the paths hold several

	// Names of columns; empty finds one by convention (see [Open]).
	ImageColumn, LabelColumn, IDColumn, GroupColumn, EmbeddingColumn string

	Shape   pipeline.Shape // of raw pixels in a column that does not say; the zero Shape: square and grey
	Memory  int64          // bytes of row groups kept in memory for Read; default 256 MiB. Decoding a page or batch may take as much, and always 256 MiB.
	Workers int            // files, and in Read row groups, read at a time; default GOMAXPROCS. Decides nothing else.

	// KeepBad lets rows through that cannot be used because of their bytes: Run
	// and Read give them as Records with Err set, and a label that cannot be
	// read is Unknown. What the bytes do not decide (a disk that fails, memory
	// that runs out) is an error all the same.
	KeepBad bool

	FS FS // that Parquet files are read from; default [OS]. Arrow files are mapped into memory by the system.

	schemas    *schemas // of the Parquet files; Open's own
	scanLabels bool     // also of a prepared data set: for the names of groups, which its manifest does not have
}

// DefaultMemory is the Memory of a [Config] that does not set it.
const DefaultMemory = 256 << 20

// decoding is how many bytes decoding may hold at a time, for one reader: a page
// of 1,024 photographs may need more than the cache.
func (c Config) decoding() int64 { return max(c.Memory, DefaultMemory) }

// A Dataset is some files as one sequence of rows. The sample id of a row is
// its place: files in name order, rows in file order. All methods may be called
// by several goroutines at a time; Close comes after all of them.
type Dataset struct {
	cfg        Config
	shards     []shard
	roles      []roles         // by shard: the same names everywhere, places may differ
	parts      []part          // every row group, in id order
	rows       int64           // in all
	labels     []int32         // by sample id
	classes    []string        // nil where integer labels have no names
	groups     []int32         // by sample id; nil without a group column
	groupNames []string        // by number; nil where groups come from a manifest
	raw        pipeline.Raw    // of the image column; zero for encoded images
	dim        int             // of the embedding column; 0 without one
	bad        map[int64]error // by sample id: labels and groups that cannot be read, with KeepBad
	digest     string
	cache      *groupCache
	holds      holds
	closed     atomic.Bool
}

// A part is one row group of a data set.
type part struct {
	shard, group int
	first, rows  int64 // sample id of its first row, and how many it has
}

// Open finds the files, reads their schemas and footers, and scans the labels
// (and groups) of every row; images stay where they are.
//
// Columns that are not named are found by convention, the first name that is
// there: image (image, img, bytes, png, jpg, pixels), label (label, labels,
// class, fine_label, target, y), id (id, path, file_name, filename, key; or the
// path beside an image's bytes), group (group), embedding (embedding,
// embeddings, vector, emb, features). A label is needed, and an image or an
// embedding. All files have to have the same columns, types and class names.
//
// Integer labels are class numbers; strings are numbered by bytewise order over
// the whole data set, and so are integers without names of which one is 2³¹ or
// more, in ascending order. Null and −1 are [pipeline.Unknown].
//
// A folder that tercet prep made is opened by its manifest: nothing is scanned,
// a shard is opened when it is read first, and what is read is checked against
// the digests of the manifest.
//
// Errors: [*SplitError] and [*ColumnError] for what the Config has to say
// better; [ErrNoData], [ErrSchema], [ErrCorrupt], [ErrUnsupported] for the
// files; a [*RowError] for a label.
func Open(ctx context.Context, cfg Config) (set *Dataset, err error) {
	if cfg.Memory < 0 {
		return nil, fmt.Errorf("storage: Config.Memory is %d, want 0 or more", cfg.Memory)
	}
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	cfg.schemas = new(schemas)
	files, err := findShards(cfg.Paths, cfg.Split)
	if err != nil {
		return nil, err
	}
	d := &Dataset{cfg: cfg, shards: make([]shard, len(files)), roles: make([]roles, len(files)), cache: newGroupCache(cfg.Memory)}
	defer func() {
		if err != nil {
			d.Close()
			set = nil
		}
	}()
	if m := files[0].set; m != nil && len(files) == len(m.Shards) {
		if !slices.ContainsFunc(files, func(f dataFile) bool { return f.set != m }) {
			err = d.openPrepared(ctx, m, files[0].dir)
			return d, err
		}
	}
	err = d.openFiles(ctx, files)
	return d, err
}

// openFiles opens every file, and scans its labels.
func (d *Dataset) openFiles(ctx context.Context, files []dataFile) error {
	names := make([][]string, len(files))
	err := pipeline.ForEach(ctx, d.cfg.Workers, len(files), func(ctx context.Context, i int) error {
		s, err := files[i].open(ctx, d.cfg)
		if err != nil {
			return err
		}
		d.shards[i] = s
		if d.roles[i], err = findRoles(s, d.cfg); err != nil {
			return err
		}
		names[i], err = classNames(s, d.roles[i].label.name)
		return err
	})
	if err != nil {
		return err
	}
	for i := range d.shards {
		if err := d.roles[i].agree(d.roles[0], files[i].path, files[0].path); err != nil {
			return err
		}
		if !slices.Equal(names[i], names[0]) {
			return fmt.Errorf("%s: %w: class names differ from those of %s", files[i].path, ErrSchema, files[0].path)
		}
	}
	d.number()
	if err := d.scan(ctx, names[0]); err != nil {
		return err
	}
	if err := d.measure(ctx); err != nil {
		return err
	}
	d.digest = d.sum()
	return nil
}

// number gives the rows of all shards their sample ids.
func (d *Dataset) number() {
	for i, s := range d.shards {
		for g, rows := range s.groups() {
			if rows == 0 {
				continue
			}
			d.parts = append(d.parts, part{shard: i, group: g, first: d.rows, rows: rows})
			d.rows += rows
		}
	}
}

// open opens the file.
func (f dataFile) open(ctx context.Context, cfg Config) (shard, error) {
	if f.set == nil {
		return openShard(ctx, f.path, cfg)
	}
	s := newListedShard(f.set, f.dir, f.shard, nil, cfg)
	if _, err := s.load(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close lets go of the files.
func (d *Dataset) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	var first error
	for _, s := range d.shards {
		if s == nil {
			continue
		}
		if err := s.close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Len is the number of rows.
func (d *Dataset) Len() int { return int(d.rows) }

// Labels are the class numbers by sample id, −1 for unknown. The slice is the
// data set's: read it only.
func (d *Dataset) Labels() []int32 { return d.labels }

// Classes are the names of the classes by number; nil where integer labels come
// without names. The slice is the data set's: read it only.
func (d *Dataset) Classes() []string { return d.classes }

// Groups are the values of the group column by sample id, numbered in the order
// of their first appearance, −1 for null; nil when there is no such column. The
// slice is the data set's: read it only.
func (d *Dataset) Groups() []int32 { return d.groups }

// Digest is the SHA-256, in hex, of what the data set consists of: base names,
// sizes and row groups of the files, their footers (schemas, of Arrow files)
// and every label; of a prepared folder, that of its manifest, which covers every
// byte. It does not depend on the folder they are in.
func (d *Dataset) Digest() string { return d.digest }

// HasImages reports whether there is an image column.
func (d *Dataset) HasImages() bool { return d.roles[0].image != nil }

// KeepsBad is Config.KeepBad.
func (d *Dataset) KeepsBad() bool { return d.cfg.KeepBad }

// EmbeddingDim is the length of the vectors in the embedding column; 0 when
// there is none.
func (d *Dataset) EmbeddingDim() int { return d.dim }

// Locate is where the row with a sample id is stored: for messages. It panics
// for an id outside the data set.
func (d *Dataset) Locate(id int64) pipeline.Location {
	p := d.parts[d.partOf(id)]
	return pipeline.Location{File: d.shards[p.shard].path(), RowGroup: p.group, Row: id - p.first}
}

// partOf is the index of the row group that holds a sample.
func (d *Dataset) partOf(id int64) int {
	if id < 0 || id >= d.rows {
		panic(fmt.Sprintf("storage: sample id %d in a data set of %d rows", id, d.rows))
	}
	return sort.Search(len(d.parts), func(i int) bool { return d.parts[i].first > id }) - 1
}

// Run implements [pipeline.Source]: all rows in id order, one row group at a
// time, a few rows of it in memory.
func (d *Dataset) Run(ctx context.Context, out chan<- pipeline.Record) error {
	if err := d.usable(); err != nil {
		return err
	}
	for i := range d.parts {
		for recs, err := range d.records(ctx, i, nil) {
			if err != nil {
				return err
			}
			for _, rec := range recs {
				if err := pipeline.Send(ctx, out, rec); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// usable says whether there are images to read.
func (d *Dataset) usable() error {
	switch {
	case d.closed.Load():
		return ErrClosed
	case !d.HasImages():
		return fmt.Errorf("%s: %w: no image column (found: %v)", d.shards[0].path(), ErrSchema, describe(d.shards[0].columns()))
	}
	return nil
}

// rowError names a row of a part.
func (d *Dataset) rowError(p part, row int64, column string, err error) error {
	return &RowError{
		Location: pipeline.Location{File: d.shards[p.shard].path(), RowGroup: p.group, Row: row, Column: column},
		Err:      err,
	}
}
