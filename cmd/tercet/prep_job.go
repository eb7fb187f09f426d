package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A prepJob is one run of tercet prep.
type prepJob struct {
	flags           *prepFlags
	encoding        stages.Encoding
	filter          stages.Filter
	size, shape     pipeline.Shape
	memory          int64
	shard, rowGroup int64
	meter           pipeline.Meter
	stdout, stderr  io.Writer
}

// newPrepJob checks the flags, before any file is opened.
func newPrepJob(f *prepFlags, given *pflag.FlagSet) (*prepJob, error) {
	j := &prepJob{flags: f}
	var err error
	if j.encoding, err = stages.ParseEncoding(f.encode); err != nil {
		return nil, usagef("--encode: %w", err)
	}
	if j.filter, err = stages.ParseFilter(f.filter); err != nil {
		return nil, usagef("--filter: %w", err)
	}
	if j.size, err = parseShape("--size", f.size); err != nil {
		return nil, err
	}
	if j.shape, err = parseShape("--shape", f.shape); err != nil {
		return nil, err
	}
	if j.memory, err = f.bytes(); err != nil {
		return nil, err
	}
	if err := f.badRowFlags.check(given, f.out); err != nil {
		return nil, err
	}
	const most = 512 << 20
	if j.rowGroup, err = parseBytes(f.rowGroup); err != nil || j.rowGroup < 1<<10 || j.rowGroup > most {
		return nil, usagef("--row-group is %q, want 1KiB to 512MiB", f.rowGroup)
	}
	if j.shard, err = parseBytes(f.shardSize); err != nil || j.shard < j.rowGroup {
		return nil, usagef("--shard-size is %q, want a number of bytes that is no smaller than --row-group", f.shardSize)
	}
	switch {
	case f.policy == stages.SubstituteBad:
		return nil, usagef("--on-bad-row is %q, want fail or skip", f.onBadRow)
	case f.out == "":
		return nil, usagef("no output: give a folder to make with -o DIR")
	case f.format != string(storage.FormatParquet) && f.format != string(storage.FormatArrow):
		return nil, usagef("--format is %q, want parquet or arrow", f.format)
	case f.encode == "keep" && f.size != "":
		return nil, usagef("--size needs an --encode: images that are kept as they are keep their size")
	case f.classLevels < 0 || f.classLevels > 8:
		return nil, usagef("--class-levels is %d, want 1 to 8, or 0 for all that there are", f.classLevels)
	case f.minPerClass < 0:
		return nil, usagef("--min-per-class is %d, want 0 or more", f.minPerClass)
	case f.workers < 0:
		return nil, usagef("--workers is %d, want 0 for one per core or more", f.workers)
	case f.maxPixels < 1 || f.maxPixels > 1<<40:
		return nil, usagef("--max-pixels is %d, want 1 to 2^40", f.maxPixels)
	case j.rowGroup > j.memory/8:
		return nil, usagef("--row-group %s needs a --memory of at least eight times as much", f.rowGroup)
	}
	return j, nil
}

// settings are what decides the bytes of the output.
func (j *prepJob) settings(in *storage.Intake) map[string]string {
	f := j.flags
	return map[string]string{
		"command": "prep", "data": in.Digest(),
		"format": f.format, "encode": j.encoding.String(), "size": f.size, "filter": j.filter.String(), "split": f.split,
		"class-levels": strconv.Itoa(f.classLevels), "min-per-class": strconv.Itoa(f.minPerClass),
		"dedup": strconv.FormatBool(f.dedup), "drop-conflicts": strconv.FormatBool(f.dropConflicts), "no-shuffle": strconv.FormatBool(f.noShuffle),
		"seed": strconv.FormatUint(f.seed, 10), "shard-size": strconv.FormatInt(j.shard, 10), "row-group": strconv.FormatInt(j.rowGroup, 10),
	}
}

func (j *prepJob) run(ctx context.Context, paths []string) (err error) {
	debug.SetMemoryLimit(j.memory)
	f := j.flags
	in, err := storage.OpenIntake(ctx, storage.IntakeConfig{
		Config: storage.Config{
			Paths: paths, Split: f.split,
			ImageColumn: f.image, LabelColumn: f.label, IDColumn: f.id, GroupColumn: f.group,
			Shape: j.shape, Memory: j.memory / 8, Workers: f.workers, KeepBad: f.policy != stages.FailOnBad,
		},
		ClassLevels: f.classLevels,
	})
	if errors.Is(err, storage.ErrNoData) {
		return hinted{err, "name folders of class folders, or zip, IDX, tar, CSV, JSON lines, Parquet or Arrow files"}
	}
	if err != nil {
		return err
	}
	defer in.Close()
	slog.Debug("opened", "rows", in.Len(), "digest", in.Digest())
	if done, err := j.complete(in); done || err != nil {
		return err
	}
	prep, err := storage.NewPrep(storage.PrepConfig{
		Job: storage.JobConfig{
			Output: f.out, Resume: f.resume, Overwrite: f.overwrite,
			Settings: j.settings(in),
		},
		Format: storage.Format(f.format), Split: f.split, Classes: in.Classes(), Groups: in.HasGroups(), Encoding: j.encoding.String(),
		ShardBytes: j.shard, GroupBytes: j.rowGroup, Workers: f.workers, Memory: j.memory / 2,
	})
	if err != nil {
		return err
	}
	defer prep.Close()
	defer func() {
		if err != nil && prep.Unfinished() {
			err = &unfinishedError{err}
		}
	}()
	var chosen *stages.Selection
	if !prep.Done() {
		err := j.take(ctx, in, prep)
		if _, bad := errors.AsType[*pipeline.RowError](err); bad && f.policy == stages.FailOnBad && !errors.Is(err, storage.ErrMemory) {
			hint := "leave such images out with --on-bad-row skip"
			if prep.Unfinished() {
				hint += "; with --resume it goes on behind what was done"
			}
			err = hinted{err, hint}
		}
		if err != nil {
			return err
		}
		if chosen, err = j.write(ctx, in, prep); err != nil {
			return err
		}
	}
	m, err := prep.Finish()
	if err != nil {
		return err
	}
	return j.print(in, m, chosen)
}

// complete reports whether a job that is to be gone on with has been done: then
// it says so.
func (j *prepJob) complete(in *storage.Intake) (bool, error) {
	parts := filepath.Clean(j.flags.out) + ".parts"
	if _, err := os.Stat(filepath.Join(parts, "job.json")); err == nil || !j.flags.resume {
		return false, nil
	}
	m, err := storage.ReadManifest(j.flags.out)
	if err != nil {
		return false, nil // no prepared data set: whoever makes one will say
	}
	settings := j.settings(in)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if have, want := m.Settings[name], settings[name]; have != want {
			return false, &storage.MismatchError{File: filepath.Join(j.flags.out, storage.ManifestName), Field: name, Have: have, Want: want}
		}
	}
	if _, err := os.Stat(parts); err == nil { // it ended while they were removed
		job, err := storage.OpenJob(storage.JobConfig{Output: j.flags.out, Settings: settings, Resume: true})
		if err != nil {
			return false, err
		}
		if err := job.Remove(); err != nil {
			return false, err
		}
	}
	_, err = fmt.Fprintf(j.stdout, "%s is complete already: %s rows\n", j.flags.out, count(m.Rows))
	return true, err
}

// take decodes the images and keeps them aside.
func (j *prepJob) take(ctx context.Context, in *storage.Intake, prep *storage.Prep) error {
	from, complete := prep.Taken()
	if complete {
		return nil
	}
	recode, err := stages.NewRecode(stages.RecodeConfig{
		Encoding: j.encoding, Height: j.size.H, Width: j.size.W, Channels: j.size.C, Filter: j.filter,
		MaxPixels: j.flags.maxPixels, Memory: j.memory / 4, Workers: j.flags.workers, Meter: &j.meter, KeepBad: j.flags.policy != stages.FailOnBad,
	})
	if err != nil {
		return usageError{err}
	}
	if from > 0 && j.encoding.IsRaw() {
		recode.Resume(prep.Raw())
	}
	var done atomic.Int64
	done.Store(from)
	p := startProgress(j.stderr, "decode", in.Len(), done.Load)
	defer p.end()
	images := pipeline.Via(pipeline.From(in.From(from)), pipeline.Stage[pipeline.Record, stages.Recoded](recode))
	bad, err := j.badSoFar(in, prep)
	if err != nil {
		return err
	}
	for img, err := range images.All(ctx) {
		if errors.Is(err, errInterrupted) {
			return errors.Join(err, prep.Keep())
		}
		if err != nil {
			return err
		}
		if img.Err != nil {
			if err := bad.Add(img.ID, img.Where, img.Pixels, img.Err); err != nil {
				return j.flags.report(bad, j.flags.overwrite || j.flags.resume, err)
			}
			err = prep.TakeBad(bad.Row(img.ID))
		} else {
			err = prep.Take(storage.PreparedRow{
				Row:    storage.Row{Record: img.Record, Group: in.Group(img.ID)},
				Format: img.Info.Format, Shape: img.Info.Shape, Pixels: img.Pixels,
			})
		}
		if err != nil {
			return err
		}
		done.Add(1)
	}
	return prep.Complete()
}

// badSoFar is the list of bad rows, with those that an earlier run found; nil
// where the first one is to fail.
func (j *prepJob) badSoFar(in *storage.Intake, prep *storage.Prep) (*stages.BadRows, error) {
	if j.flags.policy == stages.FailOnBad {
		return nil, nil
	}
	bad, err := stages.NewBadRows(int(in.Len()), j.flags.maxBadRows)
	if err != nil {
		return nil, err
	}
	_, rows, err := prep.Bad()
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		err := bad.Add(row.ID, row.Location, [16]byte{}, &pipeline.RowError{Location: row.Location, Err: errors.New(row.Reason)})
		if err != nil {
			return nil, err
		}
	}
	return bad, nil
}

// write chooses the rows and writes the shards.
func (j *prepJob) write(ctx context.Context, in *storage.Intake, prep *storage.Prep) (*stages.Selection, error) {
	f := j.flags
	isBad, badRows, err := prep.Bad()
	if err != nil {
		return nil, err
	}
	if len(badRows) > 0 {
		slog.Warn("bad rows", "rows", len(badRows), "on_bad_row", f.policy.String(), "report", f.badRows)
		if err := storage.WriteBadRows(nil, f.badRows, badRows, f.overwrite || f.resume); err != nil {
			return nil, err
		}
	}
	chosen, err := stages.Select(stages.SelectConfig{
		Labels: prep.Labels(), Pixels: prep.Pixels(), Classes: len(in.Classes()), Bad: isBad,
		DropDuplicates: f.dedup, DropConflicts: f.dropConflicts, MinRows: f.minPerClass, Seed: f.seed, InOrder: f.noShuffle,
	})
	if err != nil {
		return nil, err
	}
	if len(chosen.Order) == 0 {
		if err := prep.Abandon(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("no row is left: %s of %s were in classes of fewer than %d", count(chosen.SmallClass), count(in.Len()), f.minPerClass)
	}
	var done atomic.Int64
	p := startProgress(j.stderr, "write", int64(len(chosen.Order)), done.Load)
	defer p.end()
	m := &storage.Manifest{
		Settings: j.settings(in),
		Sources:  in.Sources(),
		Counts: map[string]int64{
			"read": in.Len(), "left_out": in.Len() - int64(len(chosen.Order)),
			"duplicates": chosen.Duplicates, "conflicting": chosen.Conflicting,
			"small_class_rows": chosen.SmallClass, "small_classes": int64(chosen.LeftOut), "bad": int64(len(badRows)),
		},
	}
	return chosen, prep.Write(ctx, storage.PrepLayout{Order: chosen.Order, Classes: chosen.Classes}, m, func(n int64) { done.Add(n) })
}
