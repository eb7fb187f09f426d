package storage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/tercet-ml/tercet/pipeline"
)

// PrepConfig configures a [Prep]. All but Workers, Memory and what is in Job
// decides bytes.
type PrepConfig struct {
	Job      JobConfig
	Format   Format // FormatParquet or FormatArrow
	Split    string // names the shards; default "train"
	Classes  []string
	Groups   bool
	Encoding string // for the manifest

	ShardBytes int64 // of images in a shard, about; default 256 MiB
	GroupBytes int64 // of images in a row group, about; default 32 MiB

	Workers int   // shards written at a time; default GOMAXPROCS
	Memory  int64 // bytes that they may take together; default 1 GiB
}

// A PreparedRow is a row as it will be stored.
type PreparedRow struct {
	Row
	Format string         // of the image: "PNG", "JPEG", "GIF", "WebP" or "raw"
	Shape  pipeline.Shape // of the image
	Pixels [16]byte       // digest of its pixels
}

// A Prep makes a prepared data set: a folder of shards of about equal size, the
// file of their labels and a manifest. Rows are first taken in the order of the
// source and kept aside; when all are there, it is decided which are kept and
// in what order, and the shards are written. Both are done in parts that are
// committed one by one (see [Job]), so that an interrupted job goes on where it
// was; the bytes are the same.
//
// It is used by one goroutine at a time.
type Prep struct {
	cfg   PrepConfig
	job   *Job
	shelf *shelf
}

// NewPrep begins a job, or goes on with it. The errors are those of [OpenJob],
// and [ErrExists] for an output that is there.
func NewPrep(cfg PrepConfig) (*Prep, error) {
	cfg.Split = cmp.Or(cfg.Split, "train")
	cfg.ShardBytes = or(cfg.ShardBytes, 256<<20)
	cfg.GroupBytes = or(cfg.GroupBytes, 32<<20)
	cfg.Memory = or(cfg.Memory, 1<<30)
	cfg.Workers = pipeline.Workers(cfg.Workers)
	if cfg.Format != FormatParquet && cfg.Format != FormatArrow {
		return nil, fmt.Errorf("storage: PrepConfig.Format is %v, want parquet or arrow", cfg.Format)
	}
	if cfg.GroupBytes < 1 || cfg.GroupBytes > maxBytes/2 || cfg.ShardBytes < cfg.GroupBytes {
		return nil, fmt.Errorf("storage: PrepConfig has shards of %d bytes in row groups of %d, want groups of 1 to %d and shards that are no smaller", cfg.ShardBytes, cfg.GroupBytes, maxBytes/2)
	}
	if err := vacantFolder(cfg.Job); err != nil {
		return nil, err
	}
	job, err := OpenJob(cfg.Job)
	if err != nil {
		return nil, err
	}
	p := &Prep{cfg: cfg, job: job}
	if _, done := job.Part(ManifestName); !done {
		if p.shelf, err = openShelf(job, min(shelfBytes, cfg.ShardBytes)); err != nil {
			job.Close()
			return nil, err
		}
	}
	return p, nil
}

// vacantFolder says before the work that the output cannot be published after it.
func vacantFolder(cfg JobConfig) error {
	fsys := cfg.FS
	if fsys == nil {
		fsys = OS
	}
	out := filepath.Clean(cfg.Output)
	if _, err := fsys.Stat(filepath.Dir(out)); err != nil {
		return fmt.Errorf("create %s: %w", out, err)
	}
	info, err := fsys.Stat(out)
	if err != nil {
		return nil // it is not there, or OpenJob will say
	}
	if !info.IsDir() {
		return fmt.Errorf("create %s: %w, and is no folder", cfg.Output, ErrExists)
	}
	entries, err := fsys.ReadDir(out)
	if _, missing := fsys.Stat(filepath.Join(out+".parts", "job.json")); missing != nil {
		cfg.Resume = false // there is nothing to go on with
	}
	if err == nil && len(entries) > 0 && !cfg.Overwrite && !cfg.Resume {
		err = fmt.Errorf("create %s: %w", cfg.Output, ErrExists)
	}
	return err
}

// Close ends the job for now; after [Prep.Finish], for good.
func (p *Prep) Close() {
	if p.shelf != nil {
		p.shelf.close()
	}
	p.job.Close()
}

// Done reports whether an earlier run has written everything: only Finish is left.
func (p *Prep) Done() bool { return p.shelf == nil }

// Taken is how many rows have been taken and will outlive the process: where a
// job that is gone on with begins. complete reports whether these are all.
func (p *Prep) Taken() (rows int64, complete bool) {
	if p.shelf == nil {
		return 0, true
	}
	return int64(len(p.shelf.rows)), p.shelf.complete
}

// Take takes the next row. It keeps none of its memory.
func (p *Prep) Take(row PreparedRow) error { return p.shelf.add(row) }

// badKind is what a row is on the shelf that is not of the data set: its image
// is the report of it.
const badKind = "bad"

// TakeBad takes the next row, which cannot be stored. It has its place among
// those taken.
func (p *Prep) TakeBad(row pipeline.BadRow) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return p.shelf.add(PreparedRow{Row: Row{Record: pipeline.Record{Image: text, Label: pipeline.Unknown}}, Format: badKind})
}

// Bad are the rows taken that cannot be stored: which of the source they are,
// and what was said of them.
func (p *Prep) Bad() (is []bool, rows []pipeline.BadRow, err error) {
	is = make([]bool, len(p.shelf.rows))
	var buf []byte
	for i, r := range p.shelf.rows {
		if int(r.kind) >= len(p.shelf.kinds) || p.shelf.kinds[r.kind].Format != badKind {
			continue
		}
		is[i] = true
		var row Row
		var bad pipeline.BadRow
		if err := p.shelf.read(int64(i), &row, &buf); err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal(row.Image, &bad); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		rows = append(rows, bad)
	}
	return is, rows, nil
}

// Complete says that there are no more rows.
func (p *Prep) Complete() error { return p.shelf.commit(true) }

// Keep commits the rows taken so far, when the job ends before it is complete.
func (p *Prep) Keep() error {
	if p.shelf == nil || p.shelf.part == nil {
		return nil
	}
	return p.shelf.commit(false)
}

// Abandon ends the job for good and leaves nothing.
func (p *Prep) Abandon() error {
	if p.shelf != nil {
		p.shelf.close()
	}
	return p.job.Remove()
}

// Unfinished reports whether there is something to go on with.
func (p *Prep) Unfinished() bool { return !p.job.Published() && len(p.job.Parts()) > 0 }

// Labels and Pixels are those of the rows taken, by row of the source.
func (p *Prep) Labels() []int32 {
	labels := make([]int32, len(p.shelf.rows))
	for i, r := range p.shelf.rows {
		labels[i] = r.label
	}
	return labels
}

// Pixels are the digests of the images, by row of the source.
func (p *Prep) Pixels() [][16]byte {
	all := make([][16]byte, len(p.shelf.rows))
	for i, r := range p.shelf.rows {
		all[i] = r.pixels
	}
	return all
}

// Raw is the shape of the first image taken; zero where there is none.
func (p *Prep) Raw() pipeline.Shape {
	if p.shelf != nil {
		for _, k := range p.shelf.kinds {
			if k.Format != badKind {
				return pipeline.Shape{C: k.C, H: k.H, W: k.W}
			}
		}
	}
	return pipeline.Shape{}
}

// Finish gives the folder its name, removes what was kept aside and ends the
// job. It returns the manifest.
func (p *Prep) Finish() (*Manifest, error) {
	if p.shelf != nil {
		p.shelf.close()
	}
	if err := p.job.PublishFolder(); err != nil {
		return nil, err
	}
	m, err := ReadManifest(p.job.cfg.Output)
	if err != nil {
		return nil, err
	}
	return m, p.job.Remove()
}
