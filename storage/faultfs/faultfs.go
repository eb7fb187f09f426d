// Package faultfs has file systems that fail as disks, kernels and machines do:
// for tests of what is written through [storage.FS].
package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"github.com/tercet-ml/tercet/storage"
)

// A Call is one call of a file system or of a file that it has opened.
type Call struct {
	Op    string // create, open, stat, readdir, rename, link, remove, mkdir, syncdir, lock; write, read, sync, close, fstat
	Path  string // of a rename or link, the new one
	Bytes int    // of a write
}

// A Hook is called before every call, from any goroutine. Its error is the
// call's, which is then not done: but see [ErrShort] and [Done].
type Hook func(c Call) error

// ErrShort makes a write do half of its work and say so without an error,
// against the contract of [io.Writer], as some file systems do. Any other call
// fails with it.
var ErrShort = errors.New("short write")

// Done makes a call do its work and fail nonetheless with Err: its answer was lost.
type Done struct{ Err error }

func (d Done) Error() string { return d.Err.Error() + " (and done)" }

// Unwrap returns Err.
func (d Done) Unwrap() error { return d.Err }

// With returns fsys with a hook.
func With(fsys storage.FS, hook Hook) storage.FS { return &hooked{fsys, hook} }

// Nth fails one call, counted from 0. The zero value fails none and counts.
type Nth struct {
	N   int
	Err error // nil: no failure

	mu     sync.Mutex
	calls  int
	failed *Call
}

// Hook is the [Hook] of n.
func (n *Nth) Hook(c Call) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	if n.Err == nil || n.calls-1 != n.N {
		return nil
	}
	n.failed = &c
	return n.Err
}

// Calls is how many calls there were.
func (n *Nth) Calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

// Failed is the call that failed; nil if none did.
func (n *Nth) Failed() *Call {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

// Space lets so many bytes be written, and then the disk is full. What is
// removed frees nothing.
func Space(bytes int) Hook {
	var mu sync.Mutex
	return func(c Call) error {
		mu.Lock()
		defer mu.Unlock()
		if bytes -= c.Bytes; bytes < 0 && c.Op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
}

type hooked struct {
	fs   storage.FS
	hook Hook
}

// call does f unless the hook has an error.
func call[T any](h *hooked, op, path string, f func() (T, error)) (T, error) {
	var none T
	err := h.hook(Call{Op: op, Path: path})
	if err == nil {
		return f()
	}
	if done, ok := errors.AsType[Done](err); ok {
		if v, err := f(); err != nil {
			return v, err
		} else if c, ok := any(v).(io.Closer); ok && c != nil {
			c.Close()
		}
		err = done.Err
	}
	return none, &fs.PathError{Op: op, Path: path, Err: err}
}

// nothing makes a call without a result one with.
func nothing(f func() error) func() (struct{}, error) {
	return func() (struct{}, error) { return struct{}{}, f() }
}

func (h *hooked) Create(name string) (storage.File, error) {
	return call(h, "create", name, func() (storage.File, error) { return h.file(h.fs.Create(name))(name) })
}

func (h *hooked) Open(name string) (storage.File, error) {
	return call(h, "open", name, func() (storage.File, error) { return h.file(h.fs.Open(name))(name) })
}

func (h *hooked) file(f storage.File, err error) func(name string) (storage.File, error) {
	return func(name string) (storage.File, error) {
		if err != nil {
			return nil, err
		}
		return &hookedFile{f, h, name}, nil
	}
}

func (h *hooked) Stat(name string) (fs.FileInfo, error) {
	return call(h, "stat", name, func() (fs.FileInfo, error) { return h.fs.Stat(name) })
}

func (h *hooked) ReadDir(name string) ([]fs.DirEntry, error) {
	return call(h, "readdir", name, func() ([]fs.DirEntry, error) { return h.fs.ReadDir(name) })
}

func (h *hooked) Rename(old, new string) error {
	_, err := call(h, "rename", new, nothing(func() error { return h.fs.Rename(old, new) }))
	return err
}

func (h *hooked) Link(old, new string) error {
	_, err := call(h, "link", new, nothing(func() error { return h.fs.Link(old, new) }))
	return err
}

func (h *hooked) Remove(name string) error {
	_, err := call(h, "remove", name, nothing(func() error { return h.fs.Remove(name) }))
	return err
}

func (h *hooked) Mkdir(name string) error {
	_, err := call(h, "mkdir", name, nothing(func() error { return h.fs.Mkdir(name) }))
	return err
}

func (h *hooked) SyncDir(name string) error {
	_, err := call(h, "syncdir", name, nothing(func() error { return h.fs.SyncDir(name) }))
	return err
}

func (h *hooked) Lock(name string) (io.Closer, error) {
	return call(h, "lock", name, func() (io.Closer, error) { return h.fs.Lock(name) })
}

type hookedFile struct {
	storage.File
	h    *hooked
	name string
}

func (f *hookedFile) Write(p []byte) (int, error) {
	err := f.h.hook(Call{Op: "write", Path: f.name, Bytes: len(p)})
	if err == nil {
		return f.File.Write(p)
	}
	half, _ := f.File.Write(p[:len(p)/2])
	if errors.Is(err, ErrShort) {
		return half, nil
	}
	return half, &fs.PathError{Op: "write", Path: f.name, Err: err}
}

func (f *hookedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.h.hook(Call{Op: "read", Path: f.name}); err != nil {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
	}
	return f.File.ReadAt(p, off)
}

func (f *hookedFile) Sync() error {
	_, err := call(f.h, "sync", f.name, nothing(f.File.Sync))
	return err
}

func (f *hookedFile) Stat() (fs.FileInfo, error) {
	return call(f.h, "fstat", f.name, f.File.Stat)
}

// Close closes the file also when it fails.
func (f *hookedFile) Close() error {
	err := f.h.hook(Call{Op: "close", Path: f.name})
	if closed := f.File.Close(); err == nil {
		return closed
	}
	return &fs.PathError{Op: "close", Path: f.name, Err: err}
}

// Fast returns fsys without the waiting: nothing is synced.
func Fast(fsys storage.FS) storage.FS { return fast{fsys} }

type fast struct{ storage.FS }

func (f fast) Create(name string) (storage.File, error) {
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return fastFile{file}, nil
}

func (fast) SyncDir(string) error { return nil }

type fastFile struct{ storage.File }

func (fastFile) Sync() error { return nil }
