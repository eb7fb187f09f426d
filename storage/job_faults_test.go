package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
	"github.com/tercet-ml/tercet/storage/faultfs"
)

// A job is a small one of either kind of output, run or gone on with.
type job struct {
	name string
	run  func(fsys storage.FS, out string) error
	read func(out string) ([]byte, error)
}

var jobs = []job{{"file", runFile, os.ReadFile}, {"folder", runFolder, readFolder}}

const (
	jobParts = 3
	jobRows  = 400 // of a part
)

func jobTriplets(part int) (list []pipeline.MinedTriplet) {
	for i := range jobRows {
		a := int64(part*jobRows + i)
		list = append(list, pipeline.MinedTriplet{
			Anchor: a, Positive: a + 1, Negative: a + 2, NegativeLabel: 1, AP: float32(i), AN: 2, Loss: 1, Batch: -1,
		})
	}
	return list
}

// runParts commits the parts that are not there yet.
func runParts(j *storage.Job, name string, write func(w *storage.PartWriter, i int) error) error {
	for i := range jobParts {
		name := fmt.Sprintf(name, i)
		if _, done := j.Part(name); done {
			continue
		}
		w, err := j.Create(name)
		if err != nil {
			return err
		}
		defer w.Abort()
		if err := write(w, i); err != nil {
			return err
		}
		if err := w.Commit(i); err != nil {
			return err
		}
	}
	return nil
}

// runFile mines triplets in parts and makes a file of them.
func runFile(fsys storage.FS, out string) error {
	j, err := storage.OpenJob(storage.JobConfig{Output: out, Settings: "file", Resume: true, Overwrite: true, FS: fsys})
	if err != nil {
		return err
	}
	defer j.Close()
	err = runParts(j, "%03d", func(w *storage.PartWriter, i int) error {
		_, err := w.Write(storage.AppendMined(nil, jobTriplets(i)))
		return err
	})
	if err != nil {
		return err
	}
	w, err := storage.NewTripletWriter(storage.TripletConfig{
		Path: out, Overwrite: true, FS: fsys, Meta: pipeline.TripletMeta{Scope: storage.ScopeDataset},
	})
	if err != nil {
		return err
	}
	defer w.Abort()
	for m, err := range pipeline.From(storage.Minings{Job: j}).All(context.Background()) {
		if err != nil {
			return err
		}
		if err := w.Write([]pipeline.MinedTriplet{m}); err != nil {
			return err
		}
	}
	if err := w.Close(nil); err != nil {
		return err
	}
	return j.Remove()
}

// runFolder makes a folder of its parts.
func runFolder(fsys storage.FS, out string) error {
	j, err := storage.OpenJob(storage.JobConfig{Output: out, Settings: "folder", Resume: true, Overwrite: true, FS: fsys})
	if err != nil {
		return err
	}
	defer j.Close()
	if !j.Published() {
		err := runParts(j, "data/%03d", func(w *storage.PartWriter, i int) error {
			_, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, 3000))
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := j.PublishFolder(); err != nil {
		return err
	}
	return j.Remove()
}

// readFolder is what a folder has, as bytes.
func readFolder(dir string) ([]byte, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	var all []byte
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		all = fmt.Appendln(all, strings.TrimPrefix(path, dir))
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			all = append(all, text...)
			return err
		}
		return nil
	})
	return all, err
}

// reference is the output of an undisturbed run, and how many calls that takes.
func (j job) reference(t *testing.T) (want []byte, calls int) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.parquet")
	var nth faultfs.Nth
	if err := j.run(faultfs.With(faultfs.Fast(storage.OS), nth.Hook), out); err != nil {
		t.Fatal(err)
	}
	want, err := j.read(out)
	if err != nil {
		t.Fatal(err)
	}
	return want, nth.Calls()
}

// after checks what a job that failed has left, and that the next run makes
// good. A folder that was to be replaced may be away meanwhile.
func (j job) after(t *testing.T, fsys storage.FS, out string, old, want []byte, what string) {
	t.Helper()
	got, err := j.read(out)
	away := errors.Is(err, fs.ErrNotExist) && (old == nil || j.name == "folder")
	if err != nil && !away || err == nil && !bytes.Equal(got, old) && !bytes.Equal(got, want) {
		t.Fatalf("%s: the output has %d bytes (%v), neither the old %d nor the new %d", what, len(got), err, len(old), len(want))
	}
	if err := j.run(fsys, out); err != nil {
		t.Fatalf("%s: the run after it: %v", what, err)
	}
	if got, err := j.read(out); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: the run after it wrote other bytes (%v)", what, err)
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(left) != 1 {
		t.Fatalf("%s: the run after it left %v (%v)", what, left, err)
	}
}

// old makes an output that is there before the job.
func (j job) old(t *testing.T, out string) []byte {
	t.Helper()
	path := out
	if j.name == "folder" {
		path = filepath.Join(out, "old")
		if err := os.Mkdir(out, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	text, err := j.read(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func long() bool { return os.Getenv("TERCET_LONG") != "" }

// TestPowerLoss takes the power away at a random call: 2,000 times in the long
// run. There is the old output or the new one, and going on makes the new one.
func TestPowerLoss(t *testing.T) {
	losses := 25
	if long() {
		losses = 1000 // of each job
	}
	rng := rand.New(rand.NewPCG(4, 2))
	for _, j := range jobs {
		want, calls := j.reference(t)
		for n := range losses {
			dir := t.TempDir()
			out := filepath.Join(dir, "out.parquet")
			var old []byte
			if n%2 == 1 {
				old = j.old(t, out)
			}
			survives := float64(n%5) / 4
			what := fmt.Sprintf("%s, loss %d (survives %v)", j.name, n, survives)
			for range 1 + n%3 { // also while going on
				p, err := faultfs.NewPower(dir, rng.IntN(calls))
				if err != nil {
					t.Fatal(err)
				}
				err = j.run(p.FS(), out)
				if err == nil { // what was left took fewer calls
					break
				}
				if err := p.Restart(rng, survives); err != nil {
					t.Fatal(err)
				}
				got, err := j.read(out)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					if old != nil && j.name == "file" {
						t.Fatalf("%s: the old file is gone", what)
					}
				case err != nil || !bytes.Equal(got, old) && !bytes.Equal(got, want):
					t.Fatalf("%s: the output has %d bytes (%v), neither the old %d nor the new %d", what, len(got), err, len(old), len(want))
				}
			}
			j.after(t, faultfs.Fast(storage.OS), out, old, want, what)
		}
	}
}

// TestFailingCalls fails every call, one at a time, in every way.
func TestFailingCalls(t *testing.T) {
	faults := []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, faultfs.ErrShort, faultfs.Done{Err: syscall.EIO}}
	stride := 1
	if !long() {
		stride = 13 // coprime to the number of calls that a part takes, so that all kinds are met
	}
	for _, j := range jobs {
		want, calls := j.reference(t)
		failed := map[string]int{}
		for f, fault := range faults {
			for n := f % stride; n < calls; n += stride {
				dir := t.TempDir()
				out := filepath.Join(dir, "out.parquet")
				var old []byte
				if n%2 == 1 {
					old = j.old(t, out)
				}
				nth := &faultfs.Nth{N: n, Err: fault}
				err := j.run(faultfs.With(faultfs.Fast(storage.OS), nth.Hook), out)
				if nth.Failed() == nil {
					continue // with an old output there are other calls
				}
				failed[nth.Failed().Op]++
				what := fmt.Sprintf("%s: call %d (%s %s) fails by %v", j.name, n, nth.Failed().Op, filepath.Base(nth.Failed().Path), fault)
				if got, readErr := j.read(out); err == nil && (readErr != nil || !bytes.Equal(got, want)) {
					t.Fatalf("%s: no error, and not the new output", what)
				}
				if err != nil && !strings.Contains(err.Error(), dir) {
					t.Fatalf("%s: the error does not name the path: %v", what, err)
				}
				j.after(t, faultfs.Fast(storage.OS), out, old, want, what)
			}
		}
		t.Logf("%s: %d calls; failed: %v", j.name, calls, failed)
		for _, op := range []string{"create", "write", "sync", "close", "syncdir", "lock", "rename", "mkdir", "remove"} {
			if failed[op] == 0 {
				t.Errorf("%s: no %s failed", j.name, op)
			}
		}
	}
}

// A disk that runs full leaves no half output, and the job goes on when there is room.
func TestDiskFull(t *testing.T) {
	for _, j := range jobs {
		want, _ := j.reference(t)
		for room := 0; ; room += 20_000 {
			out := filepath.Join(t.TempDir(), "out.parquet")
			err := j.run(faultfs.With(faultfs.Fast(storage.OS), faultfs.Space(room)), out)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), filepath.Dir(out)) {
				t.Fatalf("%s, room for %d bytes: %v, want ENOSPC with the path", j.name, room, err)
			}
			j.after(t, faultfs.Fast(storage.OS), out, nil, want, fmt.Sprintf("%s, room for %d bytes", j.name, room))
		}
	}
}
