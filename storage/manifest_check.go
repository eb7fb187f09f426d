package storage

import "fmt"

// check makes sure that the manifest is one that this package would write.
func (m *Manifest) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: manifest: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	switch {
	case m.Version != ManifestVersion:
		return bad("version is %d", m.Version)
	case m.Format != FormatParquet && m.Format != FormatArrow:
		return bad("format is %.100q, want parquet or arrow", m.Format)
	case len(m.Shards) > maxManifestShards || len(m.Classes) > maxManifestClasses || len(m.Images) > MaxManifestImages:
		return bad("%d shards, %d classes, %d kinds of images", len(m.Shards), len(m.Classes), len(m.Images))
	case m.Rows < 0 || m.Rows > maxManifestRows || m.Unknown < 0 || m.Unknown > m.Rows:
		return bad("%d rows, %d of unknown class", m.Rows, m.Unknown)
	}
	known, names := m.Unknown, make(map[string]bool, len(m.Classes))
	for i, c := range m.Classes {
		if c.Rows < 0 || c.Rows > m.Rows || names[c.Name] {
			return bad("class %d is %.100q, which comes twice or has %d rows", i, c.Name, c.Rows)
		}
		names[c.Name] = true
		known += c.Rows
	}
	if known != m.Rows {
		return bad("classes have %d rows, the data set %d", known, m.Rows)
	}
	images := m.Other
	for _, k := range m.Images {
		if k.Rows < 0 || k.Rows > m.Rows || k.C < 0 || k.H < 0 || k.W < 0 {
			return bad("%d images of %d×%d×%d", k.Rows, k.H, k.W, k.C)
		}
		images += k.Rows
	}
	if m.Other < 0 || images != m.Rows {
		return bad("%d images in %d rows", images, m.Rows)
	}
	if err := m.checkLabels(); err != nil {
		return bad("%v", err)
	}
	return m.checkShards(bad)
}

func (m *Manifest) checkLabels() error {
	width := int64(4)
	if m.Labels.Groups {
		width = 8
	}
	if m.Labels.Size != width*m.Rows || !isSHA256(m.Labels.SHA256) {
		return fmt.Errorf("labels of %d bytes for %d rows", m.Labels.Size, m.Rows)
	}
	return localPath(m.Labels.Path)
}

func (m *Manifest) checkShards(bad func(string, ...any) error) error {
	var all int64
	last := ""
	for i := range m.Shards {
		s := &m.Shards[i]
		if err := localPath(s.Path); err != nil {
			return bad("shard %d: %v", i, err)
		}
		if s.Path <= last || s.Path == m.Labels.Path || s.Path == ManifestName {
			return bad("shard %d is %.100q, which is not in name order", i, s.Path)
		}
		last = s.Path
		if len(s.Groups) == 0 || s.Rows < 1 || s.Rows > m.Rows || !isSHA256(s.Tail) {
			return bad("shard %s: %d rows in %d row groups", s.Path, s.Rows, len(s.Groups))
		}
		var rows, end int64
		for g, group := range s.Groups {
			if group.Rows < 1 || group.Rows > s.Rows-rows || group.End <= end || group.End >= s.Size || !isSHA256(group.SHA256) {
				return bad("shard %s, row group %d: %d rows to byte %d of %d", s.Path, g, group.Rows, group.End, s.Size)
			}
			rows, end = rows+group.Rows, group.End
		}
		if rows != s.Rows {
			return bad("shard %s: row groups have %d rows, the shard %d", s.Path, rows, s.Rows)
		}
		all += rows
	}
	if all != m.Rows {
		return bad("shards have %d rows, the data set %d", all, m.Rows)
	}
	return nil
}

// isSHA256 reports whether s is a SHA-256 in lower-case hex.
func isSHA256(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
