package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/storage"
	"github.com/tercet-ml/tercet/storage/faultfs"
)

// What a process of the tests is told by its environment.
const (
	partsEnv = "TERCET_TEST_SMALL_PARTS" // a part for every block of anchors and every batch
	killEnv  = "TERCET_TEST_KILLED_AT"   // the call of the file system at which it is killed
)

// fragile makes a process of the tests what its environment says.
func fragile() {
	if os.Getenv(partsEnv) != "" {
		partTime = 0
	}
	if at, err := strconv.Atoi(os.Getenv(killEnv)); err == nil {
		storage.OS = faultfs.With(system, func(faultfs.Call) error {
			if at--; at < 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		})
	}
}

// system is the real file system, without the waiting.
var system = faultfs.Fast(storage.OS)

func long() bool { return os.Getenv("TERCET_LONG") != "" }

// onFS has the commands of this process write to fsys, in parts as small as can be.
func onFS(t *testing.T, fsys storage.FS) {
	t.Helper()
	before, seconds := storage.OS, partTime
	t.Cleanup(func() { storage.OS, partTime = before, seconds })
	storage.OS, partTime = fsys, 0
}

// vectors is a data set of 600 embeddings in 20 classes, quick to mine.
func vectors(t *testing.T) string {
	t.Helper()
	in := filepath.Join(t.TempDir(), "in.parquet")
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	w, err := storage.NewRecordWriter(f, storage.RecordWriterConfig{Image: storage.ImageNone, Dim: 8})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		row := storage.Row{Embedding: make([]float32, 8)}
		for k := range row.Embedding {
			row.Embedding[k] = float32(rng.NormFloat64())
		}
		row.Embedding[i%8] += 3
		row.Label = int32(i % 20)
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return in
}

// A reference is a job, and what it writes when nothing disturbs it.
type reference struct {
	args  []string // but for the output and what comes behind
	name  string   // of the output
	want  []byte
	calls int // of the file system
}

func references(t *testing.T) (list []reference) {
	t.Helper()
	in := vectors(t)
	for _, r := range []reference{
		{args: []string{"mine", in, "--guard-class-cap", "90"}, name: "t.parquet"},
		{args: []string{"mine", in, "--emit", "pairs", "--scope", "batch", "--p", "10", "--batches", "6"}, name: "t.jsonl"},
	} {
		var nth faultfs.Nth
		onFS(t, faultfs.With(system, nth.Hook))
		out := filepath.Join(t.TempDir(), r.name)
		if code, _, stderr := tercet(t, r.on(out)...); code != exitDone {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		var err error
		if r.want, err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
		r.calls = nth.Calls()
		list = append(list, r)
	}
	return list
}

func (r reference) on(out string, more ...string) []string {
	return append(append(append([]string(nil), r.args...), "-o", out), more...)
}

// half fails where something else than nothing or the whole output is there.
func (r reference) half(t *testing.T, out, what string) {
	t.Helper()
	got, err := os.ReadFile(out)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil || !bytes.Equal(got, r.want) {
		t.Fatalf("%s: %d bytes under the final name (%v), want none or all %d", what, len(got), err, len(r.want))
	}
}

// goesOn fails unless --resume makes the output, and leaves nothing else.
func (r reference) goesOn(t *testing.T, out, what string) {
	t.Helper()
	if code, _, stderr := tercet(t, r.on(out, "--resume")...); code != exitDone {
		t.Fatalf("%s: --resume ends with exit code %d: %s", what, code, stderr)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, r.want) {
		t.Fatalf("%s: --resume wrote other bytes (%v)", what, err)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
		t.Fatalf("%s: --resume left %v (%v)", what, left, err)
	}
}

// TestMineKilled kills jobs at calls of the file system and at random moments:
// in the long run at every call and at 200 moments each.
func TestMineKilled(t *testing.T) {
	self, err := exec.LookPath("tercet")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(9, 4))
	for _, r := range references(t) {
		kept := 0
		run := func(what, kill string, moment time.Duration) {
			out := filepath.Join(t.TempDir(), r.name)
			cmd := exec.Command(self, r.on(out)...)
			cmd.Env = append(os.Environ(), partsEnv+"=1", killEnv+"="+kill)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if moment > 0 {
				time.Sleep(moment)
				cmd.Process.Kill()
			}
			cmd.Wait()
			r.half(t, out, what)
			if _, err := os.Stat(out + ".parts"); err == nil {
				kept++
			}
			r.goesOn(t, out, what)
		}
		start := time.Now()
		run("not killed", "none", 0)
		takes := time.Since(start)
		calls, moments := 3, 2
		if long() {
			calls, moments = r.calls, 200
		}
		for i := range calls {
			at := i*(r.calls-1)/max(calls-1, 1) - rng.IntN(2)*min(i, 1)
			if long() {
				at = i
			}
			run(fmt.Sprintf("killed at call %d of %d", at, r.calls), strconv.Itoa(at), 0)
		}
		for range moments {
			moment := time.Duration(rng.Int64N(int64(takes)))
			run(fmt.Sprintf("killed after %v", moment), "none", moment)
		}
		t.Logf("%s: killed at %d calls and %d moments; %d left parts to go on with", r.name, calls, moments, kept)
	}
}

// TestMineFails fails calls of the file system under the command: in the long
// run every one in every way.
func TestMineFails(t *testing.T) {
	faults := []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, faultfs.ErrShort, faultfs.Done{Err: syscall.EIO}}
	for _, r := range references(t) {
		stride := 1
		if !long() {
			stride = r.calls/3 + 1
		}
		for f, fault := range faults {
			for n := f * stride / len(faults); n < r.calls; n += stride {
				out := filepath.Join(t.TempDir(), r.name)
				nth := &faultfs.Nth{N: n, Err: fault}
				onFS(t, faultfs.With(system, nth.Hook))
				code, _, stderr := tercet(t, r.on(out)...)
				onFS(t, system)
				if nth.Failed() == nil {
					t.Fatalf("call %d of %d did not happen", n, r.calls)
				}
				what := fmt.Sprintf("call %d (%s %s) fails by %v", n, nth.Failed().Op, filepath.Base(nth.Failed().Path), fault)
				r.half(t, out, what)
				switch {
				case code == exitDone:
					if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, r.want) {
						t.Fatalf("%s: exit code 0 and not the output (%v)", what, err)
					}
				case !strings.Contains(stderr, filepath.Dir(out)) && !strings.Contains(stderr, nth.Failed().Path):
					t.Fatalf("%s: the message does not name the path: %s", what, stderr)
				}
				r.goesOn(t, out, what)
			}
		}
	}
}

// TestMinePowerLoss takes the power away under the command, and again while it goes on.
func TestMinePowerLoss(t *testing.T) {
	losses := 5
	if long() {
		losses = 1000 // of each job
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for _, r := range references(t) {
		for n := range losses {
			dir := t.TempDir()
			out := filepath.Join(dir, r.name)
			survives := float64(n%5) / 4
			what := fmt.Sprintf("loss %d (survives %v)", n, survives)
			for range 1 + n%2 {
				p, err := faultfs.NewPower(dir, rng.IntN(r.calls))
				if err != nil {
					t.Fatal(err)
				}
				onFS(t, p.FS())
				tercet(t, r.on(out, "--resume")...)
				onFS(t, system)
				if err := p.Restart(rng, survives); err != nil {
					t.Fatal(err)
				}
				r.half(t, out, what)
			}
			r.goesOn(t, out, what)
		}
	}
}

// A signal costs what was not whole, and the parts are there to go on with.
func TestMineInterrupted(t *testing.T) {
	r := references(t)[0]
	out := filepath.Join(t.TempDir(), r.name)
	parts := 0
	onFS(t, faultfs.With(system, func(c faultfs.Call) error {
		if c.Op == "create" && filepath.Base(filepath.Dir(c.Path)) == "data" {
			if parts++; parts == 3 {
				syscall.Kill(os.Getpid(), syscall.SIGTERM)
			}
		}
		if parts >= 3 {
			time.Sleep(20 * time.Millisecond) // it is heard long before the end
		}
		return nil
	}))
	code, _, stderr := tercet(t, r.on(out)...)
	if code != exitInterrupted || !strings.Contains(stderr, "--resume") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	r.half(t, out, "interrupted")
	if done, err := os.ReadDir(filepath.Join(out+".parts", "done")); err != nil || len(done) < 2 {
		t.Errorf("%v are kept (%v), want two parts or more", done, err)
	}
	if code, _, stderr := tercet(t, r.on(out)...); code != exitFailed || !strings.Contains(stderr, "--resume") {
		t.Errorf("run again without --resume: exit code %d: %s", code, stderr)
	}
	for flag, field := range map[string]string{"--seed=2": "seed is 1, want 2", "--rule=hard": "rule is", "--embedder=column": "embedder is"} {
		if code, _, stderr := tercet(t, r.on(out, "--resume", flag)...); code != exitFailed || !strings.Contains(stderr, field) {
			t.Errorf("%s: exit code %d: %s", flag, code, stderr)
		}
	}
	r.goesOn(t, out, "interrupted")
	if code, stdout, _ := tercet(t, r.on(out, "--resume")...); code != exitDone || !strings.Contains(stdout, "complete already") {
		t.Errorf("gone on with when it was done: exit code %d: %s", code, stdout)
	}
	if code, _, stderr := tercet(t, r.on(out, "--resume", "--seed=2")...); code != exitFailed || !strings.Contains(stderr, "seed is 1, want 2") {
		t.Errorf("an output of another seed: exit code %d: %s", code, stderr)
	}
}

// Of two jobs on one output the second fails, and names the first.
func TestMineTwice(t *testing.T) {
	r := references(t)[0]
	out := filepath.Join(t.TempDir(), r.name)
	job, err := storage.OpenJob(storage.JobConfig{Output: out})
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	if code, _, stderr := tercet(t, r.on(out, "--resume")...); code != exitFailed || !strings.Contains(stderr, fmt.Sprintf("process %d on", os.Getpid())) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
