package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDraftRefusesExisting(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	d, err := NewDraft(OS, path, false)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(d, "mine")
	for _, where := range []string{"before Commit looks", "after Commit looked"} {
		writeFile(t, path, []byte("theirs"))
		fsys := FS(OS)
		if where == "after Commit looked" {
			fsys = blindFS{OS}
		}
		d, err := NewDraft(blindFS{OS}, path, false)
		if err != nil {
			t.Fatal(err)
		}
		d.fs = fsys
		if err := d.Commit(); !errors.Is(err, ErrExists) {
			t.Errorf("a file that appeared %s: %v, want ErrExists", where, err)
		}
	}
	if err := d.Commit(); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), path) {
		t.Errorf("Commit: %v, want ErrExists with the path", err)
	}
	if got := string(readFile(t, path)); got != "theirs" {
		t.Errorf("the file that appeared now holds %q", got)
	}
	if _, err := NewDraft(OS, path, false); !errors.Is(err, ErrExists) {
		t.Errorf("NewDraft: %v, want ErrExists", err)
	}
	if names := listDir(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// What is no regular file is refused before there is any work to lose.
func TestDraftRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "file"), []byte("kept"))
	for link, to := range map[string]string{"link": "file", "dangling": "nothing", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	for _, name := range []string{".", "link", "dangling", "loop"} {
		for _, overwrite := range []bool{false, true} {
			if _, err := NewDraft(OS, filepath.Join(dir, name), overwrite); err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("%s, overwrite %v: %v, want that it is not a regular file", name, overwrite, err)
			}
		}
	}
	if names := listDir(t, dir); len(names) != 4 {
		t.Errorf("in the folder are %v", names)
	}
}

// A blindFS does not see that "out" exists.
type blindFS struct{ FS }

func (b blindFS) Stat(name string) (fs.FileInfo, error) {
	if filepath.Base(name) == "out" {
		return nil, fs.ErrNotExist
	}
	return b.FS.Stat(name)
}

// A system without links still commits.
type linklessFS struct{ FS }

func (linklessFS) Link(string, string) error { return syscall.EPERM }

func TestDraftWithoutLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	d, err := NewDraft(linklessFS{OS}, path, false)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(d, "whole")
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	d.Abort() // changes nothing
	if got := string(readFile(t, path)); got != "whole" {
		t.Errorf("holds %q", got)
	}
	if _, err := d.Write(nil); err == nil {
		t.Error("Write after Commit: no error")
	}
}

func TestDraftSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	live, err := NewDraft(OS, path, false)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(live, "live")
	stale := filepath.Join(dir, ".out.tmp-0123456789abcdef")
	others := []string{".out.tmp-0123", ".out.tmp-0123456789abcdeg", ".other.tmp-0123456789abcdef", "out.tmp-0123456789abcdef"}
	for _, name := range append(others, filepath.Base(stale)) {
		writeFile(t, filepath.Join(dir, name), nil)
	}
	second, err := NewDraft(OS, path, false)
	if err != nil {
		t.Fatal(err)
	}
	second.Abort()
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stale file: %v, want that it is gone", err)
	}
	for _, name := range others {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("a file that is not a draft of ours is gone: %v", err)
		}
	}
	if err := live.Commit(); err != nil {
		t.Errorf("the living draft: %v", err)
	}
	if got := string(readFile(t, path)); got != "live" {
		t.Errorf("holds %q", got)
	}
}

const killEnv = "TERCET_TEST_KILLED_WRITER"

// TestKilledWriter kills a process that writes a triplet file over an old one,
// at 30 random moments: the final name holds the old file or the new one.
func TestKilledWriter(t *testing.T) {
	rows := randomTriplets(20000, ScopeDataset)
	if path := os.Getenv(killEnv); path != "" {
		for {
			writeTriplets(t, path, ScopeDataset, false, rows)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, ending := range tripletEndings {
		dir := t.TempDir()
		path := filepath.Join(dir, "t"+ending)
		writeTriplets(t, path, ScopeDataset, false, rows[:10])
		old, kept := readFile(t, path), 0
		ref := filepath.Join(t.TempDir(), "t"+ending)
		writeTriplets(t, ref, ScopeDataset, false, rows)
		whole := readFile(t, ref)
		for range 10 {
			writeFile(t, path, old)
			cmd := exec.Command(self, "-test.run=^TestKilledWriter$")
			cmd.Env = append(os.Environ(), killEnv+"="+path)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			cmd.Process.Kill()
			cmd.Wait()
			switch got := readFile(t, path); {
			case bytes.Equal(got, old):
				kept++
			case !bytes.Equal(got, whole):
				t.Fatalf("%s: %d bytes under the final name, neither old (%d) nor new (%d)", ending, len(got), len(old), len(whole))
			}
		}
		left := len(listDir(t, dir)) - 1
		writeTriplets(t, path, ScopeDataset, false, rows)
		if names := listDir(t, dir); len(names) != 1 {
			t.Errorf("the next run left %v", names)
		}
		t.Logf("%s: old file kept %d times of 10; drafts left by killed writers and swept: %d", ending, kept, left)
	}
}
