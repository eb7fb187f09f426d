package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

const verifyHelp = `Verify checks that files are what they were when they were written:

  a prepared data set   every byte against its manifest
  a triplet file        every row group and the footer against the digests in
                        it; with --embeddings its distances, losses, kinds and
                        bands are computed again, with --data its labels too
  a snapshot            every row against its digest
  any other data        it has no digests: every image is read and decoded

Every fault is listed with its file, row group and row. The exit code is 3 when
there are any.`

const verifyExamples = `  tercet verify prepared/
  tercet verify triplets.parquet --embeddings emb.arrow --data prepared/
  tercet verify downloads/*.parquet --json`

// exitFaults is the exit code of checks that failed.
const exitFaults = 3

// errFaults is what verify ends with when it has listed faults.
type errFaults int

func (e errFaults) Error() string { return plural(int(e), "fault") + " found" }

// A verifyJob is one run of tercet verify.
type verifyJob struct {
	data       dataFlags
	embeddings string
	from       []string
	json       bool
	stderr     io.Writer

	emb    pipeline.Embeddings
	meta   storage.SnapshotMeta
	labels []int32
	digest string // of the data set that labels are of
}

func newVerify() *cobra.Command {
	var j verifyJob
	cmd := &cobra.Command{
		Use:     "verify PATH…",
		Short:   "Check prepared data, triplet files and snapshots against their digests",
		Long:    verifyHelp,
		Example: verifyExamples,
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			j.stderr = cmd.ErrOrStderr()
			return j.run(cmd.Context(), args, cmd.OutOrStdout())
		},
	}
	j.data.register(cmd.Flags())
	cmd.Flags().StringVar(&j.embeddings, "embeddings", "", "snapshot that triplet files were mined from (mine --save-embeddings): computes them again")
	cmd.Flags().StringSliceVar(&j.from, "data", nil, "data set that triplet files were mined from: checks their labels")
	cmd.Flags().BoolVar(&j.json, "json", false, "print JSON")
	return cmd
}

// A verdict is what was found about one path, for people and programs.
type verdict struct {
	Path    string   `json:"path"`
	Kind    string   `json:"kind"` // empty where it cannot be told
	Files   int      `json:"files"`
	Rows    int64    `json:"rows"`
	Bytes   int64    `json:"bytes"` // that were checked against a digest
	Seconds float64  `json:"seconds"`
	Checked string   `json:"checked"` // how
	Faults  []badRow `json:"faults"`
}

func (j *verifyJob) run(ctx context.Context, paths []string, stdout io.Writer) error {
	if err := j.sources(ctx); err != nil {
		return err
	}
	verdicts := make([]*verdict, 0, len(paths))
	faults := 0
	for _, path := range paths {
		start := time.Now()
		v := &verdict{Path: path, Faults: []badRow{}}
		if err := j.path(ctx, v); err != nil {
			return err
		}
		v.Seconds = time.Since(start).Seconds()
		faults += len(v.Faults)
		verdicts = append(verdicts, v)
	}
	var err error
	if j.json {
		err = printJSON(stdout, verdicts)
	} else {
		err = printVerdicts(stdout, verdicts)
	}
	if err == nil && faults > 0 {
		err = errFaults(faults)
	}
	return err
}

// sources reads what triplet files are to be compared with.
func (j *verifyJob) sources(ctx context.Context) (err error) {
	if j.embeddings != "" {
		if j.meta, j.emb, err = storage.ReadSnapshot(j.embeddings, storage.SnapshotMeta{}); err != nil {
			return fmt.Errorf("--embeddings: %w", err)
		}
	}
	if len(j.from) == 0 {
		return nil
	}
	j.data.keepBad = true
	set, err := j.data.open(ctx, j.from)
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	defer set.Close()
	j.labels, j.digest = set.Labels(), set.Digest()
	return nil
}

// path verifies one path. A fault is no error.
func (j *verifyJob) path(ctx context.Context, v *verdict) error {
	kind, err := storage.KindOf(ctx, v.Path)
	if errors.Is(err, fs.ErrNotExist) {
		kind, err = storage.KindData, nil // a pattern, perhaps
	}
	if err != nil {
		return v.add(-1, err)
	}
	v.Kind = string(kind)
	if kind == storage.KindData {
		return j.images(ctx, v)
	}
	found, err := storage.Verify(ctx, v.Path, kind, j.data.workers)
	if err != nil {
		return err
	}
	v.Files, v.Rows, v.Bytes, v.Checked = found.Files, found.Rows, found.Bytes, "digests"
	for _, fault := range found.Faults {
		if err := v.add(-1, fault); err != nil {
			return err
		}
	}
	mined := kind == storage.KindTriplets || kind == storage.KindPairs
	if !mined || len(v.Faults) > 0 || j.emb.Dim == 0 && j.labels == nil {
		return nil
	}
	v.Checked = "digests, and every row computed again"
	return j.again(ctx, v, kind)
}

// add lists a fault. What is no fault of a file comes back.
func (v *verdict) add(id int64, err error) error {
	row := badRow{ID: id, File: v.Path, RowGroup: -1, Row: -1, Reason: message(err)}
	var at *pipeline.RowError
	switch {
	case errors.As(err, &at):
		row = badRow{id, at.File, at.RowGroup, at.Row, at.Column, asFlags.Replace(at.Err.Error())}
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrSchema), errors.Is(err, storage.ErrVersion),
		errors.Is(err, storage.ErrUnsupported), errors.Is(err, fs.ErrNotExist):
	default:
		return err
	}
	if errors.Is(err, storage.ErrRead) || errors.Is(err, storage.ErrMemory) {
		return err
	}
	v.Faults = append(v.Faults, row)
	return nil
}

// images reads and decodes all images of somebody else's files.
func (j *verifyJob) images(ctx context.Context, v *verdict) error {
	v.Checked = "every image decoded; there are no digests"
	set, err := j.data.open(ctx, []string{v.Path})
	if isUsage(err) || errors.Is(err, storage.ErrNoData) {
		return err
	}
	if err != nil {
		return v.add(-1, err)
	}
	defer set.Close()
	found, err := inspect(ctx, set, &j.data, true, j.stderr)
	if err != nil {
		return err
	}
	v.Files, v.Rows, v.Faults = len(found.Shards), int64(found.Rows), found.Bad
	return nil
}

// again computes the rows of a triplet or pairs file again.
func (j *verifyJob) again(ctx context.Context, v *verdict, kind storage.Kind) error {
	if kind == storage.KindPairs {
		f, err := storage.OpenPairs(v.Path)
		if err != nil {
			return v.add(-1, err)
		}
		defer f.Close()
		c, err := j.checker(v, f.Meta())
		if c == nil {
			return err
		}
		return compare(ctx, v, pipeline.From[pipeline.MinedPair](f), c.Pair, f.Locate)
	}
	f, err := storage.OpenTriplets(v.Path)
	if err != nil {
		return v.add(-1, err)
	}
	defer f.Close()
	c, err := j.checker(v, f.Meta())
	if c == nil {
		return err
	}
	return compare(ctx, v, pipeline.From[pipeline.MinedTriplet](f), c.Triplet, f.Locate)
}

// checker compares what a file was mined from with what was given; nil when
// that is a fault already.
func (j *verifyJob) checker(v *verdict, meta pipeline.TripletMeta) (*stages.Checker, error) {
	for _, f := range []struct {
		given            bool
		name, have, want string
	}{
		{j.labels != nil, "data_digest", meta.DataDigest, j.digest},
		{j.emb.Dim > 0, "embedder_fingerprint", meta.Fingerprint, j.meta.Fingerprint},
		{j.emb.Dim > 0 && j.meta.DataDigest != "", "data_digest", meta.DataDigest, j.meta.DataDigest},
	} {
		if f.given && f.have != f.want {
			return nil, v.add(-1, &pipeline.RowError{
				Location: pipeline.Location{File: v.Path, RowGroup: -1, Row: -1},
				Err:      fmt.Errorf("%s is %.16s, and %.16s of what it is compared with", f.name, f.have, f.want),
			})
		}
	}
	c, err := stages.NewChecker(meta, j.emb, j.labels)
	if err != nil {
		return nil, v.add(-1, &pipeline.RowError{Location: pipeline.Location{File: v.Path, RowGroup: -1, Row: -1}, Err: err})
	}
	return c, nil
}

// compare checks every row.
func compare[T any](ctx context.Context, v *verdict, rows pipeline.Flow[T], check func(T) error, locate func(int64) pipeline.Location) error {
	n := int64(0)
	for row, err := range rows.Prefetch(1024).All(ctx) {
		if err != nil {
			return err
		}
		if err := check(row); err != nil {
			if err := v.add(-1, &pipeline.RowError{Location: locate(n), Err: err}); err != nil {
				return err
			}
		}
		n++
	}
	return nil
}

func printVerdicts(out io.Writer, verdicts []*verdict) error {
	for _, v := range verdicts {
		for _, f := range v.Faults {
			at := pipeline.Location{File: f.File, RowGroup: f.RowGroup, Row: f.Row, Column: f.Column}
			fmt.Fprintf(out, "%v: %s\n", at, f.Reason)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, v := range verdicts {
		result := "sound"
		if len(v.Faults) > 0 {
			result = plural(len(v.Faults), "fault")
		}
		speed := ""
		if v.Bytes > 0 {
			speed = fmt.Sprintf("; %s in %s", size(v.Bytes), seconds(v.Seconds))
		}
		kind := v.Kind
		if kind == "" {
			kind = "cannot be opened"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s rows in %s; %s%s\n", result, v.Path, kind, count(v.Rows), plural(v.Files, "file"), v.Checked, speed)
	}
	return w.Flush()
}

// size writes a number of bytes in the largest unit that leaves one before the point.
func size(n int64) string {
	unit, f := "B", float64(n)
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1024 {
			break
		}
		unit, f = u, f/1024
	}
	return fmt.Sprintf("%.3g %s", f, unit)
}
