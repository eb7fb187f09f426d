package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrUnfinished means that parts of an interrupted job are there, and that it
// was not said whether to go on with them or to begin anew.
var ErrUnfinished = errors.New("an interrupted job left its parts")

// JobConfig configures a [Job].
type JobConfig struct {
	// Output is the file or folder that the job makes. Its parts are kept in
	// the folder Output + ".parts".
	Output string

	// Settings is all that decides what the parts are: data, plan and flags, and
	// not the number of workers. It is encoded as a JSON object, and the fields
	// of a job that is gone on with have to be the same.
	Settings any

	Resume    bool // go on with the parts that are there, if any
	Overwrite bool // without Resume: throw away the parts that are there; in PublishFolder: replace the folder
	FS        FS   // default [OS]
}

// A Job is long work on one output, done in parts that are committed one by one.
// Whatever ends the process, the next one goes on behind the last part:
//
//	Output.parts/job.json   the settings
//	Output.parts/data/NAME  a part
//	Output.parts/aside/NAME a part that is not of the output
//	Output.parts/done/NAME  says that the part is whole: a [Part] as JSON
//	Output.parts/lock       locked by the process that works on it, which holder names
//
// A file is assembled from its parts and committed as any other; then
// [Job.Remove] removes the parts. A folder consists of its parts, and
// [Job.PublishFolder] makes it so.
//
// The methods may be called from any goroutine; a [PartWriter] is for one.
type Job struct {
	cfg   JobConfig
	fs    FS
	dir   string // Output.parts
	lock  io.Closer
	sole  bool // the lock is that its file is there: a system without locks
	fresh bool // there was nothing to go on with

	mu        sync.Mutex
	parts     map[string]Part
	published bool
}

// OpenJob begins a job, or goes on with it. Its errors: a [*LockedError] at
// once when another process works on the output, a [*MismatchError] that names
// the first setting that differs, and [ErrUnfinished] when there are parts but
// neither Resume nor Overwrite.
func OpenJob(cfg JobConfig) (_ *Job, err error) {
	j := &Job{cfg: cfg, fs: cfg.FS, dir: filepath.Clean(cfg.Output) + ".parts", parts: map[string]Part{}}
	if j.fs == nil {
		j.fs = OS
	}
	settings, err := json.Marshal(cfg.Settings)
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	if err := j.enter(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			j.lock.Close()
		}
	}()
	old, err := readWhole(j.fs, j.path("job.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return j, j.begin(settings)
	case err != nil:
		return nil, err
	case cfg.Resume:
		if err := sameSettings(j.path("job.json"), old, settings); err != nil {
			return nil, err
		}
		return j, j.load()
	case !cfg.Overwrite:
		if err := j.load(); err != nil {
			return nil, err
		}
		if len(j.parts) > 0 {
			return nil, fmt.Errorf("%s: %w", j.dir, ErrUnfinished)
		}
	}
	return j, j.begin(settings)
}

func (j *Job) path(elem ...string) string { return filepath.Join(append([]string{j.dir}, elem...)...) }

// begin throws away what is there and commits the settings.
func (j *Job) begin(settings []byte) error {
	j.fresh = true
	if err := j.clear(); err != nil {
		return err
	}
	for _, sub := range []string{"data", "done"} {
		if err := j.fs.Mkdir(j.path(sub)); err != nil {
			return fmt.Errorf("create %s: %w", j.path(sub), err)
		}
	}
	if err := j.syncDir(); err != nil { // where the settings are, the folders are
		return err
	}
	if err := commitFile(j.fs, j.path("job.json"), settings); err != nil {
		return err
	}
	if err := j.fs.SyncDir(filepath.Dir(j.dir)); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", j.dir, err)
	}
	return nil
}

// load finds the parts that are whole.
func (j *Job) load() error {
	entries, err := j.fs.ReadDir(j.path("done"))
	if err != nil {
		return fmt.Errorf("list %s: %w", j.path("done"), err)
	}
	_, err = j.fs.Stat(j.path("data"))
	if j.published = errors.Is(err, fs.ErrNotExist); err != nil && !j.published {
		return fmt.Errorf("look for %s: %w", j.path("data"), err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // a draft that a killed process left
		}
		path := j.path("done", e.Name())
		text, err := readWhole(j.fs, path)
		if err != nil {
			return err
		}
		var p Part
		if err := json.Unmarshal(text, &p); err != nil || j.record(p.Name) != path {
			return fmt.Errorf("%s: %w: no record of a part", path, ErrCorrupt)
		}
		if !j.published || p.Aside {
			info, err := j.fs.Stat(j.Path(p))
			if err != nil {
				return fmt.Errorf("look for %s, which was committed: %w", j.Path(p), err)
			}
			if info.Size() != p.Size {
				return fmt.Errorf("%s: %w: has %d bytes, and was committed with %d", j.Path(p), ErrCorrupt, info.Size(), p.Size)
			}
		}
		j.parts[p.Name] = p
	}
	return nil
}

// Parts are those that are whole, by name.
func (j *Job) Parts() []Part {
	j.mu.Lock()
	defer j.mu.Unlock()
	var parts []Part
	for _, name := range slices.Sorted(maps.Keys(j.parts)) {
		parts = append(parts, j.parts[name])
	}
	return parts
}

// Part is the part of that name, if it is whole.
func (j *Job) Part(name string) (Part, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p, ok := j.parts[name]
	return p, ok
}

// Published reports whether PublishFolder has done its work, in this process or
// in one before: only Remove is left.
func (j *Job) Published() bool { return j.published }

// PublishFolder makes the folder of all parts the output, by one rename. A
// folder that is there is refused with [ErrExists] unless it is empty or
// Overwrite is set. Then it is moved into Output.parts first, and Remove removes
// it: a crash between the two leaves no output, until the job is gone on with.
func (j *Job) PublishFolder() error {
	out := filepath.Clean(j.cfg.Output)
	fail := func(err error) error { return fmt.Errorf("publish %s: %w", out, err) }
	if j.published {
		return nil
	}
	entries, err := j.fs.ReadDir(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail(err)
	case len(entries) == 0:
		if err := j.fs.Remove(out); err != nil {
			return fail(err)
		}
	case !j.cfg.Overwrite:
		return fmt.Errorf("create %s: %w", out, ErrExists)
	default:
		if err := removeAll(j.fs, j.path("old")); err != nil {
			return fail(err)
		}
		if err := j.fs.Rename(out, j.path("old")); err != nil {
			return fail(err)
		}
	}
	if err := j.fs.Rename(j.path("data"), out); err != nil {
		// The outcome may be unknown: what counts is where the folder is now.
		if _, there := j.fs.Stat(j.path("data")); !errors.Is(there, fs.ErrNotExist) {
			return fail(err)
		}
	}
	j.published = true
	for _, dir := range []string{filepath.Dir(out), j.dir} {
		if err := j.fs.SyncDir(dir); err != nil {
			return fmt.Errorf("sync %s (%s is complete, but a power loss may undo its rename): %w", dir, out, err)
		}
	}
	return nil
}

// Remove removes the parts, when the output is there, and ends the job.
func (j *Job) Remove() error {
	if j.lock == nil {
		return nil
	}
	err := j.clear()
	if err == nil {
		err = j.leave()
	}
	j.free()
	return err
}

// Close ends the job for now: another may go on with it. A job that was begun
// here and has no part leaves nothing behind. After Remove it does nothing, so
// it can be deferred.
func (j *Job) Close() {
	if j.lock == nil {
		return
	}
	if j.fresh && len(j.Parts()) == 0 && j.clear() == nil {
		j.leave()
	}
	j.free()
}

func (j *Job) syncDir() error {
	if err := j.fs.SyncDir(j.dir); err != nil {
		return fmt.Errorf("sync %s: %w", j.dir, err)
	}
	return nil
}

// clear removes the settings, then everything else but the lock.
func (j *Job) clear() error {
	for i, name := range []string{"job.json", "done", "data", "aside", "old"} {
		if err := removeAll(j.fs, j.path(name)); err != nil {
			return err
		}
		if i == 0 {
			if err := j.syncDir(); err != nil { // or they could come back without the rest
				return err
			}
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(j.parts)
	return nil
}
