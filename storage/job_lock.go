package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// A LockedError says that another process works on the same output.
type LockedError struct {
	Folder string // of its parts
	Holder string // who, as far as it is known
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is in use by %s", e.Folder, e.Holder)
}

// enter makes the folder of the parts and locks it.
func (j *Job) enter() error {
	for range 10 {
		lock, err := j.tryEnter()
		switch {
		case err == nil:
			j.lock = lock
			j.sign()
			return nil
		case errors.Is(err, errLocked):
			return &LockedError{Folder: j.dir, Holder: j.holder()}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		// Another job has just removed the folder: it is free.
	}
	return &LockedError{Folder: j.dir, Holder: "jobs that come and go"}
}

// tryEnter fails with fs.ErrNotExist when the folder or its lock were removed
// meanwhile.
func (j *Job) tryEnter() (io.Closer, error) {
	fail := func(err error) (io.Closer, error) { return nil, fmt.Errorf("lock %s: %w", j.dir, err) }
	if err := j.fs.Mkdir(j.dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create %s: %w", j.dir, err)
	}
	if err := j.ours(); err != nil {
		return nil, err
	}
	name := j.path("lock")
	f, err := j.fs.Create(name)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = j.fs.Open(name)
	}
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	lock, err := j.fs.Lock(name)
	if errors.Is(err, errors.ErrUnsupported) {
		// Without locks the file itself is the lock, and a killed process leaves it.
		if made {
			j.sole = true
			return io.NopCloser(nil), nil
		}
		return nil, &LockedError{Folder: j.dir, Holder: j.holder() + "; this system cannot tell whether that process is alive: if it is not, remove " + name}
	}
	if err != nil {
		return fail(err)
	}
	ours, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = j.fs.Stat(name); err == nil && !os.SameFile(ours, there) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		lock.Close()
		return fail(err)
	}
	return lock, nil
}

// ours refuses a folder that was there and is not of a job.
func (j *Job) ours() error {
	entries, err := j.fs.ReadDir(j.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", j.dir, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "lock", "holder", "job.json", "data", "aside", "done", "old":
		default:
			if !strings.HasPrefix(e.Name(), ".job.json.tmp-") {
				return fmt.Errorf("%s holds %s, which no job has put there: remove it, or write to another output", j.dir, e.Name())
			}
		}
	}
	return nil
}

// sign writes down who holds the lock. It is for a message, so it may fail.
func (j *Job) sign() {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	j.fs.Remove(j.path("holder"))
	if f, err := j.fs.Create(j.path("holder")); err == nil {
		fmt.Fprintf(f, "process %d on %s, since %s", os.Getpid(), host, time.Now().Format(time.RFC3339))
		f.Close()
	}
}

// holder is who holds the lock.
func (j *Job) holder() string {
	text, err := readWhole(j.fs, j.path("holder"))
	if err != nil || len(text) == 0 {
		return "another process"
	}
	return string(text)
}

// leave removes the lock and the folder, while the lock is held. Whoever waits
// for the folder finds that the lock it got is gone, and tries again.
func (j *Job) leave() error {
	j.sole = false
	for _, name := range []string{"holder", "lock", ""} {
		if err := j.fs.Remove(j.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("remove %s: %w", j.path(name), err)
		}
	}
	return nil
}

// free lets others lock the folder.
func (j *Job) free() {
	if j.sole {
		j.fs.Remove(j.path("lock"))
	}
	j.lock.Close()
	j.lock = nil
}
