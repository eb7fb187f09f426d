package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What the ranks mine is together what one rank mines: a file each, disjoint,
// of equally many batches.
func TestRanksMineTheSameTriplets(t *testing.T) {
	dir := t.TempDir()
	mine := func(batches, rank, world int) (lines []string, numbers map[int64]bool) {
		out := filepath.Join(dir, "out.jsonl")
		code, _, stderr := tercet(t, "mine", data+"glyphs", "-o", out, "--overwrite", "--size", "12x12", "--dim", "8", "--scope", "batch",
			"--batches", strconv.Itoa(batches), "--rank", strconv.Itoa(rank), "--world", strconv.Itoa(world))
		if code != exitDone {
			t.Fatalf("rank %d of %d: exit code %d: %s", rank, world, code, stderr)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		numbers = map[int64]bool{}
		for line := range strings.Lines(string(text)) {
			var row map[string]any
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			delete(row, "tercet") // the metadata, which say how many ranks there are
			lines = append(lines, fmt.Sprint(row))
			numbers[int64(row["batch"].(float64))] = true
		}
		return lines, numbers
	}
	want, _ := mine(9, 0, 1)
	var got []string
	for rank := range 3 {
		lines, numbers := mine(11, rank, 3) // 2 do not fill a step
		for b := range numbers {
			if b%3 != int64(rank) || b >= 9 {
				t.Errorf("rank %d of 3 has batch %d", rank, b)
			}
		}
		if len(numbers) != 3 {
			t.Errorf("rank %d of 3 has %d batches, want 3", rank, len(numbers))
		}
		got = append(got, lines...)
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("3 ranks mined %d triplets, one mined %d, and they differ", len(got), len(want))
	}
}
