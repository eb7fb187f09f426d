package main

import (
	"bufio"
	"bytes"
	"errors"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

const data = "../../testdata/"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tercet": func() {
		fragile()
		main()
	}})
}

func TestScripts(t *testing.T) {
	root, err := filepath.Abs(data)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("DATA", root)
			return photos(filepath.Join(env.WorkDir, "photos"))
		},
	})
}

// photos makes a folder of tiny images: two cats, one of them twice, and the same
// one as a dog.
func photos(dir string) error {
	for name, p := range map[string]struct {
		value byte
		level png.CompressionLevel
	}{"cat/1.png": {9, 0}, "cat/2.png": {8, 0}, "cat/3.png": {9, png.NoCompression}, "dog/1.png": {9, 0}} {
		var b bytes.Buffer
		img := &image.Gray{Pix: []byte{p.value}, Stride: 1, Rect: image.Rect(0, 0, 1, 1)}
		path := filepath.Join(dir, name)
		err := errors.Join((&png.Encoder{CompressionLevel: p.level}).Encode(&b, img),
			os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, b.Bytes(), 0o666))
		if err != nil {
			return err
		}
	}
	return nil
}

// tercet runs the command in this process.
func tercet(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// What is wrong is said in one message that names the place and what to do, and
// nothing is left behind.
func TestMistakes(t *testing.T) {
	mine := func(args ...string) []string { return append([]string{"mine"}, args...) }
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"missing file", mine("nosuch.parquet"), exitFailed, []string{"nosuch.parquet", "does not exist", "hint: name Parquet or Arrow files"}},
		{"no image column", mine(data + "broken/no-image-column.parquet"), exitUsage, []string{"no-image-column.parquet", "no image column", "found: label int64", "--image-column"}},
		{"faults", []string{"verify", data + "broken/text-as-png.parquet"}, exitFaults, []string{"1 fault found"}},
		{"nothing to verify", []string{"verify", "nosuch.parquet"}, exitFailed, []string{"nosuch.parquet", "does not exist"}},
		{"float labels", mine(data + "broken/float-labels.parquet"), exitUsage, []string{"float-labels.parquet", `"label"`, "floating-point", "convert it"}},
		{"truncated", mine(data + "broken/truncated.parquet"), exitFailed, []string{"truncated.parquet", "corrupt file", "hint: copy or make the file again"}},
		{"truncated Arrow file", mine(data + "broken/truncated.arrow"), exitFailed, []string{"truncated.arrow", "cut short"}},
		{"truncated stream", mine(data + "broken/truncated.arrows"), exitFailed, []string{"truncated.arrows", "corrupt file"}},
		{"empty file", mine(data + "broken/zero-bytes.parquet"), exitFailed, []string{"zero-bytes.parquet", "0 bytes"}},
		{"not Parquet", mine(data + "broken/not-parquet.parquet"), exitFailed, []string{"not-parquet.parquet", "not a Parquet file"}},
		{"text as PNG", mine(data + "broken/text-as-png.parquet"), exitFailed, []string{"text-as-png.parquet: row group 1, row 2", `column "image"`, "want PNG, JPEG, GIF or WebP", "tercet inspect"}},
		{"2³¹ pixels", mine(data + "broken/pixels-2-31.parquet"), exitFailed, []string{"pixels-2-31.parquet: row group 1, row 2", "32768×65536", "--max-pixels"}},
		{"null image", mine(data + "broken/null-image.parquet"), exitFailed, []string{"null-image.parquet: row group 1, row 2", "null"}},
		{"NaN in an embedding", mine(data + "broken/nan-embedding.parquet"), exitFailed, []string{`nan-embedding.parquet: row group 1, row 2, column "embedding"`, "NaN"}},
		{"zero embedding", mine(data + "broken/zero-embedding.parquet"), exitFailed, []string{"zero-embedding.parquet: row group 1, row 2", "sample 12", "all 16 values are 0"}},
		{"short embedding", mine(data + "broken/short-embedding.parquet"), exitFailed, []string{"row group 1, row 2", "15 values, want 16"}},
		{"legacy LZ4", mine(data + "broken/legacy-lz4.parquet"), exitFailed, []string{"legacy-lz4.parquet", "not supported", "write the file again"}},
		{"too few classes", mine(data+"glyphs", "--scope", "batch", "--p", "100"), exitUsage, []string{"--p is 100", "only 40 classes"}},
		{"splits", mine(data + "formats/splits"), exitUsage, []string{"test, train", "--split"}},
		{"wrong split", mine(data+"formats/splits", "--split", "dev"), exitUsage, []string{`"dev"`, "test, train"}},
		{"wrong column", mine(data+"glyphs", "--image-column", "picture"), exitUsage, []string{`"picture"`, "found: image", "--image-column"}},
		{"wrong ending", mine(data + "glyphs"), exitUsage, []string{"--output", ".parquet, .arrow"}},
		{"no such folder", mine(data + "glyphs"), exitFailed, []string{"no-such-folder"}},
		{"no output", mine(data + "glyphs"), exitUsage, []string{"-o FILE"}},
		{"no data", mine(), exitUsage, []string{"arg"}},
		{"unknown flag", mine(data+"glyphs", "--frob"), exitUsage, []string{"--frob"}},
		{"unknown command", []string{"frob"}, exitUsage, []string{"frob"}},
		{"unknown rule", mine(data+"glyphs", "--rule", "best"), exitUsage, []string{"--rule", "semi-hard"}},
		{"unknown pick", mine(data+"glyphs", "--pick", "best"), exitUsage, []string{"--pick", "window:i-j"}},
		{"margin without a distance's default", mine(data+"glyphs", "--distance", "cosine"), exitUsage, []string{"--distance cosine needs a --margin"}},
		{"negative margin", mine(data+"glyphs", "--margin", "-1"), exitUsage, []string{"--margin is -1"}},
		{"zero per pair", mine(data+"glyphs", "--per-pair", "0"), exitUsage, []string{"--per-pair is 0"}},
		{"everything", mine(data+"glyphs", "--rule", "all"), exitUsage, []string{"--per-pair", "rule all would list 3245896 triplets"}},
		{"group guard without groups", mine(data+"glyphs", "--guard-same-group"), exitUsage, []string{"--guard-same-group", "no group column"}},
		{"column embedder without a column", mine(data+"glyphs", "--embedder", "column"), exitUsage, []string{"--embedder is column", "--embedding-column"}},
		{"too many dimensions", mine(data+"formats/binary.parquet", "--dim", "60"), exitFailed, []string{"59"}},
		{"too little memory", mine(data+"glyphs", "--memory", "1MiB"), exitUsage, []string{"--memory"}},
		{"bad size", mine(data+"glyphs", "--size", "big"), exitUsage, []string{"--size", "HxW"}},
		{"size past the decoder's", mine(data+"glyphs", "--size", "20000x20000"), exitUsage, []string{"--size", "16384"}},
		{"pixels past the decoder's", mine(data+"glyphs", "--max-pixels", "9000000000000"), exitUsage, []string{"--max-pixels", "2^40"}},
		{"infinite pair margin", mine(data+"glyphs", "--emit", "pairs", "--pair-margin", "Inf"), exitUsage, []string{"--pair-margin"}},
		{"inspect of a broken row", []string{"inspect", data + "broken/text-as-png.parquet"}, exitFailed, []string{"1 row cannot be read"}},
		{"log level", []string{"version", "--log-level", "loud"}, exitUsage, []string{"--log-level"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			args := tt.args
			switch {
			case tt.name == "wrong ending":
				args = append(args, "-o", filepath.Join(dir, "t.txt"))
			case tt.name == "no such folder":
				args = append(args, "-o", filepath.Join(dir, "no-such-folder", "t.parquet"))
			case tt.name != "no output" && args[0] == "mine" && len(args) > 1:
				args = append(args, "-o", filepath.Join(dir, "t.parquet"))
			}
			code, _, stderr := tercet(t, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("message %q does not say %q", stderr, want)
				}
			}
			if n := strings.Count(stderr, "tercet: "); n != 1 {
				t.Errorf("%d messages, want one: %q", n, stderr)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// The rate is of the time since the start, not since the first tick.
func TestBarKnowsWhenItStarted(t *testing.T) {
	var out bytes.Buffer
	start := time.Now()
	bar := newBar(&out, "mine", 1_000_000)
	time.Sleep(50 * time.Millisecond)
	before := time.Since(start)
	bar.Set64(1000)
	found := regexp.MustCompile(`([0-9]+) it/s`).FindStringSubmatch(out.String())
	if found == nil {
		t.Fatalf("no rate in %q", out.String())
	}
	rate, err := strconv.ParseFloat(found[1], 64)
	if most := 2 * 1000 / before.Seconds(); err != nil || rate > most { // it was tens of millions
		t.Errorf("rate is %v/s, want at most %v", rate, most)
	}
	bar.Finish()
	if text := out.String(); strings.TrimSpace(text[strings.LastIndexByte(strings.TrimRight(text, "\r"), '\r')+1:]) != "" {
		t.Errorf("the bar is left on its line: %q", text)
	}
}

func TestEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	code, _, stderr := tercet(t, "mine", dir, "-o", filepath.Join(dir, "t.parquet"))
	if code != exitFailed || !strings.Contains(stderr, dir) || !strings.Contains(stderr, "no data files") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// command is tercet in a process of its own, on a job of some seconds.
func command(t *testing.T, out string) *exec.Cmd {
	t.Helper()
	self, err := exec.LookPath("tercet") // testscript.Main puts it on the path
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(self, "mine", data+"glyphs", "--size", "400x400", "-o", out)
}

func TestInterruptLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		dir := t.TempDir()
		cmd := command(t, filepath.Join(dir, "t.parquet"))
		cmd.Args = append(cmd.Args, "--log-level", "debug")
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stderr)
		for line := ""; !strings.Contains(line, "opened"); {
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("%v: %q, %v; want a line that says that the data are open", sig, line, err)
			}
		}
		cmd.Process.Signal(sig)
		said, _ := io.ReadAll(lines)
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
			t.Errorf("%v: %v, want exit code %d; %s", sig, err, exitInterrupted, said)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%v: left behind: %v", sig, left)
		}
	}
}

// A job that is killed leaves no file under the final name, and the next one
// clears up after it.
func TestKillLeavesNoHalfFile(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "t.parquet")
	for delay := 50 * time.Millisecond; delay < 900*time.Millisecond; delay += 120 * time.Millisecond {
		cmd := command(t, out)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := os.Stat(out); err == nil {
			break // it was done before
		}
	}
	if code, _, stderr := tercet(t, "mine", data+"glyphs", "-o", out, "--overwrite"); code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "t.parquet" {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Integer labels need no names, and their numbers no order: product ids will do.
func TestLabelsWithoutNames(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in.parquet")
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	w, err := storage.NewRecordWriter(f, storage.RecordWriterConfig{Image: storage.ImageNone, Dim: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		row := storage.Row{Embedding: []float32{float32(i), 1}}
		row.Label = []int32{7, 2_000_000_000, pipeline.Unknown}[i%3]
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := tercet(t, "inspect", in); code != exitDone || !strings.Contains(stdout, "7 4, 2000000000 4") || !strings.Contains(stdout, "4 rows of unknown class") {
		t.Errorf("inspect: exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := tercet(t, "mine", in, "--dry-run"); code != exitDone || !strings.Contains(stdout, "pairs  24") {
		t.Errorf("dry run: exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, scope := range []string{"dataset", "batch"} {
		out := filepath.Join(dir, scope+".jsonl")
		if code, stdout, stderr := tercet(t, "mine", in, "-o", out, "--scope", scope, "--p", "2", "--rule", "tfa"); code != exitDone || !strings.Contains(stdout, "12 rows, 2 classes") {
			t.Errorf("%s: exit code %d\n%s%s", scope, code, stdout, stderr)
		}
		if text, _ := os.ReadFile(out); !strings.Contains(string(text), `"anchor_label":2000000000`) {
			t.Errorf("%s: no anchor of class 2000000000 in %.300s", scope, text)
		}
	}
}
