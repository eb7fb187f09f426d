//go:build unix

package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// No path of a manifest opens a file outside its folder.
func TestManifestPaths(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "set")
	for name, text := range map[string]string{"set/data/in.parquet": "inside", "out.parquet": "outside", "set/a/b": "inside"} {
		path := filepath.Join(top, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"file": filepath.Join(top, "out.parquet"), "up": "..", "relative": "../out.parquet", "device": "/dev/zero", "loop": "loop", "good": "data/in.parquet",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Skipf("no pipes here: %v", err)
	}
	for _, path := range []string{
		"", ".", "..", "../out.parquet", "/etc/passwd", "data/../../out.parquet", "data/../data/in.parquet", "./data/in.parquet", "data//in.parquet",
		"data/in.parquet/", `..\out.parquet`, `C:\out.parquet`, "C:out", "data/in.parquet\x00", "//host/share", "~/out", "data", "up/out.parquet",
		"file", "relative", "device", "loop", "pipe", "/dev/zero", "up/set/data/in.parquet", "nosuch", strings.Repeat("a/", 4000) + "b",
		filepath.Join(top, "out.parquet"), filepath.Join(dir, "data/in.parquet"), "data/\xff/../../../out.parquet",
	} {
		for size := range int64(10) {
			if f, err := OpenFile(dir, path, size); err == nil {
				f.Close()
				t.Errorf("%q was opened", path)
			}
		}
	}
	for _, path := range []string{"data/in.parquet", "a/b", "good"} {
		f, err := OpenFile(dir, path, 6)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		f.Close()
		if _, err := OpenFile(dir, path, 7); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q of another size: %v", path, err)
		}
	}
	if _, err := OpenFile(dir, "nosuch", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
