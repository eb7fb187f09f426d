package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

// dataFlags say which rows and columns to read, and with how much of the machine.
type dataFlags struct {
	split, image, label, id, group, embedding string
	shape                                     string
	workers                                   int
	memory                                    string
	maxPixels                                 int64
	keepBad                                   bool // bad rows are let through
}

func (d *dataFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&d.split, "split", "", "which split to read of a folder that holds several (train, test, …)")
	flags.StringVar(&d.image, "image-column", "", "column of images (default: found by its usual names)")
	flags.StringVar(&d.label, "label-column", "", "column of labels: integers or strings (default: found by its usual names)")
	flags.StringVar(&d.id, "id-column", "", "column of ids or paths that travels with each sample (default: found by its usual names)")
	flags.StringVar(&d.group, "group-column", "", "column of groups (a video, a product) for --guard-same-group (default: group)")
	flags.StringVar(&d.embedding, "embedding-column", "", "column of embeddings (default: found by its usual names)")
	flags.StringVar(&d.shape, "shape", "", "shape of raw pixels where the file does not say it: HxW or HxWxC")
	flags.Int64Var(&d.maxPixels, "max-pixels", 64e6, "pixels an image may have: larger ones are refused before they are decoded")
	flags.IntVar(&d.workers, "workers", 0, "how many things to do at a time (default: the number of cores)")
	flags.StringVar(&d.memory, "memory", "2GiB", "memory to keep within: a number with KiB, MiB or GiB")
}

// open opens the data set and sets the process's memory limit.
func (d *dataFlags) open(ctx context.Context, paths []string) (*storage.Dataset, error) {
	memory, err := d.bytes()
	if err != nil {
		return nil, err
	}
	shape, err := parseShape("--shape", d.shape)
	if err != nil {
		return nil, err
	}
	if d.workers < 0 {
		return nil, usagef("--workers is %d, want 0 for one per core or more", d.workers)
	}
	if d.maxPixels < 1 || d.maxPixels > 1<<40 {
		return nil, usagef("--max-pixels is %d, want 1 to 2^40", d.maxPixels)
	}
	debug.SetMemoryLimit(memory)
	set, err := storage.Open(ctx, storage.Config{
		Paths: paths, Split: d.split,
		ImageColumn: d.image, LabelColumn: d.label, IDColumn: d.id, GroupColumn: d.group, EmbeddingColumn: d.embedding,
		Shape: shape, Memory: memory / 4, Workers: d.workers, KeepBad: d.keepBad,
	})
	if err != nil {
		return nil, err
	}
	slog.Debug("opened", "rows", set.Len(), "digest", set.Digest())
	return set, nil
}

// bytes is --memory as a number.
func (d *dataFlags) bytes() (int64, error) {
	n, err := parseBytes(d.memory)
	if err != nil || n < 64<<20 {
		return 0, usagef("--memory is %q, want at least 64MiB, written like 512MiB or 2GiB", d.memory)
	}
	return n, nil
}

func parseBytes(s string) (int64, error) {
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		size   int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}} {
		if number, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = number, u.size
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) || f*float64(unit) > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is no number of bytes", s)
	}
	return int64(f * float64(unit)), nil
}

// parseShape reads HxW or HxWxC; "" is the zero shape.
func parseShape(flag, s string) (pipeline.Shape, error) {
	if s == "" {
		return pipeline.Shape{}, nil
	}
	parts := strings.Split(s, "x")
	n := []int{0, 0, 1}
	bad := len(parts) < 2 || len(parts) > 3
	for i := 0; i < len(parts) && !bad; i++ {
		v, err := strconv.Atoi(parts[i])
		bad = err != nil || v < 1 || v > 1<<14
		n[i] = v
	}
	if bad || (n[2] != 1 && n[2] != 3) {
		return pipeline.Shape{}, usagef("%s is %q, want HxW or HxWxC with sides up to 16384 and C 1 or 3, like 28x28 or 64x64x3", flag, s)
	}
	if len(parts) == 2 {
		n[2] = 0 // not said
	}
	return pipeline.Shape{C: n[2], H: n[0], W: n[1]}, nil
}

// A class is how many rows have a label.
type class struct {
	Name string `json:"name"` // the number where classes have no names
	Rows int64  `json:"rows"`
}

// classesOf are the classes of a data set by number: all that have a name, or
// else all that have a row.
func classesOf(set *storage.Dataset) []class {
	rows := make(map[int32]int64)
	for _, l := range set.Labels() {
		if l != pipeline.Unknown {
			rows[l]++
		}
	}
	var classes []class
	if names := set.Classes(); names != nil {
		for l, name := range names {
			classes = append(classes, class{name, rows[int32(l)]})
		}
		return classes
	}
	for _, l := range slices.Sorted(maps.Keys(rows)) {
		classes = append(classes, class{fmt.Sprint(l), rows[l]})
	}
	return classes
}
