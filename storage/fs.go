package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// errLocked means that a file is locked by somebody else.
var errLocked = errors.New("file is locked")

// FS is what writing a file safely takes of a file system. [OS] is the real
// one; tests use one that fails.
type FS interface {
	Create(name string) (File, error)      // for reading and writing; fails with fs.ErrExist if there is one
	Open(name string) (File, error)        // for reading
	Stat(name string) (fs.FileInfo, error) // of the name: a symbolic link is not followed
	ReadDir(name string) ([]fs.DirEntry, error)
	Rename(old, new string) error // replaces new
	Link(old, new string) error   // fails with fs.ErrExist if there is a new
	Remove(name string) error     // of a file or an empty folder
	Mkdir(name string) error      // fails with fs.ErrExist if there is one
	SyncDir(name string) error    // makes renames in a folder durable
	// Lock marks a file as in use until the Closer is closed or the process
	// ends, however it ends. It does not wait.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an [FS].
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
}

// OS is the operating system's file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}
func (osFS) Open(name string) (File, error)             { return os.Open(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Lstat(name) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Rename(old, new string) error               { return os.Rename(old, new) }
func (osFS) Link(old, new string) error                 { return os.Link(old, new) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) Mkdir(name string) error                    { return os.Mkdir(name, 0o777) }
func (osFS) SyncDir(name string) error                  { return syncDir(name) }
func (osFS) Lock(name string) (io.Closer, error)        { return lockFile(name) }

// commitFile makes a small file as a [Draft] does, in place of one that is there.
func commitFile(fsys FS, path string, text []byte) error {
	d, err := NewDraft(fsys, path, true)
	if err != nil {
		return err
	}
	defer d.Abort()
	if _, err := d.Write(text); err != nil {
		return err
	}
	return d.Commit()
}

// readWhole reads a small file.
func readWhole(fsys FS, path string) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return text, nil
}

// removeAll removes a file, or a folder with all in it. None there is fine.
func removeAll(fsys FS, path string) error {
	info, err := fsys.Stat(path)
	if err == nil && info.IsDir() {
		var entries []fs.DirEntry
		entries, err = fsys.ReadDir(path)
		for _, e := range entries {
			if err := removeAll(fsys, filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
	}
	if err == nil {
		err = fsys.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
