package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// lines are those of a journal, each of which is an object.
func lines(t *testing.T, path string) (values []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Fatalf("the last line is torn: %q", text)
	}
	for line := range bytes.Lines(text) {
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		values = append(values, v)
	}
	return values
}

func TestJournalGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stats.jsonl")
	for run := range 3 {
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		var writers sync.WaitGroup
		for w := range 4 {
			writers.Go(func() {
				for i := range 25 {
					if err := j.Append(map[string]any{"run": run, "w": w, "i": i, "text": "a\nb"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if got := len(lines(t, path)); got != 100*(run+1) { // before it is closed, as after a kill
			t.Errorf("%d lines, want %d", got, 100*(run+1))
		}
		if err := errors.Join(j.Close(), j.Close()); err != nil {
			t.Error(err)
		}
		if err := j.Append(1); !errors.Is(err, errJournalClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Wherever a line was torn, what is before it is kept and what follows is whole.
func TestTornLineIsCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stats.jsonl")
	whole := []byte("{\"a\":1}\n{\"b\":\"x\"}\n")
	for n := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := errors.Join(j.Append(map[string]int{"c": n}), j.Close()); err != nil {
			t.Fatal(err)
		}
		got := lines(t, path)
		if want := bytes.Count(whole[:n], []byte("\n")) + 1; len(got) != want || fmt.Sprint(got[want-1]) != fmt.Sprintf("map[c:%d]", n) {
			t.Errorf("%d bytes: lines are %v, want %d", n, got, want)
		}
	}
}

func TestJournalRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stats.jsonl")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if _, err := OpenJournal(path); !errors.Is(err, errLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := j.Append(func() {}); err == nil {
		t.Error("what is no JSON gave no error")
	}
	if err := j.Append(map[string]int{}); err != nil {
		t.Errorf("the line after it: %v", err)
	}
	other := filepath.Join(dir, "model.bin")
	for _, text := range []string{"PAR1....", "a\nb\n", "\n"} {
		if err := os.WriteFile(other, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenJournal(other); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", text, err)
		}
		if now, _ := os.ReadFile(other); string(now) != text {
			t.Errorf("%q was changed to %q", text, now)
		}
	}
	if _, err := OpenJournal(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := OpenJournal(filepath.Join(dir, "no", "stats.jsonl")); err == nil {
		t.Error("a folder that is not there gave no error")
	}
}

// A disk that is full ends the journal with its lines whole.
func TestJournalOnAFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full")
	}
	path := filepath.Join(t.TempDir(), "stats.jsonl")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	there := j.file
	defer there.Close()
	j.file = full
	first := j.Append(map[string]int{"b": 2})
	if first == nil || !strings.Contains(first.Error(), "stats.jsonl") {
		t.Fatalf("error is %v, want one that names the file", first)
	}
	if again := j.Append(1); again != first {
		t.Errorf("the next error is %v, want %v", again, first)
	}
	if err := j.Close(); err != first {
		t.Errorf("Close says %v, want %v", err, first)
	}
	if got := lines(t, path); len(got) != 1 {
		t.Errorf("lines are %v", got)
	}
}
