package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A faultFS fails its n-th call, counted from 0 over the file system and its
// files, with a fault.
type faultFS struct {
	FS
	n, calls int
	fault    error
	failed   string // the call that failed
}

var errShortWrite = errors.New("short write")

func (f *faultFS) step(call string) error {
	f.calls++
	if f.calls-1 == f.n {
		f.failed = call
		return &fs.PathError{Op: call, Path: "injected", Err: f.fault}
	}
	return nil
}

func (f *faultFS) Create(name string) (File, error) {
	if err := f.step("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return &faultFile{file, f}, err
}

func (f *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.step("stat"); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

func (f *faultFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.step("readdir"); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(name)
}

func (f *faultFS) Rename(old, new string) error {
	if err := f.step("rename"); err != nil {
		return err
	}
	return f.FS.Rename(old, new)
}

func (f *faultFS) Link(old, new string) error {
	if err := f.step("link"); err != nil {
		return err
	}
	return f.FS.Link(old, new)
}

func (f *faultFS) Remove(name string) error {
	if err := f.step("remove"); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *faultFS) SyncDir(name string) error {
	if err := f.step("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

func (f *faultFS) Lock(name string) (io.Closer, error) {
	if err := f.step("lock"); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

type faultFile struct {
	File
	fs *faultFS
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.fs.step("write"); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		if errors.Is(err, errShortWrite) {
			return n, nil // against the contract of io.Writer, as some file systems are
		}
		return n, err
	}
	return f.File.Write(p)
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.step("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultFile) Sync() error {
	if err := f.fs.step("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) Close() error {
	err := f.fs.step("close")
	return errors.Join(f.File.Close(), err)
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	if err := f.fs.step("fstat"); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

// A fastFS does not wait for the disk.
type fastFS struct{ FS }

func (f fastFS) Create(name string) (File, error) {
	file, err := f.FS.Create(name)
	return fastFile{file}, err
}

func (fastFS) SyncDir(string) error { return nil }

type fastFile struct{ File }

func (fastFile) Sync() error { return nil }

// TestCommitFaults fails every call of writing a triplet file, one at a time.
// Whatever fails, the final name has the whole old file or the whole new one,
// and the error names the path.
func TestCommitFaults(t *testing.T) {
	for _, ending := range tripletEndings {
		for _, overwrite := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/overwrite=%v", ending[1:], overwrite), func(t *testing.T) { testCommitFaults(t, ending, overwrite) })
		}
	}
}

func testCommitFaults(t *testing.T, ending string, overwrite bool) {
	rows := randomTriplets(3000, ScopeDataset)
	write := func(fsys FS, path string) error {
		w, err := NewTripletWriter(TripletConfig{Path: path, Meta: testMeta(ScopeDataset), Overwrite: overwrite, FS: fsys})
		if err != nil {
			return err
		}
		defer w.Abort()
		if err := w.Write(rows); err != nil {
			return err
		}
		return w.Close(nil)
	}
	ref := filepath.Join(t.TempDir(), "t"+ending)
	if err := write(fastFS{OS}, ref); err != nil {
		t.Fatal(err)
	}
	want := readFile(t, ref)
	failed := map[string]bool{}
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, errShortWrite} {
		for n := 0; ; n++ {
			dir := t.TempDir()
			path := filepath.Join(dir, "t"+ending)
			var old []byte
			if overwrite {
				old = []byte("old")
				writeFile(t, path, old)
			}
			fsys := &faultFS{FS: fastFS{OS}, n: n, fault: fault}
			err := write(fsys, path)
			if fsys.failed == "" {
				if err != nil {
					t.Fatalf("no fault: %v", err)
				}
				break
			}
			failed[fsys.failed] = true
			got, readErr := os.ReadFile(path)
			switch {
			case readErr != nil && (overwrite || !errors.Is(readErr, fs.ErrNotExist)):
				t.Fatalf("%s (call %d): the old file is gone: %v", fsys.failed, n, readErr)
			case readErr == nil && !bytes.Equal(got, old) && !bytes.Equal(got, want):
				t.Fatalf("%s (call %d): %d bytes under the final name, neither old nor new", fsys.failed, n, len(got))
			case err == nil && !bytes.Equal(got, want):
				t.Fatalf("%s (call %d): no error, and not the new file", fsys.failed, n)
			case err != nil && !strings.Contains(err.Error(), path):
				t.Fatalf("%s (call %d): the error does not name the file: %v", fsys.failed, n, err)
			}
			if fsys.failed != "remove" {
				for _, name := range listDir(t, dir) {
					if strings.Contains(name, ".tmp-") {
						t.Fatalf("%s (call %d): left %s behind", fsys.failed, n, name)
					}
				}
			}
			if !overwrite && readErr == nil { // complete, or its folder was not synced
				os.Remove(path)
			}
			if err := write(fastFS{OS}, path); err != nil {
				t.Fatalf("%s (call %d): the run after it: %v", fsys.failed, n, err)
			}
			if after := readFile(t, path); !bytes.Equal(after, want) {
				t.Fatalf("%s (call %d): the run after it wrote other bytes", fsys.failed, n)
			}
			if names := listDir(t, dir); len(names) != 1 {
				t.Fatalf("%s (call %d): the run after it left %v", fsys.failed, n, names)
			}
		}
	}
	for _, call := range []string{"create", "stat", "write", "sync", "close", "syncdir", "lock"} {
		if !failed[call] {
			t.Errorf("no %s failed", call)
		}
	}
	if !failed["rename"] && !failed["link"] {
		t.Error("neither a rename nor a link failed")
	}
}
