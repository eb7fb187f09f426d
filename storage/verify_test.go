package storage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// long is the number that a test tries: all of them with TERCET_LONG=1.
func long(sample, full int) int {
	if os.Getenv("TERCET_LONG") != "" {
		return full
	}
	return sample
}

// verified is what Verify finds of a file.
func verified(t testing.TB, path string) Verdict {
	t.Helper()
	kind, err := KindOf(t.Context(), path)
	if err != nil {
		if !faulty(err) {
			t.Fatalf("%s: %v", path, err)
		}
		return Verdict{Faults: []error{err}}
	}
	if kind == KindData {
		return Verdict{Faults: []error{fmt.Errorf("%s: %w: taken for somebody else's data", path, ErrCorrupt)}}
	}
	v, err := Verify(t.Context(), path, kind, 1)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

func writeSomePairs(t testing.TB, path string, n int) {
	t.Helper()
	w, err := NewPairWriter(TripletConfig{Path: path, Meta: testMeta(ScopeDataset)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		p := pipeline.MinedPair{Left: int64(i / 4), Right: int64(1000 + i), Label: int8(i % 4 / 2), Distance: float32(i), Loss: 0.5, Batch: -1}
		if err := w.Write([]pipeline.MinedPair{p}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(nil); err != nil {
		t.Fatal(err)
	}
}

// verifiable writes one small file of each kind and format that Verify knows,
// and returns what else reads it, as text.
func verifiable(t testing.TB) map[string]func(path string) (string, error) {
	files := make(map[string]func(string) (string, error))
	dir := t.TempDir()
	for _, ending := range tripletEndings {
		path := filepath.Join(dir, "triplets"+ending)
		writeTriplets(t, path, ScopeDataset, true, randomTriplets(60, ScopeDataset))
		files[path] = func(path string) (string, error) {
			rows, meta, err := readTriplets(t.Context(), path)
			return fmt.Sprint(rows, meta), err
		}
		path = filepath.Join(dir, "pairs"+ending)
		writeSomePairs(t, path, 40)
		files[path] = func(path string) (string, error) {
			p, err := OpenPairs(path)
			if err != nil {
				return "", err
			}
			defer p.Close()
			text := fmt.Sprint(p.Meta())
			for row, err := range pipeline.From[pipeline.MinedPair](p).All(t.Context()) {
				if err != nil {
					return "", err
				}
				text += fmt.Sprint(row)
			}
			return text, nil
		}
	}
	path := filepath.Join(dir, "snapshot.arrow")
	if _, err := WriteSnapshot(path, SnapshotMeta{DataDigest: "d1", Embedder: "pca", Fingerprint: "f00d"}, randomEmbeddings(50, 6), false); err != nil {
		t.Fatal(err)
	}
	files[path] = func(path string) (string, error) {
		meta, emb, err := ReadSnapshot(path, SnapshotMeta{})
		return fmt.Sprint(meta, emb), err
	}
	return files
}

// A flipped bit of a snapshot, triplet or pairs file is found, or is where no
// reader looks: none is silent, to Verify or to who reads the file.
func TestVerifyFlips(t *testing.T) {
	for path, read := range verifiable(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if v := verified(t, path); len(v.Faults) > 0 || v.Rows == 0 || v.Files != 1 {
				t.Fatalf("sound: %+v", v)
			}
			want, err := read(path)
			if err != nil {
				t.Fatal(err)
			}
			good := readFile(t, path)
			rng := rand.New(rand.NewPCG(7, 8))
			bad := filepath.Join(t.TempDir(), filepath.Base(path))
			found, unread := 0, 0
			for range long(150, 10_000) {
				at, bit := rng.IntN(len(good)), rng.IntN(8)
				b := bytes.Clone(good)
				b[at] ^= 1 << bit
				writeFile(t, bad, b)
				faults := verified(t, bad).Faults
				for _, f := range faults {
					if !strings.Contains(f.Error(), bad) {
						t.Fatalf("byte %d: %v does not name the file", at, f)
					}
				}
				if len(faults) > 0 {
					found++
				} else if strings.HasSuffix(path, ".parquet") {
					t.Fatalf("bit %d of byte %d is silent: a sealed file is covered to the last bit", bit, at)
				}
				got, err := read(bad)
				if err == nil && got != want {
					t.Fatalf("bit %d of byte %d is read as other data", bit, at)
				}
				if len(faults) == 0 {
					if unread++; err != nil {
						t.Fatalf("bit %d of byte %d: sound to Verify, and reading says %v", bit, at, err)
					}
				}
			}
			t.Logf("%d bytes: %d flips found, %d where nothing is read", len(good), found, unread)
			for n := 0; n < len(good); n += 1 + len(good)/97 { // every way of being cut short
				writeFile(t, bad, good[:n])
				if v := verified(t, bad); len(v.Faults) == 0 {
					t.Fatalf("the first %d of %d bytes are sound", n, len(good))
				}
			}
		})
	}
}

// Damage has a place: the row group of a triplet file, the rows of a snapshot.
func TestVerifySaysWhere(t *testing.T) {
	dir := t.TempDir()
	spoilAt := func(path string, at int) Verdict {
		b := readFile(t, path)
		b[at] ^= 4
		bad := filepath.Join(dir, "bad-"+filepath.Base(path))
		writeFile(t, bad, b)
		return verified(t, bad)
	}
	for _, ending := range tripletEndings {
		path := filepath.Join(dir, "t"+ending)
		writeTriplets(t, path, ScopeDataset, false, randomTriplets(frameRows+500, ScopeDataset))
		b := readFile(t, path)
		at := len(b) - len(b)/2000 // in the second row group
		if ending == ".arrow" {
			at = bytes.LastIndex(b, []byte("ARROW1")) - 12_000
		}
		if ending == ".parquet" {
			at = bytes.LastIndex(b, []byte("PAR1")) - 6000
		}
		v := spoilAt(path, at)
		if len(v.Faults) != 1 || !strings.Contains(v.Faults[0].Error(), "row group 1") {
			t.Errorf("%s: %v, want one fault in row group 1", ending, v.Faults)
		}
	}
	path := filepath.Join(dir, "s.arrow")
	const dim = 1 << 10 // 1,024 rows to a block
	if _, err := WriteSnapshot(path, SnapshotMeta{}, randomEmbeddings(2500, dim), false); err != nil {
		t.Fatal(err)
	}
	v := spoilAt(path, len(readFile(t, path))-4*dim*600)
	if at, ok := errors.AsType[*RowError](v.Faults[0]); len(v.Faults) != 1 || !ok || at.RowGroup != 0 || at.Row != 1024 {
		t.Errorf("snapshot: %v, want one fault from row 1024 on", v.Faults)
	}
}

// A prepared data set is checked to the last byte, and its files are those of
// its manifest: not missing, not another, not outside.
func TestVerifyPrepared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	cfg := prepConfig(dir)
	m, err := prepare(t, cfg, preparedRows(100, pipeline.Raw{}), -1)
	if err != nil {
		t.Fatal(err)
	}
	if v := verified(t, dir); len(v.Faults) > 0 || v.Rows != m.Rows || v.Kind != KindPrepared {
		t.Fatalf("sound: %+v", v)
	}
	whole := files(t, dir)
	var names []string
	for name := range whole {
		names = append(names, name)
	}
	slices.Sort(names)
	rng := rand.New(rand.NewPCG(9, 1))
	check := func(name, what string) {
		t.Helper()
		v := verified(t, dir)
		if len(v.Faults) == 0 || !strings.Contains(v.Faults[0].Error(), filepath.Base(name)) {
			t.Errorf("%s %s: %v", name, what, v.Faults)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(whole[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range long(150, 10_000) {
		name := names[i%len(names)]
		b := []byte(whole[name])
		at := rng.IntN(len(b))
		b[at] ^= 1 << rng.IntN(8)
		writeFile(t, filepath.Join(dir, name), b)
		check(name, fmt.Sprintf("with byte %d flipped", at))
	}
	shards := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasSuffix(n, ".parquet") })
	for _, name := range names {
		if name == ManifestName {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		check(name, "missing")
		writeFile(t, filepath.Join(dir, name), []byte(whole[name][:len(whole[name])-1]))
		check(name, "cut short")
	}
	if len(shards) > 1 {
		writeFile(t, filepath.Join(dir, shards[0]), []byte(whole[shards[1]]))
		check(shards[0], "swapped")
	}
}

// BenchmarkVerify: bytes of finished output checked per second on one core,
// against SHA-256 of as many bytes in memory.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	triplets, snapshot := filepath.Join(dir, "t.parquet"), filepath.Join(dir, "s.arrow")
	writeTriplets(b, triplets, ScopeDataset, false, randomTriplets(4<<20/8*4, ScopeDataset))
	if _, err := WriteSnapshot(snapshot, SnapshotMeta{}, randomEmbeddings(1<<17, 128), false); err != nil {
		b.Fatal(err)
	}
	b.Run("sha256", func(b *testing.B) {
		bytes := readFile(b, snapshot)
		b.SetBytes(int64(len(bytes)))
		for b.Loop() {
			sha256.Sum256(bytes)
		}
	})
	for _, path := range []string{triplets, snapshot} {
		b.Run(filepath.Base(path), func(b *testing.B) {
			for b.Loop() {
				v := verified(b, path)
				if len(v.Faults) > 0 {
					b.Fatal(v.Faults)
				}
				b.SetBytes(v.Bytes)
			}
		})
	}
}
