package storage

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// A shardWriter writes one shard of a [Prep].
type shardWriter struct {
	prep    *Prep
	name    string
	classes []string
	numbers []int32 // of the classes of the source
	raw     pipeline.Raw
}

// shardInfo is what is known of a shard that was written.
type shardInfo struct {
	Shard  ManifestShard `json:"shard"`
	Groups []string      `json:"groups,omitempty"` // by row
}

// write writes the shard of these rows of the shelf, or finds that it has been.
func (w shardWriter) write(ctx context.Context, rows []int64) (info shardInfo, err error) {
	p := w.prep
	if part, done := p.job.Part(w.name); done {
		if err := json.Unmarshal(part.Info, &info); err != nil || info.Shard.Path != w.name || info.Shard.Rows != int64(len(rows)) {
			return info, fmt.Errorf("%s: %w: the record of the part does not describe it", p.job.Path(part), ErrCorrupt)
		}
		return info, nil
	}
	part, err := p.job.Create(w.name)
	if err != nil {
		return info, err
	}
	defer part.Abort()
	out, err := NewRecordWriter(part, w.config(rows))
	if err != nil {
		return info, err
	}
	var row Row
	var buf []byte
	for _, i := range rows {
		if ctx.Err() != nil {
			return info, context.Cause(ctx)
		}
		if err := p.shelf.read(i, &row, &buf); err != nil {
			return info, err
		}
		row.Label = PrepLayout{Classes: w.numbers}.label(row.Label)
		if err := out.Write(row); err != nil {
			return info, fmt.Errorf("%s: %w", part.path, err)
		}
		if p.cfg.Groups {
			info.Groups = append(info.Groups, row.Group)
		}
	}
	if err := out.Close(); err != nil {
		return info, fmt.Errorf("%s: %w", part.path, err)
	}
	if info.Shard, err = describeShard(part, part.Size(), p.cfg.Format); err != nil {
		return info, fmt.Errorf("%s: %w", part.path, err)
	}
	info.Shard.Path = w.name
	return info, part.Commit(info)
}

// pageBytes is how large a page of images is, about: what is decompressed for one row.
const pageBytes = 1 << 20

// config lays out the shard: row groups of about equal size.
func (w shardWriter) config(rows []int64) RecordWriterConfig {
	p := w.prep
	var total int64
	for _, i := range rows {
		total += int64(p.shelf.rows[i].image)
	}
	n := max(1, (total+p.cfg.GroupBytes-1)/p.cfg.GroupBytes)
	cfg := RecordWriterConfig{
		Format: p.cfg.Format, Classes: w.classes,
		GroupBytes: max(1, (total+n-1)/n), GroupRows: 1 << 20,
	}
	if w.raw != (pipeline.Raw{}) {
		cfg.Image, cfg.Raw, cfg.PathColumn = ImageFixed, w.raw, "path"
	}
	if p.cfg.Groups {
		cfg.GroupColumn = groupColumn
	}
	if cfg.Format == FormatParquet {
		cfg.Codec, cfg.CompressImages = CodecZstd, true // for the checksum of each frame
		cfg.PageRows = int(min(max(1, pageBytes*int64(len(rows))/max(1, total)), 1024))
	}
	return cfg
}
