package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// Generations keeps the newest generations of a cache in a folder, a snapshot
// file for each: a stages.SnapshotStore. A generation appears whole or not at
// all, and older ones are removed only after a newer one is durable, so that
// after any crash the folder holds the last one that was saved. One run at a
// time uses a folder; with ranks, one of them does.
type Generations struct {
	Dir      string // made where it does not exist, in a folder that does
	Data     string // digest of the data set: generations of another one are refused
	Embedder string // name of the embedder, likewise; may be empty
	Keep     int    // how many are kept, 2 or more; default 3. Those a checkpoint needs must not be too many refreshes back

	fs FS // default OS
}

func (s *Generations) files() FS {
	if s.fs == nil {
		return OS
	}
	return s.fs
}

func (s *Generations) path(number int32) string {
	return filepath.Join(s.Dir, fmt.Sprintf("generation-%010d.arrow", number))
}

// Save keeps a generation and removes those that are Keep or more before it.
func (s *Generations) Save(_ context.Context, g pipeline.Generation) error {
	keep := s.Keep
	if keep == 0 {
		keep = 3
	}
	if keep < 2 {
		return fmt.Errorf("storage: Generations.Keep is %d, want 2 or more: batches use the one before the newest", keep)
	}
	if err := s.files().Mkdir(s.Dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", s.Dir, err)
	}
	_, err := writeSnapshot(s.files(), s.path(g.Number), SnapshotMeta{
		DataDigest: s.Data, Embedder: s.Embedder, Fingerprint: g.Fingerprint, Normalised: g.Normalised, Generation: g.Number,
	}, g.Rows, true)
	if err != nil {
		return err
	}
	return s.remove(func(number int32) bool { return number <= g.Number-int32(keep) })
}

// Load reads a generation and checks all of it: [ReadSnapshot].
func (s *Generations) Load(_ context.Context, number int32) (pipeline.Generation, error) {
	path := s.path(number)
	meta, rows, err := ReadSnapshot(path, SnapshotMeta{DataDigest: s.Data, Embedder: s.Embedder, Generation: number})
	if err != nil {
		return pipeline.Generation{}, err
	}
	if meta.Generation != number {
		return pipeline.Generation{}, &MismatchError{File: path, Field: "generation", Have: fmt.Sprint(meta.Generation), Want: fmt.Sprint(number)}
	}
	return pipeline.Generation{Number: number, Rows: rows, Fingerprint: meta.Fingerprint, Normalised: meta.Normalised}, nil
}

// Forget removes the generations above a number.
func (s *Generations) Forget(_ context.Context, above int32) error {
	return s.remove(func(number int32) bool { return number > above })
}

// remove removes the generations that old says so of, and nothing else.
func (s *Generations) remove(old func(number int32) bool) error {
	entries, err := s.files().ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", s.Dir, err)
	}
	removed := false
	for _, e := range entries {
		digits, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "generation-"), ".arrow")
		number, err := strconv.ParseInt(digits, 10, 32)
		if !ok || err != nil || e.Name() != filepath.Base(s.path(int32(number))) || !e.Type().IsRegular() || !old(int32(number)) {
			continue
		}
		if err := s.files().Remove(s.path(int32(number))); err != nil {
			return fmt.Errorf("remove %s: %w", s.path(int32(number)), err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return s.files().SyncDir(s.Dir) // or a generation that was forgotten could be back after a power loss
}
