package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// ErrExists means that an output is there already and was not to be overwritten.
var ErrExists = errors.New("file exists")

// A Draft is a file in the making. It is written aside, under the name
// .<base>.tmp-<random> in the same folder, and takes its final name whole: by
// [Draft.Commit], after everything in it is on the disk. A process that dies
// before that leaves whatever had the final name as it was.
//
// The first error is the draft's end: the file aside is removed, and every
// later call returns that error. A Draft is for one goroutine.
type Draft struct {
	fs        FS
	path      string // final
	temp      string
	overwrite bool
	file      File
	lock      io.Closer
	size      int64
	err       error // sticky; errClosed after Commit and Abort
}

var errClosed = errors.New("draft is closed")

// NewDraft begins the file path. With overwrite an existing file is replaced by
// Commit; without, it is refused with [ErrExists], now and at Commit. What is
// not a regular file is always refused, symbolic links too: a rename would put
// the file in place of the link, not where it leads. Files that killed processes left aside
// for the same path are removed; those of living ones are not.
func NewDraft(fsys FS, path string, overwrite bool) (*Draft, error) {
	d := &Draft{fs: fsys, path: path, overwrite: overwrite}
	if err := d.vacant(); err != nil {
		return nil, err
	}
	SweepDrafts(fsys, path)
	for try := 0; ; try++ {
		err := d.create()
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, fs.ErrExist) || try == 9 {
			return nil, fmt.Errorf("create %s: %w", path, err)
		}
	}
}

// vacant checks that the draft may take its final name.
func (d *Draft) vacant() error {
	info, err := d.fs.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", d.path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("create %s: not a regular file", d.path)
	case !d.overwrite:
		return fmt.Errorf("create %s: %w", d.path, ErrExists)
	}
	return nil
}

// create makes the file aside and locks it. It fails with fs.ErrExist when the
// random name was not free, or did not stay ours until it was locked.
func (d *Draft) create() error {
	d.temp = fmt.Sprintf("%s%016x", d.tempPrefix(), rand.Uint64())
	f, err := d.fs.Create(d.temp)
	if err != nil {
		return err
	}
	d.file = f
	switch d.lock, err = d.fs.Lock(d.temp); {
	case errors.Is(err, errors.ErrUnsupported):
		return nil // then no sweep removes anything either
	case err == nil:
		// A sweep may have seen the file before it was locked, and removed it.
		if d.isFile(d.temp) {
			return nil
		}
		err = fs.ErrExist
	case errors.Is(err, errLocked), errors.Is(err, fs.ErrNotExist):
		err = fs.ErrExist
	}
	d.discard()
	return err
}

func (d *Draft) tempPrefix() string { return tempPrefix(d.path) }

func tempPrefix(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base + ".tmp-"
}

// isFile reports whether name is the file that the draft has open.
func (d *Draft) isFile(name string) bool {
	ours, err := d.file.Stat()
	if err != nil {
		return false
	}
	there, err := d.fs.Stat(name)
	return err == nil && os.SameFile(ours, there)
}

// SweepDrafts removes what killed processes left aside for a path, as
// [NewDraft] does. It does what it can: a file it cannot remove is in nobody's way.
func SweepDrafts(fsys FS, path string) {
	dir, prefix := filepath.Split(tempPrefix(path))
	entries, err := fsys.ReadDir(filepath.Clean(dir))
	if err != nil {
		return
	}
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || len(random) != 16 || strings.Trim(random, "0123456789abcdef") != "" || !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		lock, err := fsys.Lock(name)
		if err != nil {
			continue // its writer is alive, or nobody can tell
		}
		fsys.Remove(name)
		lock.Close()
	}
}

// Write implements [io.Writer].
func (d *Draft) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.file.Write(p)
	d.size += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return n, d.fail("write", err)
	}
	return n, nil
}

// ReadAt implements [io.ReaderAt] over what was written so far.
func (d *Draft) ReadAt(p []byte, off int64) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.file.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return n, d.fail("read back", err)
	}
	return n, err
}

// Size is the number of bytes written.
func (d *Draft) Size() int64 { return d.size }

// Err is the error that was the draft's end, for writers in between that lose
// it; nil while there is none, and after Commit and Abort.
func (d *Draft) Err() error {
	if d.err == errClosed {
		return nil
	}
	return d.err
}

// Commit makes the draft durable and gives it its final name. When it fails
// before that, the final name is as it was. When the folder cannot be synced
// after that, the whole new file has the final name, but may not keep it
// through a power loss; the error says so.
func (d *Draft) Commit() error {
	if d.err != nil {
		return d.err
	}
	if err := d.file.Sync(); err != nil {
		return d.fail("sync", err) // never synced again: the kernel may have dropped the pages it could not write
	}
	if err := d.vacant(); err != nil {
		return d.end(err)
	}
	// The file is closed before it is renamed, which some systems require; the
	// lock lives in a handle of its own and holds until the end.
	ours, err := d.file.Stat()
	if err != nil {
		return d.fail("look at", err)
	}
	err = d.file.Close()
	d.file = nil
	if err != nil {
		return d.fail("close", err)
	}
	if err := d.publish(); err != nil && !d.published(ours) {
		if errors.Is(err, fs.ErrExist) {
			return d.end(fmt.Errorf("create %s: %w", d.path, ErrExists))
		}
		return d.fail("rename", err)
	}
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return d.fail("sync the folder of (the file is complete, but a power loss may undo its rename)", err)
	}
	d.end(errClosed)
	return nil
}

// publish gives the file its final name. Without overwrite it does so by a
// second link, so that a file that appeared meanwhile is not lost.
func (d *Draft) publish() error {
	if d.overwrite {
		return d.fs.Rename(d.temp, d.path)
	}
	err := d.fs.Link(d.temp, d.path)
	switch {
	case err == nil:
		d.fs.Remove(d.temp) // a second name that is left over is swept next time
		return nil
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		return d.fs.Rename(d.temp, d.path) // no links here: vacant has just looked
	}
	return err
}

// published reports whether the final name is that of our file. It settles what
// a failed rename leaves open: network file systems may do it and lose the answer.
func (d *Draft) published(ours fs.FileInfo) bool {
	there, err := d.fs.Stat(d.path)
	return err == nil && os.SameFile(ours, there)
}

// Abort gives the draft up: the file aside is removed, and nothing has changed.
// After Commit, and a second time, it does nothing. So it can be deferred.
func (d *Draft) Abort() {
	if d.err == nil {
		d.end(errClosed)
	}
}

// fail ends the draft with an error that names the file.
func (d *Draft) fail(step string, err error) error {
	return d.end(fmt.Errorf("%s %s: %w", step, d.path, err))
}

// end makes err the answer to every later call.
func (d *Draft) end(err error) error {
	d.err = err
	d.discard()
	return err
}

// discard removes the file aside, if it still has that name, and frees the lock.
func (d *Draft) discard() {
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
	d.fs.Remove(d.temp)
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}
