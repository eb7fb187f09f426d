package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// mutate damages b as files are damaged and forged: bits and bytes, numbers that
// lie, parts that are cut, repeated, moved or taken from elsewhere in the file.
func mutate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(3) {
		if len(b) < 16 {
			return b
		}
		at := rng.IntN(len(b) - 8)
		if rng.IntN(3) == 0 { // where footers and headers are
			at = max(0, len(b)-9-rng.IntN(min(len(b)-8, 600)))
		} else if rng.IntN(3) == 0 {
			at = rng.IntN(min(len(b)-8, 200))
		}
		n := 1 + rng.IntN(min(64, len(b)-at))
		other := rng.IntN(len(b) - n + 1)
		v := [...]uint64{0, 1, math.MaxUint64, math.MaxInt64, math.MaxInt32, math.MaxUint32, 1 << 40, 1 << 31, rng.Uint64(), uint64(len(b)), uint64(rng.IntN(len(b)))}[rng.IntN(11)]
		switch rng.IntN(9) {
		case 0:
			b[at] ^= 1 << rng.IntN(8)
		case 1:
			b[at] = byte(rng.Uint32())
		case 2:
			binary.LittleEndian.PutUint32(b[at:], uint32(v))
		case 3:
			binary.LittleEndian.PutUint64(b[at:], v)
		case 4:
			binary.BigEndian.PutUint32(b[at:], uint32(v))
		case 5: // a varint of Thrift
			copy(b[at:], binary.AppendUvarint(nil, v>>(1+rng.IntN(60))))
		case 6:
			b = append(b[:at], b[at+n:]...)
		case 7:
			b = append(b[:at:at], append(bytes.Clone(b[other:other+n]), b[at:]...)...)
		case 8:
			copy(b[at:], bytes.Clone(b[other:other+n]))
		}
	}
	return b
}

// harmless runs f over a damaged file, behind everything that must not happen: a
// panic, much time or memory, an error that does not name the file. With caused it
// has to wrap a cause of this package as well.
func harmless(t testing.TB, name, path string, caused bool, f func() error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err := f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 64<<20 {
		t.Errorf("%s: took %d MiB from the system", name, grown>>20)
	}
	if took > 20*time.Second { // 1 s on a quiet machine
		t.Errorf("%s: took %v", name, took)
	}
	if _, panicked := errors.AsType[*pipeline.PanicError](err); panicked {
		t.Errorf("%s: %v", name, err)
	}
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("%s: %v does not name the file", name, err)
	}
	if caused && err != nil && !ofContent(err) && !errors.Is(err, ErrMemory) && !errors.Is(err, ErrVersion) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v has no cause", name, err)
	}
}

// Damaged and forged files of every format do no harm: a sample of mutations of
// each, 1,000 and more with TERCET_LONG=1.
func TestMutations(t *testing.T) {
	dir := t.TempDir()
	for name, b := range smallFiles(t) {
		mutations(t, dir, name+".parquet", true, b, func(path string) error { return readData(t, path) })
	}
	for name, b := range small(t) {
		ending := ".arrow"
		if strings.Contains(name, "stream") {
			ending = ".arrows"
		}
		mutations(t, dir, strings.ReplaceAll(name, " ", "-")+ending, true, b, func(path string) error { return readData(t, path) })
	}
	for path, read := range verifiable(t) {
		mutations(t, dir, filepath.Base(path), true, readFile(t, path), func(path string) error {
			verified(t, path)
			_, err := read(path)
			return err
		})
	}
}

// readData reads a file by its columns, and as a data set with bad rows let through.
func readData(t testing.TB, path string) error {
	_, err := everything(path)
	d, open := Open(t.Context(), Config{Paths: []string{path}, KeepBad: true, Memory: 1 << 20})
	if open == nil {
		for range pipeline.From[pipeline.Record](d).All(t.Context()) {
		}
		d.Close()
	}
	return err
}

func mutations(t *testing.T, dir, name string, caused bool, good []byte, read func(path string) error) {
	t.Run(name, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, uint64(len(good))))
		path := filepath.Join(dir, name)
		refused := 0
		n := long(60, 1500)
		for i := range n {
			b := mutate(rng, good)
			writeFile(t, path, b)
			harmless(t, fmt.Sprintf("%s, mutation %d", name, i), path, caused, func() (err error) {
				if err = read(path); err != nil {
					refused++
				}
				return err
			})
			if t.Failed() {
				kept := filepath.Join(os.TempDir(), fmt.Sprintf("mutation-%d-%s", i, name))
				os.WriteFile(kept, b, 0o644)
				t.Fatalf("kept as %s", kept)
			}
		}
		t.Logf("%d of %d were refused", refused, n)
	})
}

// FuzzVerify: any bytes under the name of a snapshot or of a triplet or pairs
// file have a verdict.
func FuzzVerify(f *testing.F) {
	names := []string{"s.arrow", "t.parquet", "t.jsonl"}
	for path := range verifiable(f) {
		for i, name := range names {
			if filepath.Ext(name) == filepath.Ext(path) {
				f.Add(uint8(i), readFile(f, path))
			}
		}
	}
	f.Fuzz(func(t *testing.T, name uint8, b []byte) {
		path := filepath.Join(t.TempDir(), names[int(name)%len(names)])
		writeFile(t, path, b)
		harmless(t, "input", path, true, func() error { verified(t, path); return nil })
	})
}

// A record batch of 500 bytes that says it has many rows has none: where bad rows
// are let through, each would be read by itself.
func TestRowsThatLie(t *testing.T) {
	good := small(t)["zstd file"]
	path := filepath.Join(t.TempDir(), "lie.arrow")
	for at := 0; at+8 <= len(good); at += 4 {
		for _, v := range []uint64{1 << 20, 1 << 24, 1 << 30} {
			b := bytes.Clone(good)
			binary.LittleEndian.PutUint64(b[at:], v)
			writeFile(t, path, b)
			harmless(t, fmt.Sprintf("%d at byte %d", v, at), path, true, func() error { return readData(t, path) })
		}
	}
}
