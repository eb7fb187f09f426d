package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tercet-ml/tercet/pipeline"
)

// most is how many lines of a kind are printed.
const most = 12

func (f *findings) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("rows", "%s in %s; digest %.12s", count(int64(f.Rows)), plural(len(f.Shards), "file"), f.Digest)
	f.printFiles(line)
	f.printClasses(line)
	images := slices.SortedFunc(maps.Keys(f.Images), func(a, b string) int { return cmp.Or(f.Images[b]-f.Images[a], strings.Compare(a, b)) })
	for i, kind := range images {
		if i == most {
			line("", "and %s more kinds", count(int64(len(images)-most)))
			break
		}
		line(first(i, "images"), "%s %s", count(int64(f.Images[kind])), kind)
	}
	for i, b := range f.Bad {
		if i == most {
			line("", "and %s more (--json lists all)", count(int64(len(f.Bad)-most)))
			break
		}
		line(first(i, "cannot be read"), "%s: %s", pipeline.Location{File: b.File, RowGroup: b.RowGroup, Row: b.Row, Column: b.Column}, b.Reason)
	}
	if len(f.Bad) == 0 {
		line("cannot be read", "0 rows")
	}
	if f.Plan != nil {
		f.Plan.print(line)
	}
	return w.Flush()
}

func (f *findings) printClasses(line func(name, format string, args ...any)) {
	var known []class
	single, pairless := 0, 0
	for _, c := range f.Classes {
		switch {
		case c.Rows == 0:
			pairless++
			continue
		case c.Rows == 1:
			single++
		}
		known = append(known, c)
	}
	if len(known) == 0 {
		line("classes", "none: every row is of unknown class")
		return
	}
	slices.SortStableFunc(known, func(a, b class) int { return int(a.Rows - b.Rows) })
	line("classes", "%s; rows in each: min %s, median %s, max %s", count(int64(len(known))), count(known[0].Rows), count(known[len(known)/2].Rows), count(known[len(known)-1].Rows))
	var names []string
	for _, c := range known[:min(len(known), most)] {
		names = append(names, fmt.Sprintf("%s %d", c.Name, c.Rows))
	}
	line("smallest", "%s", strings.Join(names, ", "))
	line("", "%s of one row (never anchor or positive), %s without rows, %s rows of unknown class", count(int64(single)), count(int64(pairless)), count(int64(f.Unknown)))
}

// first is name for the first line of its kind.
func first(i int, name string) string {
	if i == 0 {
		return name
	}
	return ""
}

func (f *findings) printFiles(line func(name, format string, args ...any)) {
	for i, s := range f.Shards {
		if i == most {
			line("", "and %s more", plural(len(f.Shards)-most, "file"))
			break
		}
		line(first(i, "files"), "%s: %s, %s rows in %s, largest %s", s.Path, s.Format, count(s.Rows), plural(s.Groups, "group"), count(s.MaxGroup))
	}
	for i, c := range f.Columns {
		role := "not read"
		if c.Role != "" {
			role = c.Role
		}
		if c.Codec != "" {
			role += ", compression " + c.Codec
		}
		line(first(i, "columns"), "%s: %s (%s)", c.Name, c.Type, role)
	}
}
