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

// A prepReference is a tercet prep in small parts, and what it makes when nothing
// disturbs it.
type prepReference struct {
	args  []string
	want  string // all files of the folder
	calls int    // of the file system
}

func newPrepReference(t *testing.T) *prepReference {
	t.Helper()
	r := &prepReference{args: []string{"prep", data + "formats/struct.parquet", "--shard-size", "12KiB", "--row-group", "6KiB"}}
	var nth faultfs.Nth
	onFS(t, faultfs.With(system, nth.Hook))
	out := filepath.Join(t.TempDir(), "set")
	if code, _, stderr := tercet(t, r.on(out)...); code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	r.want, r.calls = folder(t, out), nth.Calls()
	onFS(t, system)
	if n := strings.Count(r.want, ".parquet"); n < 3 {
		t.Fatalf("%d shards, want some", n)
	}
	return r
}

func (r *prepReference) on(out string, more ...string) []string {
	return append(append(append([]string(nil), r.args...), "-o", out), more...)
}

// folder is what is in a folder; "" when it is not there.
func folder(t *testing.T, dir string) string {
	t.Helper()
	var all bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %q\n", strings.TrimPrefix(path, dir), text)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all.String()
}

// half fails where something else than nothing or the whole folder is there.
func (r *prepReference) half(t *testing.T, out, what string) {
	t.Helper()
	if got := folder(t, out); got != "" && got != r.want {
		t.Fatalf("%s: something else than the whole folder is there", what)
	}
}

// goesOn fails unless --resume makes the folder, and leaves nothing else.
func (r *prepReference) goesOn(t *testing.T, out, what string) {
	t.Helper()
	if code, _, stderr := tercet(t, r.on(out, "--resume")...); code != exitDone {
		t.Fatalf("%s: --resume ends with exit code %d: %s", what, code, stderr)
	}
	if folder(t, out) != r.want {
		t.Fatalf("%s: --resume wrote other bytes", what)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
		t.Fatalf("%s: --resume left %v (%v)", what, left, err)
	}
}

// TestPrepKilled kills the job at calls of the file system and at random
// moments: in the long run at every call and at 200 moments.
func TestPrepKilled(t *testing.T) {
	self, err := exec.LookPath("tercet")
	if err != nil {
		t.Fatal(err)
	}
	r := newPrepReference(t)
	rng := rand.New(rand.NewPCG(9, 5))
	kept := 0
	run := func(what, kill string, moment time.Duration) {
		out := filepath.Join(t.TempDir(), "set")
		cmd := exec.Command(self, r.on(out)...)
		cmd.Env = append(os.Environ(), killEnv+"="+kill)
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
	calls, moments := 6, 3
	if long() {
		calls, moments = r.calls, 200
	}
	for i := range calls {
		at := (i*r.calls + rng.IntN(r.calls)) / calls
		if long() {
			at = i
		}
		run(fmt.Sprintf("killed at call %d of %d", at, r.calls), strconv.Itoa(at), 0)
	}
	for range moments {
		moment := time.Duration(rng.Int64N(int64(takes)))
		run(fmt.Sprintf("killed after %v", moment), "none", moment)
	}
	t.Logf("killed at %d calls and %d moments; %d left parts to go on with", calls, moments, kept)
}

// TestPrepFails fails calls of the file system under the command: in the long
// run every one in every way.
func TestPrepFails(t *testing.T) {
	r := newPrepReference(t)
	stride := 1
	if !long() {
		stride = r.calls/3 + 1
	}
	faults := []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, faultfs.ErrShort, faultfs.Done{Err: syscall.EIO}}
	for f, fault := range faults {
		for n := f * stride / len(faults); n < r.calls; n += stride {
			out := filepath.Join(t.TempDir(), "set")
			nth := &faultfs.Nth{N: n, Err: fault}
			onFS(t, faultfs.With(system, nth.Hook))
			code, _, stderr := tercet(t, r.on(out, "--workers", "1")...)
			onFS(t, system)
			if nth.Failed() == nil {
				t.Fatalf("call %d of %d did not happen", n, r.calls)
			}
			what := fmt.Sprintf("call %d (%s %s) fails by %v", n, nth.Failed().Op, filepath.Base(nth.Failed().Path), fault)
			r.half(t, out, what)
			switch {
			case code == exitDone:
				if folder(t, out) != r.want {
					t.Fatalf("%s: exit code 0 and not the output", what)
				}
			case !strings.Contains(stderr, filepath.Dir(out)) && !strings.Contains(stderr, nth.Failed().Path):
				t.Fatalf("%s: the message does not name the path: %s", what, stderr)
			}
			r.goesOn(t, out, what)
		}
	}
}

// TestPrepPowerLoss takes the power away under the command, and again while it goes on.
func TestPrepPowerLoss(t *testing.T) {
	losses := 8
	if long() {
		losses = 2000
	}
	r := newPrepReference(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range losses {
		dir := t.TempDir()
		out := filepath.Join(dir, "set")
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

// A signal costs nothing that was decoded, and the parts are there to go on with.
func TestPrepInterrupted(t *testing.T) {
	r := newPrepReference(t)
	out := filepath.Join(t.TempDir(), "set")
	parts := 0
	onFS(t, faultfs.With(system, func(c faultfs.Call) error {
		if c.Op == "create" && strings.Contains(c.Path, "data"+string(filepath.Separator)) {
			if parts++; parts == 3 {
				syscall.Kill(os.Getpid(), syscall.SIGTERM)
				time.Sleep(20 * time.Millisecond) // until it is heard
			}
		}
		return nil
	}))
	code, _, stderr := tercet(t, r.on(out, "--workers", "1")...)
	onFS(t, system)
	if code != exitInterrupted || !strings.Contains(stderr, "--resume") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	r.half(t, out, "interrupted")
	if done, err := os.ReadDir(filepath.Join(out+".parts", "done")); err != nil || len(done) < 3 {
		t.Errorf("%v are kept (%v), want three parts or more", done, err)
	}
	if code, _, stderr := tercet(t, r.on(out)...); code != exitFailed || !strings.Contains(stderr, "--resume") {
		t.Errorf("run again without --resume: exit code %d: %s", code, stderr)
	}
	if code, _, stderr := tercet(t, r.on(out, "--resume", "--seed=2")...); code != exitFailed || !strings.Contains(stderr, "seed is") {
		t.Errorf("--resume with another seed: exit code %d: %s", code, stderr)
	}
	r.goesOn(t, out, "interrupted")
	if code, stdout, stderr := tercet(t, r.on(out, "--resume")...); code != exitDone || !strings.Contains(stdout, "complete already") {
		t.Errorf("gone on with when it was done: exit code %d: %s%s", code, stdout, stderr)
	}
	if code, _, stderr := tercet(t, r.on(out, "--resume", "--seed=2")...); code != exitFailed || !strings.Contains(stderr, "seed is") {
		t.Errorf("an output of another seed: exit code %d: %s", code, stderr)
	}
}

// Of two jobs on one folder the second fails, and names the first.
func TestPrepTwice(t *testing.T) {
	r := newPrepReference(t)
	out := filepath.Join(t.TempDir(), "set")
	job, err := storage.OpenJob(storage.JobConfig{Output: out})
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	if code, _, stderr := tercet(t, r.on(out, "--resume")...); code != exitFailed || !strings.Contains(stderr, fmt.Sprintf("process %d on", os.Getpid())) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
