package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

type statsLine struct {
	Run     *pipeline.TripletMeta
	Batches int64
	First   int64
	Last    int64
	Classes int
	Counts  map[string]int64
	AP      struct{ Count, P50 float64 } `json:"d_ap"`
	Apart   struct{ P50 float64 }        `json:"d_apart"`
	Norms   struct{ Count int64 }
	Stages  []struct{ Name string }
	Alarms  []struct{ Kind string }
}

func readStats(t *testing.T, path string) (lines []statsLine) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var l statsLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, l)
	}
	return lines
}

// --stats grows by a line for the run and one for every so many batches, and
// changes nothing of the output.
func TestStats(t *testing.T) {
	dir := t.TempDir()
	stats, out, plain := filepath.Join(dir, "s.jsonl"), filepath.Join(dir, "t.arrow"), filepath.Join(dir, "u.arrow")
	run := func(args ...string) {
		t.Helper()
		args = append([]string{"mine", data + "glyphs", "--size", "12x12", "--dim", "16", "--overwrite"}, args...)
		if code, _, stderr := tercet(t, args...); code != exitDone {
			t.Fatalf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	batch := []string{"--scope", "batch", "--batches", "25", "--p", "8"}
	run(append(batch, "-o", plain)...)
	run(append(batch, "-o", out, "--stats", stats, "--stats-every", "10", "--metrics-addr", ":0")...)
	with, err1 := os.ReadFile(out)
	without, err2 := os.ReadFile(plain)
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(with, without) {
		t.Errorf("the output is another one with statistics, or %v", err)
	}
	run("-o", out, "--stats", stats)
	lines := readStats(t, stats)
	if len(lines) != 6 || lines[0].Run == nil || lines[0].Run.Scope != "batch" || lines[0].Run.Dim != 16 || lines[4].Run == nil || lines[4].Run.Scope != "dataset" {
		t.Fatalf("lines are %+v, want a run, three reports, a run and one", lines)
	}
	for i, want := range [][2]int64{{0, 9}, {10, 19}, {20, 24}} {
		l := lines[1+i]
		if l.First != want[0] || l.Last != want[1] || l.Batches != want[1]-want[0]+1 || l.AP.Count == 0 || l.Counts["triplets"] == 0 {
			t.Errorf("line %d is %+v, want batches %d to %d", 1+i, l, want[0], want[1])
		}
		if l.Norms.Count != 916 || !(l.Apart.P50 > 1) || l.Classes == 0 || len(l.Stages) == 0 || len(l.Alarms) != 0 {
			t.Errorf("line %d is %+v", 1+i, l)
		}
	}
	if l := lines[5]; l.Batches != 0 || l.Counts["samples"] != 916 || l.Counts["triplets"] != int64(l.AP.Count) || l.Counts["pairs"] == 0 {
		t.Errorf("line of the data set is %+v", l)
	}
}

func TestStatsOfAStream(t *testing.T) {
	dir := t.TempDir()
	stats := filepath.Join(dir, "s.jsonl")
	code, _, stderr := tercet(t, "mine", data+"formats/stream.arrows", "--stream", "--scope", "batch", "--p", "2", "--k", "2",
		"--size", "12x12", "-o", filepath.Join(dir, "t.jsonl"), "--stats", stats)
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	lines := readStats(t, stats)
	if len(lines) != 2 || lines[0].Run == nil || lines[1].Batches == 0 || lines[1].First != 0 || lines[1].Counts["pairs"] == 0 {
		t.Errorf("lines are %+v, want a run and a report", lines)
	}
}

func TestHealthFlagsAreChecked(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "t.parquet")
	other := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(other, []byte("notes\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--stats-every", "0"}, exitUsage, "--stats-every is 0"},
		{[]string{"--stats", out}, exitUsage, "--stats names a file that the job writes something else to"},
		{[]string{"--stats", other}, exitFailed, "notes.txt"},
		{[]string{"--stats", data + "glyphs/train-00000-of-00002.parquet"}, exitUsage, "is a file of the data set"},
		{[]string{"--stats", filepath.Join(dir, "no", "s.jsonl")}, exitFailed, "--stats: "},
		{[]string{"--metrics-addr", "9090"}, exitUsage, `--metrics-addr is "9090", want :PORT`},
		{[]string{"--metrics-addr", taken.Addr().String()}, exitFailed, "--metrics-addr: "},
	} {
		code, _, stderr := tercet(t, append([]string{"mine", data + "glyphs", "-o", out}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: exit code %d, %q, want %d and %q", tt.args, code, stderr, tt.code, tt.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%v: there is an output", tt.args)
		}
	}
	if addr, err := metricsAddr(":9090"); err != nil || addr != "127.0.0.1:9090" {
		t.Errorf("without a host it listens at %q, %v", addr, err)
	}
}

func TestMetricsAreServed(t *testing.T) {
	text, failing := "tercet_batches_total 3\n", errors.New("no numbers")
	task, url := serving(t, func(w io.Writer) error {
		if text == "" {
			return failing
		}
		_, err := io.WriteString(w, text)
		return err
	})
	get := func(path string) (int, string, string) {
		t.Helper()
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(body)
	}
	if code, kind, body := get("/metrics"); code != 200 || body != text || !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("%d %s %q", code, kind, body)
	}
	if code, _, _ := get("/"); code != 404 {
		t.Errorf("/ is %d", code)
	}
	text = ""
	if code, _, body := get("/metrics"); code != 500 || !strings.Contains(body, "no numbers") {
		t.Errorf("%d %q", code, body)
	}
	if err := task.Stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it still answers")
	}
}

// serving serves metrics at a free port, and returns where.
func serving(t *testing.T, write func(io.Writer) error) (*pipeline.Task, string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	task, err := serveMetrics(t.Context(), addr, write)
	if err != nil {
		t.Fatal(err)
	}
	return task, "http://" + addr
}
