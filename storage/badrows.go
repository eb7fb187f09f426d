package storage

import (
	"bufio"
	"cmp"
	"encoding/json"

	"github.com/tercet-ml/tercet/pipeline"
)

// badRow is a line of a report of bad rows.
type badRow struct {
	ID       int64  `json:"id"`
	File     string `json:"file"`
	RowGroup int    `json:"row_group"`
	Row      int64  `json:"row"`
	Column   string `json:"column,omitempty"`
	Reason   string `json:"reason"`
	Digest   string `json:"digest,omitempty"`
}

// WriteBadRows writes a report of bad rows, a JSON object a line, in the order
// given. The file appears whole or not at all; an existing one is refused with
// [ErrExists] unless overwrite is set. fsys may be nil for [OS].
func WriteBadRows(fsys FS, path string, rows []pipeline.BadRow, overwrite bool) error {
	if fsys == nil {
		fsys = OS
	}
	draft, err := NewDraft(fsys, path, overwrite)
	if err != nil {
		return err
	}
	defer draft.Abort()
	buf := bufio.NewWriter(draft)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(badRow{r.ID, r.File, r.RowGroup, r.Row, r.Column, r.Reason, r.Digest}); err != nil {
			return cmp.Or(draft.Err(), err)
		}
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return draft.Commit()
}
