package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Every prefix of a file is an error, and a flipped bit is an error or changes
// nothing that is read.
func TestTripletsDamaged(t *testing.T) {
	for _, ending := range tripletEndings {
		t.Run(ending[1:], func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t"+ending)
			want := randomTriplets(20, ScopeBatch)
			writeTriplets(t, path, ScopeBatch, true, want)
			_, wantMeta, err := readTriplets(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			good := readFile(t, path)
			bad := filepath.Join(t.TempDir(), "bad"+ending)
			for n := 0; n < len(good); n += 1 + n%3 {
				writeFile(t, bad, good[:n])
				if _, err := OpenTriplets(bad); !isDamage(err) {
					t.Fatalf("first %d of %d bytes: %v, want ErrCorrupt", n, len(good), err)
				}
			}
			const flips = 1500 // spread over the file; 0 of all were silent
			refused, r := 0, rand.New(rand.NewPCG(1, 2))
			for range flips {
				bit := r.IntN(8 * len(good))
				b := slices.Clone(good)
				b[bit/8] ^= 1 << (bit % 8)
				writeFile(t, bad, b)
				got, meta, err := readTriplets(t.Context(), bad)
				if err != nil {
					refused++
					if !isDamage(err) {
						t.Fatalf("bit %d: %v, want ErrCorrupt", bit, err)
					}
				} else if fmt.Sprint(meta) != fmt.Sprint(wantMeta) || !slices.Equal(got, want) {
					t.Fatalf("bit %d of byte %d: silently other data", bit%8, bit/8)
				}
			}
			t.Logf("%d bytes: of %d flips %d refused, the others changed nothing", len(good), flips, refused)
		})
	}
}

func isDamage(err error) bool {
	for _, cause := range []error{ErrCorrupt, ErrSchema, ErrVersion, ErrMemory} {
		if errors.Is(err, cause) {
			_, ok := errors.AsType[*RowError](err)
			return ok
		}
	}
	return false
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	os.Remove(path) // some file systems write through when a file is truncated and written
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// FuzzOpenTriplets: any bytes are a file whose rows can be read, or an error.
func FuzzOpenTriplets(f *testing.F) {
	for i, ending := range tripletEndings {
		path := filepath.Join(f.TempDir(), "t"+ending)
		for _, n := range []int{0, 3, 50} {
			writeTriplets(f, path, ScopeBatch, n == 3, randomTriplets(n, ScopeBatch))
			f.Add(uint8(i), readFile(f, path))
		}
	}
	f.Fuzz(func(t *testing.T, format uint8, b []byte) {
		path := filepath.Join(t.TempDir(), "t"+tripletEndings[int(format)%len(tripletEndings)])
		writeFile(t, path, b)
		if _, _, err := readTriplets(t.Context(), path); err != nil && !isDamage(err) {
			t.Errorf("%v, want a RowError", err)
		}
	})
}
