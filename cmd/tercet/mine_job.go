package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A mineJob is one run of tercet mine: its flags, checked.
type mineJob struct {
	flags          *mineFlags
	mine           stages.MineConfig
	short          stages.Short
	screen         stages.ScreenBy
	plan           *stages.Plan    // batch scope only
	bad            *stages.BadRows // nil where the first bad row ends the job
	meter          *pipeline.Meter
	stdout, stderr io.Writer
}

// newMineJob checks everything that can be checked before a file is opened.
func newMineJob(f *mineFlags, given *pflag.FlagSet) (*mineJob, error) {
	j := &mineJob{flags: f, meter: new(pipeline.Meter)}
	var err error
	if j.mine.Loss, err = f.tripletLoss(given.Changed("margin")); err != nil {
		return nil, err
	}
	if j.mine.Rule, err = stages.ParseRule(f.rule); err != nil {
		return nil, usagef("--rule: %w", err)
	}
	if j.mine.Pick, err = stages.ParsePick(f.pick); err != nil {
		return nil, usagef("--pick: %w", err)
	}
	if j.mine.Scope, err = stages.ParseScope(f.scope); err != nil {
		return nil, usagef("--scope: %w", err)
	}
	if j.short, err = stages.ParseShort(f.short); err != nil {
		return nil, usagef("--short: %w", err)
	}
	if j.screen, err = stages.ParseScreen(f.screen); err != nil {
		return nil, usagef("--screen: %w", err)
	}
	if err := f.embedderFlags.check(given); err != nil {
		return nil, err
	}
	j.mine.Seed, j.mine.Guards, j.mine.Candidates = f.seed, f.guards, f.candidates
	j.mine.Guards.AllowDuplicates = !f.guardSameImage
	if given.Changed("per-pair") {
		if j.mine.PerPair = f.perPair; f.perPair < 1 {
			return nil, usagef("--per-pair is %d, want 1 or more", f.perPair)
		}
	}
	if given.Changed("positives") {
		if j.mine.Positives, j.mine.PositivesBy, err = stages.ParsePositives(f.positives); err != nil {
			return nil, usagef("--positives: %w", err)
		}
	}
	if err := f.badRowFlags.check(given, f.out); err != nil {
		return nil, err
	}
	if err := f.healthFlags.check(f.out, f.saveEmbeddings); err != nil {
		return nil, err
	}
	switch {
	case f.out == "" && !f.dryRun:
		return nil, usagef("no output: name one with -o FILE, or ask for --dry-run")
	case f.emit != "triplets" && f.emit != "pairs":
		return nil, usagef("--emit is %q, want triplets or pairs", f.emit)
	case f.batches < 0:
		return nil, usagef("--batches is %d, want 0 for one epoch or more", f.batches)
	case f.candidates > 0 && j.mine.Scope != stages.ScopeDataSet:
		return nil, usagef("--candidates is for --scope dataset")
	case f.batches > 0 && j.mine.Scope != stages.ScopeBatch:
		return nil, usagef("--batches is for --scope batch")
	case (f.rank != 0 || f.world != 1) && j.mine.Scope != stages.ScopeBatch:
		return nil, usagef("--rank and --world are for --scope batch")
	case f.world < 1:
		return nil, usagef("--world is %d, want 1 or more", f.world)
	case !(f.pairMargin > 0) || math.IsInf(f.pairMargin, 1):
		return nil, usagef("--pair-margin is %v, want a number above 0", f.pairMargin)
	case f.saveEmbeddings != "" && filepath.Clean(f.saveEmbeddings) == filepath.Clean(f.out):
		return nil, usagef("--save-embeddings and --output name the same file")
	}
	if f.stream {
		if err := j.checkStream(); err != nil {
			return nil, err
		}
	}
	return j, j.resolve()
}

// resolve fills the defaults in. A listing rule over a whole data set waits for
// the data, which say how many triplets it would list.
func (j *mineJob) resolve() error {
	resolved, err := j.mine.Resolve()
	if err != nil && j.listsAll() {
		one := j.mine
		one.PerPair = 1
		_, err = one.Resolve()
		return err
	}
	j.mine = resolved
	return err
}

// listsAll reports whether every triplet of the data set was asked for.
func (j *mineJob) listsAll() bool {
	return j.mine.Scope == stages.ScopeDataSet && j.mine.Rule.Listing() && j.mine.PerPair == 0
}

// run does the job.
func (j *mineJob) run(ctx context.Context, paths []string) error {
	if j.flags.stream {
		return j.mineStream(ctx, paths)
	}
	j.flags.keepBad = j.flags.policy != stages.FailOnBad
	set, err := j.flags.open(ctx, paths)
	if err != nil {
		return err
	}
	defer set.Close()
	if j.bad, err = j.flags.list(set); err != nil {
		return err
	}
	if set.Len() == 0 {
		return fmt.Errorf("%s: the data set has no rows", strings.Join(paths, " "))
	}
	if j.mine.Guards.SameGroup && set.Groups() == nil {
		return usagef("--guard-same-group is set, but the data has no group column: name it with --group-column")
	}
	if j.listsAll() {
		_, err := stages.NewScan(stages.ScanConfig{Mine: j.mine, Labels: set.Labels(), Groups: set.Groups()})
		return err // how many that would be
	}
	if j.mine.Scope == stages.ScopeBatch {
		if j.plan, err = j.newPlan(ctx, set); err != nil {
			return err
		}
	}
	if j.flags.dryRun {
		return j.estimate(ctx, set)
	}
	if err := j.tryOutputs(set); err != nil {
		return err
	}
	job, err := j.openParts(set)
	if err != nil {
		return err
	}
	defer job.Close()
	sum, err := j.embedAndWrite(ctx, set, job)
	if err != nil {
		if len(job.Parts()) > 0 {
			err = &unfinishedError{err}
		}
		return err
	}
	if err := job.Remove(); err != nil {
		return err
	}
	return j.print(sum)
}

func (j *mineJob) embedAndWrite(ctx context.Context, set *storage.Dataset, job *storage.Job) (_ *summary, err error) {
	watched, err := j.watchHealth(ctx, set)
	if err != nil {
		return nil, err
	}
	defer watched.endInto(&err, j.flags.out)
	emb, err := j.embedJob().embed(ctx, set)
	if err := j.flags.report(j.bad, j.flags.overwrite || j.flags.resume, err); err != nil {
		return nil, err
	}
	defer emb.Close()
	if err := j.save(set, emb); err != nil {
		return nil, err
	}
	return j.write(ctx, set, emb, job, watched) // last: where there are triplets, all is there
}

// embedJob makes the embeddings to mine from.
func (j *mineJob) embedJob() *embedJob {
	return &embedJob{
		flags: &j.flags.embedderFlags, data: &j.flags.dataFlags, seed: j.flags.seed,
		same: !j.mine.Guards.AllowDuplicates, meter: j.meter, stderr: j.stderr, bad: j.bad,
	}
}

// save writes the embeddings that were mined from, where that is asked for.
func (j *mineJob) save(set *storage.Dataset, emb *embedded) error {
	if j.flags.saveEmbeddings == "" {
		return nil
	}
	meta := emb.meta(set)
	_, err := storage.WriteSnapshot(j.flags.saveEmbeddings, meta, emb.Embeddings, j.flags.overwrite)
	if errors.Is(err, storage.ErrExists) && j.flags.resume {
		_, _, err = storage.ReadSnapshot(j.flags.saveEmbeddings, meta) // of the process that was interrupted
	}
	if err != nil {
		return fmt.Errorf("--save-embeddings: %w", err)
	}
	return nil
}
