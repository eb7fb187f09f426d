package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tercet-ml/tercet/storage"
)

// write makes a file, and syncs it and its folder if asked to.
func write(fsys storage.FS, path, text string, sync bool) error {
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	if n, err := f.Write([]byte(text)); err != nil || n < len(text) {
		return fmt.Errorf("wrote %d: %v", n, err)
	}
	if !sync {
		return f.Close()
	}
	return errors.Join(f.Sync(), f.Close(), fsys.SyncDir(filepath.Dir(path)))
}

func TestNth(t *testing.T) {
	var seen []string
	for n := 0; ; n++ {
		nth := &Nth{N: n, Err: syscall.EIO}
		path := filepath.Join(t.TempDir(), "f")
		err := write(With(storage.OS, nth.Hook), path, "text", true)
		if nth.Failed() == nil {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		seen = append(seen, nth.Failed().Op)
		if err == nil || nth.Failed().Op != "write" && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s failed, and the error is %v", nth.Failed().Op, err)
		}
	}
	if got := strings.Join(seen, " "); got != "create write sync close syncdir" {
		t.Errorf("failed: %s", got)
	}
}

func TestDone(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := write(storage.OS, a, "text", false); err != nil {
		t.Fatal(err)
	}
	nth := &Nth{Err: Done{syscall.EIO}}
	if err := With(storage.OS, nth.Hook).Rename(a, b); !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v, want EIO", err)
	}
	if _, err := os.Stat(b); err != nil {
		t.Error("the rename was not done")
	}
}

func TestSpace(t *testing.T) {
	dir := t.TempDir()
	fsys := With(storage.OS, Space(10))
	if err := write(fsys, filepath.Join(dir, "a"), "12345678", true); err != nil {
		t.Fatal(err)
	}
	if err := write(fsys, filepath.Join(dir, "b"), "1234", true); err == nil {
		t.Error("wrote past the end of the disk")
	}
}

// What was synced is there after a power loss, and only that where nothing survives by chance.
func TestPower(t *testing.T) {
	for _, survives := range []float64{0, 0.5, 1} {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		if err := write(storage.OS, at("old"), "old", false); err != nil {
			t.Fatal(err)
		}
		p, err := NewPower(dir, -1)
		if err != nil {
			t.Fatal(err)
		}
		fsys := p.FS()
		err = errors.Join(
			fsys.Mkdir(at("sub")), fsys.SyncDir(dir),
			write(fsys, at("sub/synced"), "synced", true),
			fsys.Rename(at("sub/synced"), at("moved")), fsys.SyncDir(dir),
			fsys.Link(at("old"), at("linked")), fsys.SyncDir(dir),
			write(fsys, at("unsynced"), strings.Repeat("x", 5000), false),
			fsys.Remove(at("old")),
			fsys.Rename(at("moved"), at("again")),
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Restart(rand.New(rand.NewPCG(1, uint64(survives*4))), survives); err != nil {
			t.Fatal(err)
		}
		read := func(name string) string {
			text, err := os.ReadFile(at(name))
			if errors.Is(err, fs.ErrNotExist) {
				return "none"
			}
			return string(text)
		}
		if read("linked") != "old" {
			t.Errorf("survives %v: linked is %q", survives, read("linked"))
		}
		switch moved, again := read("moved"), read("again"); {
		case survives == 0 && (moved != "synced" || again != "none" || read("old") != "old" || read("unsynced") != "none"):
			t.Errorf("survives 0: moved %q, again %q, old %q, unsynced %.9q", moved, again, read("old"), read("unsynced"))
		case survives == 1 && (moved != "none" || again != "synced" || read("old") != "none" || len(read("unsynced")) != 5000):
			t.Errorf("survives 1: moved %q, again %q, old %q, unsynced %.9q", moved, again, read("old"), read("unsynced"))
		case (moved == "synced") == (again == "synced"):
			t.Errorf("survives %v: a rename left moved %q and again %q", survives, moved, again)
		}
		if _, err := os.Stat(at("sub")); err != nil {
			t.Errorf("survives %v: %v", survives, err)
		}
	}
}

// After its call nothing is done any more.
func TestPowerFails(t *testing.T) {
	dir := t.TempDir()
	p, err := NewPower(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(p.FS(), filepath.Join(dir, "f"), "text", true); !errors.Is(err, ErrPower) {
		t.Errorf("error %v, want ErrPower", err)
	}
	if err := p.FS().Remove(filepath.Join(dir, "f")); !errors.Is(err, ErrPower) {
		t.Errorf("error %v, want ErrPower", err)
	}
	if err := p.Restart(rand.New(rand.NewPCG(1, 1)), 0); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("what was never synced is there: %v", left)
	}
}
