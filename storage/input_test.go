package storage

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/tercet-ml/tercet/pipeline"
)

// A flakyFS fails reads: each with probability p, by a fault drawn at random.
type flakyFS struct {
	FS
	p      float64
	faults []error // nil is a short read
	mu     sync.Mutex
	rng    *rand.Rand
	failed int
}

type flakyFile struct {
	File
	fs *flakyFS
}

func (f *flakyFS) Open(name string) (File, error) {
	file, err := f.FS.Open(name)
	return flakyFile{file, f}, err
}

func (f flakyFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	fails, n := f.fs.rng.Float64() < f.fs.p, f.fs.rng.IntN(len(p)+1)
	fault := f.fs.faults[f.fs.rng.IntN(len(f.fs.faults))]
	if fails {
		f.fs.failed++
	}
	f.fs.mu.Unlock()
	if !fails {
		return f.File.ReadAt(p, off)
	}
	if fault != nil {
		return 0, &fs.PathError{Op: "read", Path: "disk", Err: fault}
	}
	n, err := f.File.ReadAt(p[:n], off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

func flaky(p float64, faults ...error) *flakyFS {
	return &flakyFS{FS: OS, p: p, faults: faults, rng: rand.New(rand.NewPCG(1, 2))}
}

// Reads that fail for a while change nothing that comes out, and never cost a
// row. Here 10 % of all fail.
func TestReadsAreRetried(t *testing.T) {
	want := all(t, open(t, Config{Paths: []string{"../testdata/glyphs"}}))
	synctest.Test(t, func(t *testing.T) {
		flakes := flaky(0.1, syscall.EIO, syscall.EINTR, syscall.EAGAIN, syscall.ETIMEDOUT, os.ErrDeadlineExceeded, nil)
		for range 3 {
			d, err := Open(t.Context(), Config{Paths: []string{"../testdata/glyphs"}, FS: flakes, KeepBad: true, Memory: 1})
			if err != nil {
				t.Fatal(err)
			}
			sameRecords(t, all(t, d), want)
			ids := []int64{3, 900, 511, 12}
			recs := make([]pipeline.Record, len(ids))
			for range 20 {
				if err := d.Read(t.Context(), ids, recs); err != nil {
					t.Fatal(err)
				}
				for i, id := range ids {
					sameRecords(t, recs[i:i+1], want[id:id+1])
				}
			}
			d.Close()
		}
		t.Logf("%d reads failed", flakes.failed)
		if flakes.failed < 50 {
			t.Errorf("only %d reads failed", flakes.failed)
		}
	})
}

// A disk that goes on failing ends the job, also where bad rows are let through,
// and so does a failure that does not pass.
func TestReadFailuresAreNeverBadRows(t *testing.T) {
	for _, tt := range []struct {
		fault, want error
	}{{syscall.EIO, ErrRead}, {nil, ErrRead}, {syscall.EACCES, syscall.EACCES}} {
		synctest.Test(t, func(t *testing.T) {
			flakes := flaky(0, tt.fault)
			d, err := Open(t.Context(), Config{Paths: []string{"../testdata/glyphs"}, FS: flakes, KeepBad: true})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			flakes.p = 1
			if tt.fault == nil {
				flakes.p = 0.999 // a short read of nothing, nearly always
			}
			start := time.Now()
			err = d.Read(t.Context(), []int64{0}, make([]pipeline.Record, 1))
			if tt.fault == nil && err == nil {
				return // what is short goes on as long as something comes
			}
			checkError(t, err, tt.want, "glyphs")
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%v: gave up after %v", tt.fault, took)
			}
		})
	}
}

// Reading stops with its context, at the latest when a pause ends or memory is
// asked for.
func TestReadStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, errors.New("too late"))
		defer cancel()
		_, err := Open(ctx, Config{Paths: []string{"../testdata/glyphs"}, FS: flaky(1, syscall.EIO)})
		if err == nil || !strings.Contains(err.Error(), "too late") || errors.Is(err, ErrCorrupt) {
			t.Errorf("%v, want the context's cause", err)
		}
		b := &budget{limit: 1 << 20, ctx: ctx}
		if err := guarded(func() error { b.Allocate(1); return nil }); err == nil || err.Error() != "too late" || ofContent(err) {
			t.Errorf("allocating too late: %v", err)
		}
	})
}

// spoil writes a copy of a file with one byte of the pages of column leaf, in a
// row group, changed.
func spoil(t *testing.T, from, to string, group, leaf int, at func(c chunk) int64) {
	t.Helper()
	p, err := openParquet(t.Context(), from, Config{})
	if err != nil {
		t.Fatal(err)
	}
	b := readFile(t, from)
	b[at(p.(*parquetFile).chunks[group][leaf])] ^= 0x55
	writeFile(t, to, b)
}

// With KeepBad a torn page costs its own rows alone, whoever asks for them, and
// they come in their places with the reason.
func TestKeepBad(t *testing.T) {
	var rows []string
	for i := range 600 {
		rows = append(rows, fmt.Sprintf(`{"image":{"bytes":%q,"path":"%d.png"},"label":%d}`, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "image %d", i*i)), i, i%5))
	}
	from := writeParquet(t, filepath.Join(t.TempDir(), "good.parquet"), schemaOf(hfImage, int64Label), "["+strings.Join(rows, ",")+"]", 300,
		parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryDefault(false), parquet.WithDataPageSize(256), parquet.WithBatchSize(16), parquet.WithStats(false))
	want := all(t, open(t, Config{Paths: []string{from}}))
	path := filepath.Join(t.TempDir(), "spoilt.parquet")
	spoil(t, from, path, 1, 0, func(c chunk) int64 { return (c.from + c.to) / 2 })
	checkError(t, open(t, Config{Paths: []string{path}}).Run(t.Context(), make(chan pipeline.Record, 600)), ErrCorrupt, "row group 1")
	for _, memory := range []int64{0, 1} {
		d := open(t, Config{Paths: []string{path}, KeepBad: true, Memory: memory})
		got := all(t, d)
		if len(got) != len(want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
		bad := 0
		for i, r := range got {
			one := make([]pipeline.Record, 1)
			if err := d.Read(t.Context(), []int64{int64(i)}, one); err != nil {
				t.Fatal(err)
			}
			if (one[0].Err == nil) != (r.Err == nil) || string(one[0].Image) != string(r.Image) {
				t.Fatalf("record %d: %v alone, %v in order", i, one[0].Err, r.Err)
			}
			if r.Err == nil {
				r.Where = want[i].Where
				sameRecords(t, []pipeline.Record{r}, want[i:i+1])
				continue
			}
			bad++
			at, ok := errors.AsType[*RowError](r.Err)
			if !ok || at.Row != r.Where.Row || at.RowGroup != 1 || !errors.Is(r.Err, ErrCorrupt) || r.ID != int64(i) || r.Label != want[i].Label || r.Image != nil {
				t.Fatalf("record %d: %+v", i, r)
			}
		}
		t.Logf("%d of %d rows are bad", bad, len(got))
		if bad == 0 || bad == len(got) {
			t.Errorf("%d of %d rows are bad", bad, len(got))
		}
	}
}

// A label that is none is a bad row too, and the class of the row unknown.
func TestKeepBadLabels(t *testing.T) {
	schema := schemaOf(hfImage, int64Label)
	path := writeParquet(t, filepath.Join(t.TempDir(), "a.parquet"), schema,
		`[{"image":{"bytes":"AQ=="},"label":0},{"image":{"bytes":"AQ=="},"label":-7},{"image":{"bytes":""},"label":1},{"image":null,"label":1}]`, 2)
	d := open(t, Config{Paths: []string{path}, KeepBad: true})
	recs := all(t, d)
	checkError(t, recs[1].Err, ErrValue, "label -7", "row group 0, row 1")
	checkError(t, recs[2].Err, ErrValue, "no bytes", "row group 1, row 0")
	checkError(t, recs[3].Err, ErrNull, "row group 1, row 1")
	if recs[0].Err != nil || recs[1].Label != pipeline.Unknown || d.Labels()[1] != pipeline.Unknown || d.Labels()[3] != 1 {
		t.Errorf("records %+v, labels %v", recs, d.Labels())
	}
	if _, err := Open(t.Context(), Config{Paths: []string{path}}); !errors.Is(err, ErrValue) {
		t.Errorf("without KeepBad: %v", err)
	}
}

func TestWriteBadRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.jsonl")
	rows := []pipeline.BadRow{{ID: 7, Location: pipeline.Location{File: "a<b.parquet", RowGroup: 1, Row: 2, Column: "image"}, Reason: "torn", Digest: "ab"}}
	if err := WriteBadRows(nil, path, rows, false); err != nil {
		t.Fatal(err)
	}
	want := `{"id":7,"file":"a<b.parquet","row_group":1,"row":2,"column":"image","reason":"torn","digest":"ab"}` + "\n"
	if got := string(readFile(t, path)); got != want {
		t.Errorf("report is %s, want %s", got, want)
	}
	if err := WriteBadRows(nil, path, rows, false); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v, want ErrExists", err)
	}
}
