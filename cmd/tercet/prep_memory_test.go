package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

// TestPrepMemory prepares data of 16 MiB, of 20 times as much, and of one row
// group of 512 MiB, within a budget: anonymous memory stays below it by 64 MiB.
func TestPrepMemory(t *testing.T) {
	if !long() || runtime.GOOS != "linux" {
		t.Skip("needs TERCET_LONG, Linux and some minutes")
	}
	self, err := exec.LookPath("tercet")
	if err != nil {
		t.Fatal(err)
	}
	const budget = 256 << 20
	for _, tt := range []struct {
		name        string
		rows        int
		group, side int
	}{{"16 MiB", 1 << 14, 4 << 20, 32}, {"320 MiB", 20 << 14, 4 << 20, 32}, {"a row group of 512 MiB", 2048, 512 << 20, 512}} {
		in := rawFile(t, tt.rows, tt.side, tt.group)
		for _, encode := range []string{"keep", "raw"} {
			for _, format := range []string{"parquet", "arrow"} {
				cmd := exec.Command(self, "prep", in, "-o", filepath.Join(t.TempDir(), "set"), "--memory", "256MiB", "--encode", encode, "--format", format, "--log-level", "error")
				var said strings.Builder
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				peak := make(chan int64)
				go func() { peak <- peakAnonymous(cmd.Process.Pid) }()
				err := cmd.Wait()
				most := <-peak
				if err != nil {
					t.Fatalf("%s, %s, %s: %v: %s", tt.name, encode, format, err, said.String())
				}
				t.Logf("%s, %s, %s: %d MiB", tt.name, encode, format, most>>20)
				if most > budget+64<<20 || most == 0 {
					t.Errorf("%s, %s, %s: %d MiB of anonymous memory, want at most %d", tt.name, encode, format, most>>20, budget>>20+64)
				}
			}
		}
	}
}

// peakAnonymous follows a process to its end.
func peakAnonymous(pid int) (peak int64) {
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return peak
		}
		_, rest, ok := strings.Cut(string(text), "RssAnon:")
		if !ok {
			return peak // a zombie has no memory
		}
		kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		peak = max(peak, kib<<10)
		time.Sleep(2 * time.Millisecond)
	}
}

// rawFile is grey pixels of one size with a few values, in row groups of some bytes.
func rawFile(t *testing.T, rows, side, group int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := storage.NewRecordWriter(f, storage.RecordWriterConfig{
		Image: storage.ImageFixed, Raw: pipeline.Raw{Shape: pipeline.Shape{C: 1, H: side, W: side}},
		GroupBytes: int64(group), GroupRows: 1 << 30, PageRows: 4, Codec: storage.CodecZstd,
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	pixels := make([]byte, side*side)
	for i := range rows {
		for k := range 64 {
			pixels[(k*1021+i)%len(pixels)] = byte(rng.Uint32())
		}
		row := storage.Row{}
		row.Label, row.Image = int32(i%10), pixels
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
