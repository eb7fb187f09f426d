package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func generation(number int32) pipeline.Generation {
	rows := pipeline.MakeEmbeddings(5, 3)
	for i := range rows.Data {
		rows.Data[i] = float32(int(number)*100 + i)
	}
	return pipeline.Generation{Number: number, Rows: rows, Fingerprint: "f", Normalised: number%2 == 0}
}

func sameGeneration(a, b pipeline.Generation) bool {
	return a.Number == b.Number && a.Fingerprint == b.Fingerprint && a.Normalised == b.Normalised &&
		a.Rows.Dim == b.Rows.Dim && slices.Equal(a.Rows.Data, b.Rows.Data)
}

// there are the generations in a folder.
func there(t *testing.T, s *Generations) (numbers []int32) {
	t.Helper()
	for n := range int32(50) {
		g, err := s.Load(t.Context(), n)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			t.Errorf("generation %d: %v", n, err)
		case !sameGeneration(g, generation(n)):
			t.Errorf("generation %d is %+v", n, g)
		default:
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func TestGenerationsAreKept(t *testing.T) {
	ctx := context.Background()
	s := &Generations{Dir: filepath.Join(t.TempDir(), "cache"), Data: "d", Embedder: "e"}
	if _, err := s.Load(ctx, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	for n := range int32(6) {
		if err := s.Save(ctx, generation(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := there(t, s), []int32{3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("generations %v are there, want %v", got, want)
	}
	// A run that went back: what it makes takes the place of what was.
	for _, other := range []string{"generation-x.arrow", "generation-12.arrow", "model-0000000012.arrow", "generation-0000000012.arrow.bak"} {
		if err := os.WriteFile(filepath.Join(s.Dir, other), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Forget(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if got, want := there(t, s), []int32{3}; !slices.Equal(got, want) {
		t.Errorf("generations %v are there, want %v", got, want)
	}
	if err := s.Save(ctx, generation(3)); err != nil {
		t.Errorf("saved again: %v", err)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 5 {
		t.Errorf("%d files are left, want generation 3 and four of somebody else's: %v", len(entries), err)
	}
	if err := (&Generations{Dir: s.Dir, Keep: 1}).Save(ctx, generation(4)); err == nil || !strings.Contains(err.Error(), "Keep is 1") {
		t.Errorf("Keep 1: %v", err)
	}
}

// Goal E4: generations of other data, another embedder or another number are refused, by name of the field.
func TestGenerationsOfSomethingElseAreRefused(t *testing.T) {
	ctx := context.Background()
	s := &Generations{Dir: t.TempDir(), Data: "d", Embedder: "e"}
	for n := range int32(2) {
		if err := s.Save(ctx, generation(n)); err != nil {
			t.Fatal(err)
		}
	}
	for field, other := range map[string]*Generations{
		"data_digest": {Dir: s.Dir, Data: "other", Embedder: "e"},
		"embedder":    {Dir: s.Dir, Data: "d", Embedder: "other"},
	} {
		_, err := other.Load(ctx, 1)
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) || mismatch.Field != field {
			t.Errorf("error is %v, want a mismatch of %s", err, field)
		}
	}
	if err := os.Rename(s.path(1), s.path(0)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(ctx, 0)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || mismatch.Field != "generation" {
		t.Errorf("error is %v, want a mismatch of the generation", err)
	}
}

// Whatever call fails while generation 4 is saved, those before it are whole,
// and it is there whole or not at all; when Save says it is there, it is.
func TestGenerationsSurviveFaults(t *testing.T) {
	ctx := context.Background()
	for n := 0; ; n++ {
		s := &Generations{Dir: t.TempDir(), Keep: 2}
		for g := int32(1); g < 4; g++ {
			if err := s.Save(ctx, generation(g)); err != nil {
				t.Fatal(err)
			}
		}
		faults := &faultFS{FS: OS, n: n, fault: syscall.EIO}
		err := (&Generations{Dir: s.Dir, Keep: 2, fs: faults}).Save(ctx, generation(4))
		got := there(t, s)
		switch {
		case err == nil && !slices.Contains(got, 4):
			t.Errorf("call %d (%s) failed: generation 4 was saved and %v are there", n, faults.failed, got)
		case !slices.Contains(got, 3):
			t.Errorf("call %d (%s) failed: %v are there", n, faults.failed, got)
		}
		if faults.failed == "" {
			if err != nil || n < 8 {
				t.Errorf("%d calls, error %v", n, err)
			}
			return
		}
	}
}
