package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// IntakeConfig says what an [Intake] reads. What Config has beside Paths is for
// Parquet and Arrow, but for Split, Memory and Workers.
type IntakeConfig struct {
	Config
	ClassLevels int // in image folders, how many folders above an image name its class: 1, 2; 0: all that there are
}

// An Intake is data as people have them, of any kinds and several at once, as
// one sequence of rows: the sources in the order they were named, in each the
// rows in its own order (in image folders, by name). Labels are known before
// the first image is read.
type Intake struct {
	feeds   []feed
	labels  []int32
	classes []string
	digest  string
	passed  []string
}

// A feed is one source.
type feed interface {
	name() string // as it was named
	kind() string // "images", "zip", "idx", "webdataset", "list" or "table", for people
	// labelled are the labels of all rows.
	labelled() *feedLabels
	// records yields the rows from one on. Record.Image belongs to the
	// receiver; ID and Label are not set. An error is the last thing yielded.
	records(ctx context.Context, from int64) iter.Seq2[pipeline.Record, error]
	// identity is what the digest of the intake takes of the source beside its labels.
	identity(w io.Writer)
	close() error
}

// feedLabels are the labels and groups of a source.
type feedLabels struct {
	names    []string // of the classes
	declared bool     // the source gives the names in an order of its own, perhaps more than have rows
	rows     []int32  // by row, numbers of names; −1 unknown
	groups   []string // by row, "" for none; nil where there are no groups
	numbers  map[string]int32
}

// add gives the next row its class by name; "" is unknown.
func (l *feedLabels) add(name string) {
	if name == "" {
		l.rows = append(l.rows, pipeline.Unknown)
		return
	}
	if l.numbers == nil {
		l.numbers = make(map[string]int32)
	}
	n, ok := l.numbers[name]
	if !ok {
		n = int32(len(l.names))
		l.numbers[name] = n
		l.names = append(l.names, name)
	}
	l.rows = append(l.rows, n)
}

// OpenIntake finds out what every path is, by its ending, by its first bytes and
// by what is in a folder, and reads all labels:
//
//   - a folder of images, class/image or class/subclass/image, or a zip of one.
//     Its first level may be splits (train, test);
//   - IDX images, plain or gzipped, beside the labels that belong to them, or a
//     folder of such files;
//   - WebDataset tars: key.jpg (png, gif, webp) with key.cls or key.json;
//   - CSV, TSV or JSON lines with the columns path, label and perhaps group and split;
//   - what [Open] reads.
//
// Errors are as those of [Open].
func OpenIntake(ctx context.Context, cfg IntakeConfig) (_ *Intake, err error) {
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	in := new(Intake)
	defer func() {
		if err != nil {
			in.Close()
		}
	}()
	paths, err := intakePaths(cfg.Paths)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		feeds, passed, err := openFeeds(ctx, path, cfg)
		in.feeds = append(in.feeds, feeds...)
		in.passed = append(in.passed, passed...)
		if err != nil {
			return nil, err
		}
	}
	in.name()
	if len(in.labels) == 0 {
		return nil, fmt.Errorf("open %s: %w: there is not one row", strings.Join(cfg.Paths, ", "), ErrNoData)
	}
	return in, nil
}

// intakePaths are the paths with patterns resolved, and without the label files
// of IDX images that are named too.
func intakePaths(paths []string) ([]string, error) {
	var found []string
	for _, p := range paths {
		matches := []string{p}
		if strings.ContainsAny(p, "*?[") && !exists(p) {
			var err error
			if matches, err = filepath.Glob(p); err != nil {
				return nil, fmt.Errorf("open %s: %w", p, err)
			}
			if len(matches) == 0 {
				return nil, fmt.Errorf("open %s: %w", p, ErrNoData)
			}
		}
		found = append(found, matches...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("open data: %w: no path was given", ErrNoData)
	}
	return slices.DeleteFunc(found, func(p string) bool {
		return slices.ContainsFunc(found, func(images string) bool { return images != p && slices.Contains(idxLabelNames(images), p) })
	}), nil
}

// name numbers the classes of all sources. Where each declares the same names,
// their order is kept; otherwise names are in bytewise order, and numbers in
// that of numbers.
func (in *Intake) name() {
	same := true
	all := make(map[string]int32)
	for _, f := range in.feeds {
		l := f.labelled()
		same = same && l.declared && slices.Equal(l.names, in.feeds[0].labelled().names)
		for _, name := range l.names {
			all[name] = 0
		}
	}
	if same {
		in.classes = in.feeds[0].labelled().names
	} else {
		in.classes = slices.SortedFunc(maps.Keys(all), compareNames(all))
	}
	for i, name := range in.classes {
		all[name] = int32(i)
	}
	h := sha256.New()
	for _, f := range in.feeds {
		l := f.labelled()
		fmt.Fprintf(h, "%s %d %d\n", f.kind(), len(l.rows), len(l.names))
		f.identity(h)
		for _, n := range l.rows {
			if n != pipeline.Unknown {
				n = all[l.names[n]]
			}
			in.labels = append(in.labels, n)
		}
		binary.Write(h, binary.LittleEndian, in.labels[len(in.labels)-len(l.rows):])
		for _, g := range l.groups {
			fmt.Fprintf(h, "%q", g)
		}
	}
	for _, name := range in.classes {
		fmt.Fprintf(h, "%q", name)
	}
	in.digest = hex.EncodeToString(h.Sum(nil))
}

// compareNames orders names as numbers where all of them are.
func compareNames(names map[string]int32) func(a, b string) int {
	for name := range names {
		if n, err := strconv.ParseInt(name, 10, 64); err != nil || n < 0 || strconv.FormatInt(n, 10) != name {
			return strings.Compare
		}
	}
	return func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	}
}

// Len is the number of rows.
func (in *Intake) Len() int64 { return int64(len(in.labels)) }

// Classes are the names of the classes by number. The slice is the intake's.
func (in *Intake) Classes() []string { return in.classes }

// Digest is a SHA-256, in hex, of what the data consist of: the kinds and sizes
// of the sources, the paths in them and every label; not of every image.
func (in *Intake) Digest() string { return in.digest }

// PassedOver are files that are no images, in folders of images.
func (in *Intake) PassedOver() []string { return in.passed }

// HasGroups reports whether any source gives groups.
func (in *Intake) HasGroups() bool {
	return slices.ContainsFunc(in.feeds, func(f feed) bool { return f.labelled().groups != nil })
}

// Sources are what the data come from, in order.
func (in *Intake) Sources() []ManifestSource {
	var all []ManifestSource
	for _, f := range in.feeds {
		all = append(all, ManifestSource{Name: filepath.Base(f.name()), Kind: f.kind(), Rows: int64(len(f.labelled().rows))})
	}
	return all
}

// Group is the group of a row; "" for none.
func (in *Intake) Group(row int64) string {
	for _, f := range in.feeds {
		l := f.labelled()
		if n := int64(len(l.rows)); row >= n {
			row -= n
			continue
		}
		if l.groups == nil {
			return ""
		}
		return l.groups[row]
	}
	return ""
}

// From is the source of the rows from one on.
func (in *Intake) From(row int64) pipeline.Source[pipeline.Record] { return intakeFrom{in, row} }

type intakeFrom struct {
	in   *Intake
	from int64
}

// Run implements [pipeline.Source].
func (s intakeFrom) Run(ctx context.Context, out chan<- pipeline.Record) error {
	first := int64(0) // row of the feed
	for _, f := range s.in.feeds {
		n := int64(len(f.labelled().rows))
		id := max(first, s.from)
		first += n
		if id >= first {
			continue
		}
		for rec, err := range f.records(ctx, id-(first-n)) {
			if err != nil {
				return err
			}
			if id == first {
				return fmt.Errorf("%s: %w: more rows than there were when its labels were read", f.name(), ErrCorrupt)
			}
			rec.ID, rec.Label = id, s.in.labels[id]
			if err := pipeline.Send(ctx, out, rec); err != nil {
				return err
			}
			id++
		}
		if id < first {
			return fmt.Errorf("%s: %w: %d rows fewer than there were when its labels were read", f.name(), ErrCorrupt, first-id)
		}
	}
	return nil
}

// Close lets go of the files.
func (in *Intake) Close() error {
	var first error
	for _, f := range in.feeds {
		if err := f.close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
