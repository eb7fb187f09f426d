package storage

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"

	"github.com/tercet-ml/tercet/pipeline"
)

// A tableFeed is a [Dataset].
type tableFeed struct {
	path string
	set  *Dataset
	feedLabels
}

func openTableFeed(ctx context.Context, paths []string, path string, cfg IntakeConfig) (*tableFeed, error) {
	c := cfg.Config
	c.Paths, c.scanLabels = paths, true
	set, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := set.usable(); err != nil {
		set.Close()
		return nil, err
	}
	f := &tableFeed{path: path, set: set, feedLabels: feedLabels{rows: set.labels}}
	if f.names = set.classes; f.names != nil {
		f.declared = set.roles[0].label.kind != kindString
	} else {
		// Numbers without names are their own names.
		f.rows = nil
		for _, l := range set.labels {
			if l == pipeline.Unknown {
				f.add("")
			} else {
				f.add(strconv.Itoa(int(l)))
			}
		}
	}
	if set.groups != nil {
		f.groups = make([]string, len(set.groups))
		for i, g := range set.groups {
			if g >= 0 {
				f.groups[i] = set.groupNames[g]
			}
		}
	}
	return f, nil
}

func (f *tableFeed) name() string          { return f.path }
func (f *tableFeed) kind() string          { return "table" }
func (f *tableFeed) labelled() *feedLabels { return &f.feedLabels }
func (f *tableFeed) identity(w io.Writer)  { fmt.Fprint(w, f.set.Digest()) }
func (f *tableFeed) close() error          { return f.set.Close() }

// records implements [feed].
func (f *tableFeed) records(ctx context.Context, from int64) iter.Seq2[pipeline.Record, error] {
	return func(yield func(pipeline.Record, error) bool) {
		d := f.set
		for i, p := range d.parts {
			if from >= p.first+p.rows {
				continue
			}
			var rows []int64 // all
			if from > p.first {
				for row := from - p.first; row < p.rows; row++ {
					rows = append(rows, row)
				}
			}
			for recs, err := range d.records(ctx, i, rows) {
				if err != nil {
					yield(pipeline.Record{}, err)
					return
				}
				for _, rec := range recs {
					if !yield(rec, nil) {
						return
					}
				}
			}
		}
	}
}
