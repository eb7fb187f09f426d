package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A windowSet is real images, over and over under new ids, sorted by class, in
// files of 20 times the budget or more.
type windowSet struct {
	name       string
	classes    int
	groupRows  int
	fileGroups int // row groups in a file
	budget     int64
	decode     bool
}

const windowP, windowK = 8, 4

// TestWindowMemory streams an epoch of each set in a process of its own, whose
// anonymous memory must stay within the budget + 64 MiB.
func TestWindowMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skipf("memory is measured by /proc: %v", err)
	}
	if raceEnabled {
		t.Skip("the race detector's memory would be measured")
	}
	images := windowImages(t)
	sets := []windowSet{
		{"ten classes", 10, 120, 100, 2 << 20, false},
		{"one row group in a file", 10, 120, 1, 2 << 20, false},
		{"ten thousand classes", 10_000, 120, 100, 2 << 20, false},
	}
	if os.Getenv("TERCET_LONG") != "" {
		for i := range sets {
			sets[i].budget, sets[i].groupRows, sets[i].decode = 32<<20, 2000, i == 0
		}
	}
	for _, s := range sets {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			size := s.write(t, dir, images)
			if size < 20*s.budget {
				t.Fatalf("data of %d bytes are less than 20 times the budget", size)
			}
			report, peak := s.runChild(t, dir)
			t.Logf("%d MiB of data, budget %d MiB: peak of anonymous memory %d MiB; %s", size>>20, s.budget>>20, peak>>20, report)
			if most := s.budget + 64<<20; peak > most {
				t.Errorf("peak of anonymous memory %d bytes, want at most %d", peak, most)
			}
		})
	}
}

// windowImages are encoded images of a real data set, or of the test data where
// that is not here.
func windowImages(t *testing.T) [][]byte {
	path := "../../shared/data/mnist-t10k/parquet"
	if _, err := os.Stat(path); err != nil {
		t.Logf("%v: images of the test data instead", err)
		path = "../testdata/glyphs"
	}
	set, err := storage.Open(t.Context(), storage.Config{Paths: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	var images [][]byte
	for r, err := range pipeline.From[pipeline.Record](set).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, r.Image)
	}
	return images
}

// write writes the set and returns its size.
func (s windowSet) write(t *testing.T, dir string, images [][]byte) (size int64) {
	var total int64
	for _, b := range images {
		total += int64(len(b))
	}
	each := total / int64(len(images))
	rows := int(21 * s.budget / each)
	perFile := s.groupRows * s.fileGroups
	for first, n := 0, 0; first < rows; first, n = first+perFile, n+1 {
		var file bytes.Buffer
		w, err := storage.NewRecordWriter(&file, storage.RecordWriterConfig{GroupRows: s.groupRows, PathColumn: "path"})
		if err != nil {
			t.Fatal(err)
		}
		for id := first; id < min(first+perFile, rows); id++ {
			rec := pipeline.Record{Label: int32(id * s.classes / rows), Image: images[id%len(images)], Path: strconv.Itoa(id)}
			if err := w.Write(storage.Row{Record: rec}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("train-%05d.parquet", n)), file.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		size += int64(file.Len())
	}
	return size
}

// runChild streams the set in another process, and watches its memory.
func (s windowSet) runChild(t *testing.T, dir string) (report string, peak int64) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestWindowChild$", "-test.v")
	cmd.Env = append(os.Environ(), "TERCET_WINDOW_CHILD="+dir, fmt.Sprintf("TERCET_WINDOW_BUDGET=%d", s.budget), fmt.Sprintf("TERCET_WINDOW_DECODE=%v", s.decode))
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	status := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for samples := 0; ; samples++ {
		select {
		case err := <-done:
			if err != nil || samples == 0 {
				t.Fatalf("after %d samples: %v\n%s%s", samples, err, out.Bytes(), stderr.Bytes())
			}
			_, report, ok := strings.Cut(out.String(), "epoch: ")
			if !ok {
				t.Fatalf("the process reports nothing:\n%s", out.Bytes())
			}
			report, _, _ = strings.Cut(report, "\n")
			return report, peak
		case <-time.After(2 * time.Millisecond):
			text, _ := os.ReadFile(status)
			if _, rest, ok := strings.Cut(string(text), "RssAnon:"); ok {
				fields := strings.Fields(rest)
				kb, _ := strconv.ParseInt(fields[0], 10, 64)
				peak = max(peak, kb<<10)
			}
		}
	}
}

// TestWindowChild is the other process.
func TestWindowChild(t *testing.T) {
	dir := os.Getenv("TERCET_WINDOW_CHILD")
	if dir == "" {
		t.Skip("it is run by TestWindowMemory")
	}
	budget, err := strconv.ParseInt(os.Getenv("TERCET_WINDOW_BUDGET"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	debug.SetMemoryLimit(budget + 48<<20) // the collector's slack is part of it
	report, err := streamWindows(t.Context(), dir, budget, windowImages(t), os.Getenv("TERCET_WINDOW_DECODE") == "true")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("epoch: " + report)
}

// streamWindows checks every batch of an epoch over windows.
func streamWindows(ctx context.Context, dir string, budget int64, images [][]byte, decoded bool) (string, error) {
	set, err := storage.Open(ctx, storage.Config{Paths: []string{dir}})
	if err != nil {
		return "", err
	}
	defer set.Close()
	layout, err := set.Layout(ctx)
	if err != nil {
		return "", err
	}
	plan, err := stages.NewPlan(stages.PlanConfig{
		Labels: set.Labels(), Data: set.Digest(), P: windowP, K: windowK, Seed: 1, Layout: layout, Window: budget,
	})
	if err != nil {
		return "", err
	}
	rows, windowed := plan.Windows(0)
	if !windowed {
		return "", errors.New("the plan has no windows")
	}
	batches := pipeline.From(plan).Then(stages.Fetch{Reader: set, Plan: plan})
	if decoded {
		decode, err := stages.NewDecode(stages.DecodeConfig{Height: 28, Width: 28, Channels: 1, Memory: 8 << 20})
		if err != nil {
			return "", err
		}
		batches = batches.Then(decode)
	}
	before, err := bytesRead()
	if err != nil {
		return "", err
	}
	seen, shown := make([]bool, set.Len()), int64(0)
	for b, err := range batches.All(ctx) {
		if err != nil {
			return "", err
		}
		classes := make(map[int32]bool)
		for i, id := range b.IDs {
			classes[b.Labels[i]] = true
			if b.Labels[i] != b.Labels[i-i%windowK] || b.Labels[i] != set.Labels()[id] || seen[id] {
				return "", fmt.Errorf("batch %d: sample %d of class %d at place %d, seen %v", b.Number, id, b.Labels[i], i, seen[id])
			}
			seen[id] = true
			shown++
			if !decoded && !bytes.Equal(b.Records[i].Image, images[id%int64(len(images))]) {
				return "", fmt.Errorf("batch %d: sample %d has another image", b.Number, id)
			}
		}
		if len(b.IDs) != windowP*windowK || len(classes) != windowP {
			return "", fmt.Errorf("batch %d has %d images of %d classes", b.Number, len(b.IDs), len(classes))
		}
	}
	after, err := bytesRead()
	if err != nil {
		return "", err
	}
	var size int64
	for _, s := range set.Info().Shards {
		size += s.Size
	}
	if left := rows.Few + rows.Rest + rows.Over; shown != rows.Images || shown+left != int64(set.Len()) {
		return "", fmt.Errorf("%d rows were shown and %d accounted for, of %d", shown, left, set.Len())
	}
	ratio := float64(after-before) / float64(size)
	if ratio > 1.05 {
		return "", fmt.Errorf("read %d bytes of %d in an epoch", after-before, size)
	}
	return fmt.Sprintf("%d windows of up to %d KiB, %d batches; read %.3f of the data; %.2f%% of %d rows left out",
		rows.Windows, rows.Bytes>>10, rows.Batches, ratio, 100-100*float64(shown)/float64(set.Len()), set.Len()), nil
}

// bytesRead is how many bytes the process has read, of files and all else.
func bytesRead() (int64, error) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "rchar: ")
	number, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(number, 10, 64)
}
