package storage

import "github.com/tercet-ml/tercet/pipeline"

// Info is what a data set consists of, for people.
type Info struct {
	Rows    int64        `json:"rows"`
	Classes int          `json:"classes"` // named classes; 0 where integer labels come without names
	Shards  []ShardInfo  `json:"files"`
	Columns []ColumnInfo `json:"columns"`       // of the first shard, in file order
	Raw     pipeline.Raw `json:"raw,omitzero"`  // of the image column; zero for encoded images
	Dim     int          `json:"dim,omitempty"` // of the embedding column; 0 without one
}

// ShardInfo is one file.
type ShardInfo struct {
	Path     string `json:"path"`
	Format   string `json:"format"` // "parquet", "arrow" or "arrow stream"
	Size     int64  `json:"size"`   // bytes
	Rows     int64  `json:"rows"`
	Groups   int    `json:"groups"`    // row groups, or record batches
	MaxGroup int64  `json:"max_group"` // rows of the largest of them
}

// ColumnInfo is one column.
type ColumnInfo struct {
	Name  string `json:"name"`
	Type  string `json:"type"`            // in Arrow's words
	Codec string `json:"codec,omitempty"` // compression: "zstd", "none"; "" where the format has none
	Role  string `json:"role,omitempty"`  // "image", "label", "id", "group", "embedding"; "" for a column that is not read
}

// Info describes the data set. It reads nothing.
func (d *Dataset) Info() Info {
	info := Info{Rows: d.rows, Classes: len(d.classes), Raw: d.raw, Dim: d.dim}
	for _, s := range d.shards {
		si := ShardInfo{Path: s.path(), Format: s.format(), Size: s.size(), Groups: len(s.groups())}
		for _, rows := range s.groups() {
			si.Rows += rows
			si.MaxGroup = max(si.MaxGroup, rows)
		}
		info.Shards = append(info.Shards, si)
	}
	r := d.roles[0]
	for i, c := range d.shards[0].columns() {
		ci := ColumnInfo{Name: c.name, Type: c.typ, Codec: c.codec}
		for _, p := range []struct {
			role string
			c    *column
		}{{"id", r.id}, {"group", r.group}, {"embedding", r.embedding}, {"label", r.label}, {"image", r.image}} {
			if p.c != nil && p.c.index == i {
				ci.Role = p.role // the image, where its path is the id too
			}
		}
		info.Columns = append(info.Columns, ci)
	}
	return info
}
