package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type jobSettings struct {
	Data string
	Mine struct {
		Rule string
		Seed uint64
	}
}

func openJob(tb testing.TB, cfg JobConfig) *Job {
	tb.Helper()
	j, err := OpenJob(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(j.Close)
	return j
}

// writePart commits a part of that content.
func writePart(tb testing.TB, j *Job, name, text string, info any) {
	tb.Helper()
	w, err := j.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Abort()
	fmt.Fprint(w, text)
	if err := w.Commit(info); err != nil {
		tb.Fatal(err)
	}
}

func readPart(tb testing.TB, j *Job, name string) string {
	tb.Helper()
	r, err := j.Open(name)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

func TestJobGoesOn(t *testing.T) {
	dir := t.TempDir()
	cfg := JobConfig{Output: filepath.Join(dir, "out"), Settings: jobSettings{Data: "d"}}
	j := openJob(t, cfg)
	writePart(t, j, "b", "second", map[string]int{"rows": 2})
	writePart(t, j, "a", "first", nil)
	w, err := j.Create("c")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "not committed")
	j.Close() // as a killed process, but for the draft's lock
	if _, err := OpenJob(cfg); !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), j.dir) {
		t.Errorf("neither resumed nor overwritten: %v, want ErrUnfinished with the folder", err)
	}
	w.Abort()
	cfg.Resume = true
	j = openJob(t, cfg)
	parts := j.Parts()
	if len(parts) != 2 || parts[0].Name != "a" || parts[1].Name != "b" || string(parts[1].Info) != `{"rows":2}` || parts[1].Size != 6 {
		t.Fatalf("parts are %+v, want a and b", parts)
	}
	if a, b := readPart(t, j, "a"), readPart(t, j, "b"); a != "first" || b != "second" {
		t.Errorf("parts hold %q and %q", a, b)
	}
	if _, ok := j.Part("c"); ok {
		t.Error("a part that was not committed is there")
	}
	if _, err := j.Create("a"); !errors.Is(err, ErrExists) {
		t.Errorf("a part begun twice: %v, want ErrExists", err)
	}
	for _, name := range []string{"", ".", "..", ".a", "/a", "a/", "a//b", "a/../b", "a/.b", `a\b`} {
		if _, err := j.Create(name); err == nil {
			t.Errorf("%q was taken as a name", name)
		}
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if names := listDir(t, dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestJobBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	cfg := JobConfig{Output: filepath.Join(dir, "out"), Settings: jobSettings{Data: "d"}}
	j := openJob(t, cfg)
	writePart(t, j, "a", "first", nil)
	j.Close()
	cfg.Settings, cfg.Overwrite = jobSettings{Data: "other"}, true
	j = openJob(t, cfg)
	if parts := j.Parts(); len(parts) != 0 {
		t.Errorf("with Overwrite there are %v", parts)
	}
	j.Close()
	if names := listDir(t, dir); len(names) != 0 {
		t.Errorf("a job without a part left %v", names)
	}
}

func TestJobSettings(t *testing.T) {
	var first jobSettings
	first.Data, first.Mine.Rule, first.Mine.Seed = "d", "semi-hard", 1<<63+1
	cfg := JobConfig{Output: filepath.Join(t.TempDir(), "out"), Settings: first, Resume: true}
	j := openJob(t, cfg)
	writePart(t, j, "a", "first", nil)
	j.Close()
	for field, edit := range map[string]func(*jobSettings){
		"Data":      func(s *jobSettings) { s.Data = "e" },
		"Mine.Rule": func(s *jobSettings) { s.Mine.Rule = "hard" },
		"Mine.Seed": func(s *jobSettings) { s.Mine.Seed++ }, // not by way of a float64
	} {
		second := first
		edit(&second)
		cfg.Settings = second
		_, err := OpenJob(cfg)
		if m, ok := errors.AsType[*MismatchError](err); !ok || m.Field != field || m.Have == m.Want {
			t.Errorf("%v, want a MismatchError of %s", err, field)
		}
	}
	cfg.Settings = map[string]any{"Data": "d"}
	_, err := OpenJob(cfg)
	if m, ok := errors.AsType[*MismatchError](err); !ok || m.Field != "Mine" || m.Want != "not set" {
		t.Errorf("%v, want a MismatchError of Mine", err)
	}
	cfg.Settings = first
	if parts := openJob(t, cfg).Parts(); len(parts) != 1 {
		t.Errorf("after refusals there are %v, want the part", parts)
	}
}

func TestJobDamage(t *testing.T) {
	cfg := JobConfig{Output: filepath.Join(t.TempDir(), "out"), Resume: true}
	j := openJob(t, cfg)
	writePart(t, j, "a", "first", nil)
	writeFile(t, j.Path(Part{Name: "a"}), []byte("First"))
	r, err := j.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), j.Path(Part{Name: "a"})) {
		t.Errorf("read %q, %v; want ErrCorrupt with the path", text, err)
	}
	j.Close()
	for name, text := range map[string]string{"data/a": "fir", "done/a": "{", "job.json": ""} {
		path := filepath.Join(j.dir, name)
		good := readFile(t, path)
		writeFile(t, path, []byte(text))
		if _, err := OpenJob(cfg); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrCorrupt with the path", name, err)
		}
		writeFile(t, path, good)
	}
}

// Parts may be in folders, and those aside are not of the output.
func TestJobPartsInFolders(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	cfg := JobConfig{Output: out, Resume: true}
	j := openJob(t, cfg)
	writePart(t, j, "data/train-0", "shard", nil)
	w, err := j.CreateAside("spool/0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "spool")
	if err := w.Commit(7); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = openJob(t, cfg)
	if err := j.PublishFolder(); err != nil {
		t.Fatal(err)
	}
	j.Close()
	j = openJob(t, cfg)
	if a, b := readPart(t, j, "data/train-0"), readPart(t, j, "spool/0"); a != "shard" || b != "spool" {
		t.Errorf("parts hold %q and %q", a, b)
	}
	if p, _ := j.Part("spool/0"); string(p.Info) != "7" || !p.Aside {
		t.Errorf("part is %+v", p)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if names := listDir(t, out); len(names) != 1 || names[0] != "data" {
		t.Errorf("in the output are %v", names)
	}
}

// A folder that happens to have the name is not touched.
func TestJobForeignFolder(t *testing.T) {
	dir := t.TempDir()
	theirs := filepath.Join(dir, "out.parts", "thesis.tex")
	if err := os.Mkdir(filepath.Dir(theirs), 0o777); err != nil {
		t.Fatal(err)
	}
	writeFile(t, theirs, []byte("kept"))
	_, err := OpenJob(JobConfig{Output: filepath.Join(dir, "out"), Overwrite: true})
	if err == nil || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("%v, want an error that names the file", err)
	}
	if names := listDir(t, filepath.Dir(theirs)); len(names) != 1 {
		t.Errorf("in the folder are %v", names)
	}
}

func TestJobPublishFolder(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	cfg := JobConfig{Output: out + "/", Resume: true}
	for _, there := range []string{"nothing", "an empty folder", "a folder"} {
		cfg.Overwrite = there == "a folder"
		j := openJob(t, cfg)
		writePart(t, j, "a", there, nil)
		if there == "a folder" { // what the round before has published
			j.cfg.Overwrite = false
			if err := j.PublishFolder(); !errors.Is(err, ErrExists) {
				t.Errorf("over a folder, without Overwrite: %v, want ErrExists", err)
			}
			j.cfg.Overwrite = true
		}
		if err := j.PublishFolder(); err != nil {
			t.Fatal(err)
		}
		if got := string(readFile(t, filepath.Join(out, "a"))); got != there {
			t.Errorf("over %s: holds %q", there, got)
		}
		j.Close() // killed before Remove
		j = openJob(t, cfg)
		if !j.Published() || readPart(t, j, "a") != there {
			t.Errorf("over %s: published is not known to the next process", there)
		}
		if err := j.PublishFolder(); err != nil {
			t.Errorf("a second time: %v", err)
		}
		if err := j.Remove(); err != nil {
			t.Fatal(err)
		}
		if names := listDir(t, dir); len(names) != 1 {
			t.Errorf("left behind: %v", names)
		}
		if there == "nothing" {
			os.Remove(filepath.Join(out, "a"))
		}
	}
}

const holdEnv = "TERCET_TEST_HELD_JOB"

// TestJobLock: of two processes the second is told of the first at once, and
// when the first was killed the next goes on.
func TestJobLock(t *testing.T) {
	if out := os.Getenv(holdEnv); out != "" {
		j := openJob(t, JobConfig{Output: out})
		writePart(t, j, "a", "first", nil)
		fmt.Println("held")
		time.Sleep(time.Hour)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command(self, "-test.run=^TestJobLock$", "-test.v")
	cmd.Env = append(os.Environ(), holdEnv+"="+out)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for seen := []byte(nil); !bytes.Contains(seen, []byte("held")); {
		buf := make([]byte, 256)
		n, err := stdout.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, seen)
		}
		seen = append(seen, buf[:n]...)
	}
	_, err = OpenJob(JobConfig{Output: out, Resume: true})
	if locked, ok := errors.AsType[*LockedError](err); !ok || !strings.Contains(locked.Holder, fmt.Sprintf("process %d on", cmd.Process.Pid)) {
		t.Errorf("%v, want a LockedError that names process %d", err, cmd.Process.Pid)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := readPart(t, openJob(t, JobConfig{Output: out, Resume: true}), "a"); got != "first" {
		t.Errorf("after the kill the part holds %q", got)
	}
}

// Jobs that come and go at the same time never hold one output together.
func TestJobLockRace(t *testing.T) {
	cfg := JobConfig{Output: filepath.Join(t.TempDir(), "out"), Overwrite: true, FS: fastFS{OS}}
	turn := make(chan struct{}, 1)
	done := make(chan int)
	for range 4 {
		go func() {
			held := 0
			defer func() { done <- held }()
			for range 100 {
				j, err := OpenJob(cfg)
				if _, locked := errors.AsType[*LockedError](err); locked {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case turn <- struct{}{}:
				default:
					t.Error("two hold the job")
				}
				held++
				<-turn
				if held%2 == 0 {
					j.Remove()
				}
				j.Close()
			}
		}()
	}
	held := 0
	for range 4 {
		held += <-done
	}
	if held == 0 {
		t.Error("nobody ever held the job")
	}
}

// A system without locks has the file itself as lock.
type locklessFS struct{ FS }

func (locklessFS) Lock(string) (io.Closer, error) { return nil, errors.ErrUnsupported }

func TestJobWithoutLocks(t *testing.T) {
	dir := t.TempDir()
	cfg := JobConfig{Output: filepath.Join(dir, "out"), Resume: true, FS: locklessFS{OS}}
	j := openJob(t, cfg)
	writePart(t, j, "a", "first", nil)
	_, err := OpenJob(cfg)
	if locked, ok := errors.AsType[*LockedError](err); !ok || !strings.Contains(locked.Holder, j.path("lock")) {
		t.Errorf("%v, want a LockedError that names the file", err)
	}
	j.Close()
	j = openJob(t, cfg)
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if names := listDir(t, dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if _, err := os.Stat(j.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
