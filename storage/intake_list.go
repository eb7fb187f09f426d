package storage

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// A listFeed is a CSV, TSV or JSON lines file of paths and labels.
type listFeed struct {
	path  string
	root  *os.Root // the folder of the list, which no path leads out of
	limit int64
	files []string
	lines []int32 // of the list, by row
	feedLabels
}

// A listRow is one row of a list.
type listRow struct {
	line                      int
	path, label, group, split string
}

// Names of the columns of a list; the first that is there counts.
var (
	listPaths  = []string{"path", "file_name", "filename", "file", "image"}
	listGroups = []string{"group"}
	listSplits = []string{"split"}
)

// maxListLine is how long a line of JSON may be.
const maxListLine = 1 << 20

// openList reads the list.
func openList(path string, cfg IntakeConfig) (_ *listFeed, err error) {
	f := &listFeed{path: path, limit: min(maxImageFile, cfg.decoding())}
	if f.root, err = os.OpenRoot(filepath.Dir(path)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.root.Close()
		}
	}()
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	read := readJSONLines
	switch ending := strings.ToLower(filepath.Ext(path)); ending {
	case ".csv", ".tsv":
		read = func(r io.Reader) iter.Seq2[listRow, error] { return readCSV(r, ending == ".tsv") }
	}
	var rows []listRow
	var splits []dataFile
	hasGroup := false
	for row, err := range read(file) {
		if err == nil {
			err = localListPath(row.path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, row.line, err)
		}
		split := strings.ToLower(row.split)
		if name, ok := splitNames[split]; ok {
			split = name
		}
		rows = append(rows, row)
		splits = append(splits, dataFile{split: split, shard: len(rows) - 1})
		hasGroup = hasGroup || row.group != ""
	}
	if splits, err = chooseSplit(splits, cfg.Split); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range splits {
		row := rows[s.shard]
		f.files = append(f.files, row.path)
		f.lines = append(f.lines, int32(row.line))
		f.add(row.label)
		if hasGroup {
			f.groups = append(f.groups, row.group)
		}
	}
	return f, nil
}

// localListPath refuses a path that leads out of the list's folder.
func localListPath(p string) error {
	switch {
	case p == "":
		return errors.New("no path")
	case !filepath.IsLocal(filepath.FromSlash(p)):
		return fmt.Errorf("%w: the path %q leads out of the folder of the list: put the list beside or above the images", ErrUnsupported, p)
	}
	return nil
}

func (f *listFeed) name() string          { return f.path }
func (f *listFeed) kind() string          { return "list" }
func (f *listFeed) labelled() *feedLabels { return &f.feedLabels }
func (f *listFeed) close() error          { return f.root.Close() }

func (f *listFeed) identity(w io.Writer) {
	for _, p := range f.files {
		fmt.Fprintf(w, "%q", p)
	}
}

// records implements [feed].
func (f *listFeed) records(ctx context.Context, from int64) iter.Seq2[pipeline.Record, error] {
	return func(yield func(pipeline.Record, error) bool) {
		for i := from; i < int64(len(f.files)); i++ {
			p := f.files[i]
			rec := pipeline.Record{Path: p, Where: pipeline.Location{File: filepath.Join(filepath.Dir(f.path), p), RowGroup: -1, Row: -1}}
			err := context.Cause(ctx)
			if err == nil {
				rec.Image, err = readImageFile(f.root.FS(), filepath.ToSlash(filepath.Clean(p)), f.limit)
				if err != nil {
					err = fmt.Errorf("%s: line %d: %s: %w", f.path, f.lines[i], p, err)
				}
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// readCSV yields the rows of a CSV or TSV file, which begins with the names of
// its columns.
func readCSV(r io.Reader, tabs bool) iter.Seq2[listRow, error] {
	return func(yield func(listRow, error) bool) {
		c := csv.NewReader(bufio.NewReader(r))
		c.ReuseRecord = true
		if tabs {
			c.Comma, c.LazyQuotes = '\t', true
		}
		names, err := c.Read()
		if err != nil {
			yield(listRow{line: 1}, fmt.Errorf("%w: read the names of the columns: %w", ErrCorrupt, unexpected(err)))
			return
		}
		names = slices.Clone(names)
		names[0] = strings.TrimPrefix(names[0], "\ufeff")
		at := func(want []string) int {
			for _, name := range want {
				if i := slices.Index(names, name); i >= 0 {
					return i
				}
			}
			return -1
		}
		path, label, group, split := at(listPaths), at(labelRole.names), at(listGroups), at(listSplits)
		if path < 0 || label < 0 {
			yield(listRow{line: 1}, fmt.Errorf("%w: want the columns path and label, and perhaps group and split (found: %s)", ErrSchema, strings.Join(names, ", ")))
			return
		}
		for {
			fields, err := c.Read()
			if err == io.EOF {
				return
			}
			line, _ := c.FieldPos(0)
			row := listRow{line: line}
			if err != nil {
				if bad, ok := errors.AsType[*csv.ParseError](err); ok {
					row.line, err = bad.Line, bad.Err
				}
				yield(row, fmt.Errorf("%w: %w", ErrCorrupt, err))
				return
			}
			row.path, row.label = fields[path], fields[label]
			if group >= 0 {
				row.group = fields[group]
			}
			if split >= 0 {
				row.split = fields[split]
			}
			if row.label, err = listLabel(row.label); !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// readJSONLines yields the rows of a file with one JSON object in each line.
func readJSONLines(r io.Reader) iter.Seq2[listRow, error] {
	return func(yield func(listRow, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxListLine)
		row := listRow{}
		for lines.Scan() {
			row = listRow{line: row.line + 1}
			if strings.TrimSpace(lines.Text()) == "" {
				continue
			}
			err := row.readJSON(lines.Bytes())
			if !yield(row, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			row.line++
			yield(row, fmt.Errorf("%w: %w", ErrCorrupt, err))
		}
	}
}

func (row *listRow) readJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	for _, f := range []struct {
		names []string
		dst   *string
	}{{listPaths, &row.path}, {labelRole.names, &row.label}, {listGroups, &row.group}, {listSplits, &row.split}} {
		for _, name := range f.names {
			if raw, ok := fields[name]; ok {
				text, err := scalar(raw)
				if err != nil {
					return fmt.Errorf("%q: %w", name, err)
				}
				*f.dst = text
				break
			}
		}
	}
	if !slices.ContainsFunc(labelRole.names, func(n string) bool { return fields[n] != nil }) {
		return fmt.Errorf("%w: want path and label, and perhaps group and split", ErrSchema)
	}
	var err error
	row.label, err = listLabel(row.label)
	return err
}

// listLabel is a label in its shortest form; −1 is unknown, "".
func listLabel(s string) (string, error) {
	s = strings.TrimSpace(s)
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return s, nil
	case n < -1:
		return "", fmt.Errorf("%w: label %d, want −1 (unknown) or more", ErrValue, n)
	case n == -1:
		return "", nil
	}
	return strconv.FormatInt(n, 10), nil
}
