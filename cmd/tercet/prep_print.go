package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// prepSummary is what tercet prep says of a finished job, as JSON.
type prepSummary struct {
	Output    string                   `json:"output"`
	Format    storage.Format           `json:"format"`
	Split     string                   `json:"split"`
	Encoding  string                   `json:"encoding"`
	Rows      int64                    `json:"rows"`
	Unknown   int64                    `json:"unknown"`
	Classes   []storage.ManifestClass  `json:"classes"`
	Images    []storage.ManifestImage  `json:"images"`
	Counts    map[string]int64         `json:"counts"`
	Sources   []storage.ManifestSource `json:"sources"`
	Shards    int                      `json:"shards"`
	RowGroups int                      `json:"row_groups"`
	Bytes     int64                    `json:"bytes"`
	Digest    string                   `json:"digest"`
	Conflicts []conflict               `json:"conflicts"`   // at most stages.MaxConflicts
	Passed    []string                 `json:"passed_over"` // files that are no images
}

// A conflict is one image under two classes.
type conflict struct {
	Rows    [2]int64  `json:"rows"` // of the source
	Classes [2]string `json:"classes"`
}

func (j *prepJob) print(in *storage.Intake, m *storage.Manifest, chosen *stages.Selection) error {
	s := prepSummary{
		Output: j.flags.out, Format: m.Format, Split: m.Split, Encoding: m.Encoding, Rows: m.Rows, Unknown: m.Unknown,
		Classes: m.Classes, Images: m.Images, Counts: m.Counts, Sources: m.Sources, Shards: len(m.Shards), Digest: m.Digest,
		Conflicts: []conflict{}, Passed: append([]string{}, in.PassedOver()...),
	}
	for _, shard := range m.Shards {
		s.RowGroups += len(shard.Groups)
		s.Bytes += shard.Size
	}
	if chosen != nil {
		for _, c := range chosen.Conflicts {
			s.Conflicts = append(s.Conflicts, conflict{c.Rows, [2]string{in.Classes()[c.Labels[0]], in.Classes()[c.Labels[1]]}})
		}
	}
	if j.flags.json {
		return printJSON(j.stdout, s)
	}
	return j.printText(&s)
}

func (j *prepJob) printText(s *prepSummary) error {
	w := tabwriter.NewWriter(j.stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	for i, src := range s.Sources {
		if i == most {
			line("", "and %s more", plural(len(s.Sources)-most, "source"))
			break
		}
		line(first(i, "from"), "%s: %s, %s rows", src.Name, src.Kind, count(src.Rows))
	}
	rows := slices.Clone(s.Classes)
	slices.SortFunc(rows, func(a, b storage.ManifestClass) int { return int(a.Rows - b.Rows) })
	classes := "none: every row is of unknown class"
	if n := len(rows); n > 0 {
		classes = fmt.Sprintf("%s; rows in each: min %s, median %s, max %s", count(int64(n)), count(rows[0].Rows), count(rows[n/2].Rows), count(rows[n-1].Rows))
	}
	line("classes", "%s", classes)
	for i, k := range s.Images {
		if i == most {
			line("", "and %s more kinds", count(int64(len(s.Images)-most)))
			break
		}
		line(first(i, "images"), "%s %s %d×%d %s", count(k.Rows), k.Format, k.H, k.W, colours(k.C))
	}
	c := s.Counts
	dropped := func(flag bool) string {
		if flag {
			return ", left out"
		}
		return ", kept"
	}
	if c["bad"] > 0 {
		line("bad rows", "%s, left out; report in %s", count(c["bad"]), j.flags.badRows)
	}
	if c["duplicates"] > 0 {
		line("duplicates", "%s with the pixels and the class of an earlier row%s", count(c["duplicates"]), dropped(j.flags.dedup))
	}
	if c["conflicting"] > 0 {
		line("conflicts", "%s rows whose pixels come under another class too%s", count(c["conflicting"]), dropped(j.flags.dropConflicts))
		for i, k := range s.Conflicts {
			if i == 3 {
				line("", "and more (--json lists them)")
				break
			}
			line("", "rows %d and %d of the source are %s and %s", k.Rows[0], k.Rows[1], k.Classes[0], k.Classes[1])
		}
	}
	if c["small_classes"] > 0 {
		line("small classes", "%s of fewer than %d images, %s rows, left out", count(c["small_classes"]), j.flags.minPerClass, count(c["small_class_rows"]))
	}
	if s.Unknown > 0 {
		line("unknown", "%s rows of unknown class", count(s.Unknown))
	}
	if n := len(s.Passed); n > 0 {
		names := make([]string, min(n, 3))
		for i := range names {
			names[i] = filepath.Base(s.Passed[i])
		}
		line("passed over", "%s that are no images: %s", plural(n, "file"), strings.Join(names, ", "))
	}
	line("wrote", "%s rows to %s: %s in %s, %.1f MiB of %s; digest %.12s",
		count(s.Rows), s.Output, plural(s.RowGroups, "row group"), plural(s.Shards, "shard"), float64(s.Bytes)/(1<<20), s.Format, s.Digest)
	return w.Flush()
}
