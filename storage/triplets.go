package storage

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// TripletConfig configures a [TripletWriter] or a [PairWriter].
type TripletConfig struct {
	// Path is the file to write; its ending says the format: .parquet (.pq),
	// .arrow (.ipc, .feather: an Arrow IPC file) or .jsonl (.ndjson). Any other
	// is refused with [ErrUnsupported].
	Path string

	// Overwrite replaces an existing file; without it, [ErrExists].
	Overwrite bool

	// Meta is all that is known before mining. Scope is "dataset" or "batch",
	// which adds the column "batch". FormatVersion, Content and PairLabels are
	// set by the writer and Counts by Close.
	Meta pipeline.TripletMeta

	// SamplePath is the path of a sample, which must not change: it may be
	// called twice for one row. nil leaves the path columns out. What is not
	// UTF-8 in a path is replaced by U+FFFD. A pairs file has no paths.
	SamplePath func(id int64) string

	FS FS // default [OS]
}

// A TripletWriter writes a triplet file: one row for each mined triplet, sorted
// by (batch,) anchor, positive and rank, which is not stored.
//
//	anchor, positive, negative                    int64    sample ids
//	anchor_label, positive_label, negative_label  int32    class numbers
//	anchor_path, positive_path, negative_path     string   only when the data set has paths
//	d_ap, d_an, loss                              float32  in units of the metadata's distance
//	kind                                          string   "hard", "semi-hard" or "easy"; dictionary-encoded
//	generation                                    int32    of the embeddings it was mined from
//	batch                                         int64    only in batch scope
//
// No column is nullable, because no value is ever missing: Parquet then stores
// no levels, and pyarrow, DuckDB, polars and datasets read it as it is. In Parquet
// kind is a plain string whose pages are dictionary-encoded (pyarrow gives a
// dictionary array when asked: read_dictionary=["kind"]); there is no ARROW:schema
// that would force one on readers that cannot take it. In Arrow files it is
// dictionary<int8, string>.
//
// The metadata is [pipeline.TripletMeta] as JSON, with file_rows and file_sha256,
// which [OpenTriplets] checks. It is the value of the key "tercet" in Parquet and
// Arrow files. In JSON lines it is a string member "tercet" of the first line.
//
// The bytes are a function of the rows and the metadata alone. A writer holds
// 65,536 rows. The file appears under its name, whole, when Close returns nil; a
// writer that fails, is aborted or dies leaves nothing there. Rows of Arrow files
// and JSON lines wait on the disk beside the output until then. A TripletWriter
// is for one goroutine.
type TripletWriter struct {
	w     *frameWriter
	meta  pipeline.TripletMeta
	path  func(int64) string
	frame frame
	prev  pipeline.MinedTriplet
	rows  int64
	text  int // bytes of paths in frame
}

// maxPath is the longest path, in bytes, that a triplet file holds.
const maxPath = 1 << 16

// tripletLayout is the columns of a triplet file, in order.
func tripletLayout(paths, batch bool) frame {
	f := columnsOf(frameInt64, "anchor", "positive", "negative")
	f = append(f, columnsOf(frameInt32, "anchor_label", "positive_label", "negative_label")...)
	if paths {
		f = append(f, columnsOf(frameString, "anchor_path", "positive_path", "negative_path")...)
	}
	f = append(f, columnsOf(frameFloat32, "d_ap", "d_an", "loss")...)
	f = append(f, columnsOf(frameKind, "kind")...)
	f = append(f, columnsOf(frameInt32, "generation")...)
	if batch {
		f = append(f, columnsOf(frameInt64, "batch")...)
	}
	return f
}

// The scopes of a triplet file.
const (
	ScopeDataset = "dataset"
	ScopeBatch   = "batch"
)

// open begins a file whose layout depends on whether it has batches.
func (c TripletConfig) open(content string, layout func(batch bool) frame) (*frameWriter, pipeline.TripletMeta, error) {
	meta := c.Meta
	if meta.Scope != ScopeDataset && meta.Scope != ScopeBatch {
		return nil, meta, fmt.Errorf("storage: TripletConfig.Meta.Scope is %q, want %q or %q", meta.Scope, ScopeDataset, ScopeBatch)
	}
	if math.IsNaN(meta.Margin) || math.IsInf(meta.Margin, 0) {
		return nil, meta, fmt.Errorf("storage: TripletConfig.Meta.Margin is %v, want a finite number", meta.Margin)
	}
	meta.FormatVersion = TripletFormat
	meta.Content = content
	if meta.Guards == nil {
		meta.Guards = []string{}
	}
	w, err := newFrameWriter(c.FS, c.Path, c.Overwrite, layout(meta.Scope == ScopeBatch))
	return w, meta, err
}

// NewTripletWriter begins a triplet file.
func NewTripletWriter(cfg TripletConfig) (*TripletWriter, error) {
	w, meta, err := cfg.open("triplets", func(batch bool) frame { return tripletLayout(cfg.SamplePath != nil, batch) })
	if err != nil {
		return nil, err
	}
	return &TripletWriter{w: w, meta: meta, path: cfg.SamplePath, frame: w.layout.like()}, nil
}

// Write appends triplets, which it does not keep. One that is invalid or out of
// order is an error, and the file's end. Triplets that agree in batch, anchor,
// positive and rank are in order (a batch may hold an image twice).
func (w *TripletWriter) Write(triplets []pipeline.MinedTriplet) error {
	for _, t := range triplets {
		if err := w.check(t); err != nil {
			return w.w.guard(func() error {
				return fmt.Errorf("triplet %d (%d, %d, %d): %w", w.rows, t.Anchor, t.Positive, t.Negative, err)
			})
		}
		if err := w.append(t); err != nil {
			return w.w.guard(func() error { return err })
		}
		w.prev = t
		w.rows++
		if w.frame.rows() == frameRows || w.text >= frameText {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return w.w.failed()
}

func (w *TripletWriter) check(t pipeline.MinedTriplet) error {
	if err := checkTriplet(t, w.meta.Scope == ScopeBatch); err != nil {
		return err
	}
	if w.rows > 0 && compareTriplets(w.prev, t) > 0 {
		return fmt.Errorf("out of order: comes after batch %d, anchor %d, positive %d, rank %d", w.prev.Batch, w.prev.Anchor, w.prev.Positive, w.prev.Rank)
	}
	return nil
}

// append adds a row to the frame; the columns of a type are in the order of the fields.
func (w *TripletWriter) append(t pipeline.MinedTriplet) error {
	ids := []int64{t.Anchor, t.Positive, t.Negative}
	i64 := append(ids, t.Batch)
	i32 := []int32{t.AnchorLabel, t.PositiveLabel, t.NegativeLabel, t.Generation}
	f32 := []float32{t.AP, t.AN, t.Loss}
	for i := range w.frame {
		switch c := &w.frame[i]; c.typ {
		case frameInt64:
			c.i64, i64 = append(c.i64, i64[0]), i64[1:]
		case frameInt32:
			c.i32, i32 = append(c.i32, i32[0]), i32[1:]
		case frameFloat32:
			c.f32, f32 = append(c.f32, f32[0]), f32[1:]
		case frameString:
			path := strings.ToValidUTF8(w.path(ids[0]), "\uFFFD")
			if len(path) > maxPath {
				return fmt.Errorf("sample %d: path of %d bytes, want at most %d", ids[0], len(path), maxPath)
			}
			w.text += len(path)
			c.str, ids = append(c.str, path), ids[1:]
		case frameKind:
			c.kind = append(c.kind, t.Kind)
		}
	}
	return nil
}

func (w *TripletWriter) flush() error {
	if w.frame.rows() == 0 {
		return w.w.failed()
	}
	err := w.w.write(w.frame)
	w.frame.reset()
	w.text = 0
	return err
}

// Close writes the counts into the metadata and gives the file its name.
func (w *TripletWriter) Close(counts map[string]int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.w.close(withCounts(w.meta, counts))
}

// Abort gives the file up. After Close it does nothing, so it can be deferred.
func (w *TripletWriter) Abort() { w.w.abort() }

func withCounts(meta pipeline.TripletMeta, counts map[string]int64) pipeline.TripletMeta {
	if counts == nil {
		counts = map[string]int64{}
	}
	meta.Counts = counts
	return meta
}

// compareTriplets is the order of a triplet file.
func compareTriplets(a, b pipeline.MinedTriplet) int {
	return cmp.Or(
		cmp.Compare(a.Batch, b.Batch),
		cmp.Compare(a.Anchor, b.Anchor),
		cmp.Compare(a.Positive, b.Positive),
		cmp.Compare(a.Rank, b.Rank),
	)
}

// checkTriplet says what is wrong with a triplet by itself. Distances may be
// negative by a rounding error: 1 − x·y of equal rows.
func checkTriplet(t pipeline.MinedTriplet, batch bool) error {
	switch {
	case min(t.Anchor, t.Positive, t.Negative) < 0:
		return errors.New("negative sample id")
	case t.Anchor == t.Positive:
		return errors.New("the positive is the anchor")
	case t.Anchor == t.Negative || t.Positive == t.Negative:
		return errors.New("the negative is the anchor or the positive")
	case min(t.AnchorLabel, t.NegativeLabel) < 0:
		return errors.New("unknown label")
	case t.AnchorLabel != t.PositiveLabel:
		return fmt.Errorf("labels of anchor and positive are %d and %d, want the same", t.AnchorLabel, t.PositiveLabel)
	case t.AnchorLabel == t.NegativeLabel:
		return fmt.Errorf("labels of anchor and negative are both %d", t.AnchorLabel)
	case !finite(t.AP) || !finite(t.AN) || !finite(t.Loss):
		return fmt.Errorf("d_ap %v, d_an %v, loss %v: want finite numbers", t.AP, t.AN, t.Loss)
	case t.Loss < 0:
		return fmt.Errorf("loss is %v, want at least 0", t.Loss)
	case int(t.Kind) >= len(kindNames):
		return fmt.Errorf("kind is %d", t.Kind)
	case t.Generation < 0:
		return fmt.Errorf("generation is %d", t.Generation)
	case batch && t.Batch < 0:
		return fmt.Errorf("batch is %d, want at least 0 in batch scope", t.Batch)
	case !batch && t.Batch != -1:
		return fmt.Errorf("batch is %d, want −1 in data-set scope", t.Batch)
	}
	return nil
}

func finite(v float32) bool { return v-v == 0 }
