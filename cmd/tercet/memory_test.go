package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

// pictures writes so many raw images of 256×256×3 noise, 192 KiB each, in row
// groups of so many rows.
func pictures(t *testing.T, rows, group int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pictures.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	raw := pipeline.Raw{Shape: pipeline.Shape{C: 3, H: 256, W: 256}}
	w, err := storage.NewRecordWriter(buf, storage.RecordWriterConfig{
		Image: storage.ImageTensor, Raw: raw, GroupRows: group, GroupBytes: 1 << 30, Codec: storage.CodecNone,
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.NewChaCha8([32]byte{7})
	for i := range rows {
		image := make([]byte, raw.Len())
		rng.Read(image)
		row := storage.Row{Record: pipeline.Record{Image: image, Label: int32(i % 20)}}
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), buf.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMemory: what embedding and mining take stays within --memory and 64 MiB,
// for one row group that is larger; in the long run for one of 512 MiB, and for a
// data set and one of 20 times its size.
func TestMemory(t *testing.T) {
	if runtime.GOOS != "linux" || raceEnabled {
		t.Skip("needs Linux, and memory without the race detector's")
	}
	self, err := exec.LookPath("tercet")
	if err != nil {
		t.Fatal(err)
	}
	type set struct {
		name        string
		rows, group int
		commands    []string
	}
	budget, sets := int64(64<<20), []set{{"one row group", 400, 400, []string{"embed"}}} // 75 MiB
	if long() {                                                                          // 140 images are 26 MiB, and 2,800 are 525
		both := []string{"embed", "mine"}
		budget, sets = 128<<20, []set{{"once", 140, 40, both}, {"20 times", 2800, 40, both}, {"one row group", 2800, 2800, both}}
	}
	for _, set := range sets {
		in := pictures(t, set.rows, set.group)
		for _, name := range set.commands {
			out := filepath.Join(t.TempDir(), "out.arrow")
			cmd := exec.Command(self, name, in, "-o", out, "--dim", "16", "--size", "16x16x1", "--memory", fmt.Sprint(budget))
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			peak := make(chan int64)
			go func() { peak <- peakAnonymous(cmd.Process.Pid) }()
			err := cmd.Wait()
			most := <-peak
			if err != nil || most == 0 {
				t.Fatalf("%s, %s: %v: %s", set.name, name, err, said.String())
			}
			t.Logf("%s, %s: %d MiB of anonymous memory at most", set.name, name, most>>20)
			if most > budget+64<<20 {
				t.Errorf("%s, %s: %d MiB of anonymous memory, want at most %d", set.name, name, most>>20, (budget+64<<20)>>20)
			}
		}
	}
}
