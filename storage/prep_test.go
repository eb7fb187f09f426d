package storage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// preparedRows are n rows of four classes, some of unknown class.
func preparedRows(n int, raw pipeline.Raw) []PreparedRow {
	rng := rand.New(rand.NewPCG(1, 2))
	rows := make([]PreparedRow, n)
	for i := range rows {
		r := &rows[i]
		r.Label = int32(rng.IntN(5)) - 1
		r.Path = fmt.Sprintf("p/%d.png", i)
		r.Group = []string{"", "red", "blue"}[rng.IntN(3)]
		size := raw.Len()
		if size == 0 {
			size = 50 + rng.IntN(300)
		}
		r.Image = make([]byte, size)
		for k := range r.Image {
			r.Image[k] = byte(rng.Uint32())
		}
		r.Format, r.Shape = "PNG", pipeline.Shape{C: 1, H: 8, W: 8 + i%3}
		if raw != (pipeline.Raw{}) {
			r.Format, r.Shape = "raw", raw.Shape
		}
		r.Pixels = [16]byte(sha256.New().Sum(r.Image)[:16])
	}
	return rows
}

// prepLayout keeps all but class 1, in a shuffled order.
func prepLayout(rows []PreparedRow) PrepLayout {
	l := PrepLayout{Classes: []int32{0, -1, 1, 2}}
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(len(rows)) {
		if rows[i].Label != 1 {
			l.Order = append(l.Order, int64(i))
		}
	}
	return l
}

func prepConfig(dir string) PrepConfig {
	return PrepConfig{
		Job:    JobConfig{Output: dir, Settings: map[string]string{"seed": "1"}},
		Format: FormatParquet, Classes: []string{"a", "b", "c", "d"}, Groups: true, Encoding: "keep",
		ShardBytes: 12000, GroupBytes: 5000,
	}
}

// prepare makes a prepared data set; it stops after the given number of rows
// taken, or shards written, as a process that dies does.
func prepare(tb testing.TB, cfg PrepConfig, rows []PreparedRow, stop int) (*Manifest, error) {
	tb.Helper()
	p, err := NewPrep(cfg)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if !p.Done() {
		from, complete := p.Taken()
		for i := from; !complete && i < int64(len(rows)); i++ {
			if stop--; stop == 0 {
				return nil, nil
			}
			if err := p.Take(rows[i]); err != nil {
				return nil, err
			}
		}
		if !complete {
			if err := p.Complete(); err != nil {
				return nil, err
			}
		}
		m := &Manifest{Settings: map[string]string{}, Counts: map[string]int64{}, Sources: []ManifestSource{}}
		var left atomic.Int64 // shards are written by several at a time
		left.Store(int64(stop))
		err := p.Write(tb.Context(), prepLayout(rows), m, func(int64) {
			if left.Add(-1) == 0 {
				panic("killed")
			}
		})
		if isPanic(err) {
			return nil, nil
		}
		stop = int(left.Load())
		if err != nil {
			return nil, err
		}
		if stop--; stop == 0 {
			return nil, nil
		}
	}
	return p.Finish()
}

// files are the files below a folder, by path.
func files(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		all[rel] = string(b)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// What was put in comes out, by the manifest and by the files alone.
func TestPrep(t *testing.T) {
	grey := pipeline.Raw{Shape: pipeline.Shape{C: 1, H: 9, W: 11}}
	rgb := pipeline.Raw{Shape: pipeline.Shape{C: 3, H: 5, W: 7}, Interleaved: true}
	for _, format := range []Format{FormatParquet, FormatArrow} {
		for _, raw := range []pipeline.Raw{{}, grey, rgb} {
			rows := preparedRows(300, raw)
			dir := filepath.Join(t.TempDir(), "set")
			cfg := prepConfig(dir)
			cfg.Format = format
			m, err := prepare(t, cfg, rows, -1)
			if err != nil {
				t.Fatal(err)
			}
			layout := prepLayout(rows)
			if m.Rows != int64(len(layout.Order)) || len(m.Shards) < 3 || len(m.Shards[0].Groups) < 2 || m.Raw != raw || m.Format != format {
				t.Errorf("manifest %+v", m)
			}
			byManifest := open(t, Config{Paths: []string{dir}})
			byFiles := open(t, Config{Paths: []string{filepath.Join(dir, "data", "*."+string(format))}})
			if byManifest.Digest() != m.Digest || byFiles.Digest() == m.Digest {
				t.Errorf("digests %s and %s, manifest %s", byManifest.Digest(), byFiles.Digest(), m.Digest)
			}
			for _, d := range []*Dataset{byManifest, byFiles} {
				var want []pipeline.Record
				for at, i := range layout.Order {
					rec := rows[i].Record
					rec.ID, rec.Raw, rec.Label = int64(at), raw, layout.label(rec.Label)
					want = append(want, rec)
				}
				sameRecords(t, all(t, d), want)
				if !slices.Equal(d.Classes(), []string{"a", "c", "d"}) {
					t.Errorf("classes %v", d.Classes())
				}
				if !slices.Equal(d.Groups(), byFiles.Groups()) || len(d.Groups()) != d.Len() {
					t.Errorf("groups %v, want %v", d.Groups(), byFiles.Groups())
				}
			}
			again := filepath.Join(t.TempDir(), "again")
			cfg.Job.Output, cfg.Workers = again, 7
			if _, err := prepare(t, cfg, rows, -1); err != nil {
				t.Fatal(err)
			}
			if a, b := files(t, dir), files(t, again); fmt.Sprint(a) != fmt.Sprint(b) {
				t.Errorf("%s: other bytes with other workers", format)
			}
		}
	}
}

// A job that ends anywhere is gone on with, and its bytes are the same.
func TestPrepResume(t *testing.T) {
	rows := preparedRows(100, pipeline.Raw{})
	top := t.TempDir()
	cfg := prepConfig(filepath.Join(top, "whole"))
	cfg.ShardBytes = 5000
	if _, err := prepare(t, cfg, rows, -1); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(files(t, cfg.Job.Output))
	resumed := false
	for stop := 1; ; stop += 8 {
		cfg.Job.Output = filepath.Join(top, fmt.Sprint(stop))
		cfg.Job.Resume = false
		m, err := prepare(t, cfg, rows, stop)
		if err != nil && !isPanic(err) {
			t.Fatalf("stop at %d: %v", stop, err)
		}
		if m != nil {
			break // it was done before
		}
		if _, err := os.Stat(cfg.Job.Output); err == nil {
			t.Fatalf("stop at %d: the output is there", stop)
		}
		if _, err := os.Stat(cfg.Job.Output + ".parts"); err == nil {
			if _, err := prepare(t, cfg, rows, -1); !errors.Is(err, ErrUnfinished) {
				t.Errorf("stop at %d: without Resume: %v", stop, err)
			}
			resumed = true
		}
		cfg.Job.Resume = true
		if _, err := prepare(t, cfg, rows, stop/2+1); err != nil && !isPanic(err) { // and dies again
			t.Fatalf("stop at %d again: %v", stop, err)
		}
		if _, err := os.Stat(cfg.Job.Output); err != nil {
			if _, err := prepare(t, cfg, rows, -1); err != nil {
				t.Fatalf("stop at %d: %v", stop, err)
			}
		}
		if got := fmt.Sprint(files(t, cfg.Job.Output)); got != want {
			t.Fatalf("stop at %d: other bytes", stop)
		}
		if _, err := os.Stat(cfg.Job.Output + ".parts"); err == nil {
			t.Errorf("stop at %d: parts are left", stop)
		}
	}
	if !resumed {
		t.Error("nothing was gone on with")
	}
}

func isPanic(err error) bool {
	_, ok := errors.AsType[*pipeline.PanicError](err)
	return ok
}

func TestPrepErrors(t *testing.T) {
	rows := preparedRows(20, pipeline.Raw{})
	dir := filepath.Join(t.TempDir(), "set")
	cfg := prepConfig(dir)
	if _, err := prepare(t, cfg, rows, -1); err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(files(t, dir))
	for _, resume := range []bool{false, true} {
		cfg.Job.Resume = resume
		if _, err := prepare(t, cfg, rows, -1); !errors.Is(err, ErrExists) {
			t.Errorf("an output that is there, resume %v: %v", resume, err)
		}
	}
	cfg.Job.Resume, cfg.Job.Overwrite = false, true
	if _, err := prepare(t, cfg, rows[:10], 3); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(files(t, dir)); after != before {
		t.Error("an interrupted job changed what was there")
	}
	if _, err := prepare(t, cfg, rows[:10], -1); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(files(t, dir)); after == before {
		t.Error("not overwritten")
	}
	cfg.Format = "csv"
	if _, err := NewPrep(cfg); err == nil {
		t.Error("format csv")
	}
	cfg = prepConfig(filepath.Join(dir, ManifestName))
	if _, err := NewPrep(cfg); !errors.Is(err, ErrExists) {
		t.Errorf("a file for a folder: %v", err)
	}
}

// No bit of a prepared data set changes in silence.
func TestPreparedFlips(t *testing.T) {
	flips := 300
	if os.Getenv("TERCET_LONG") != "" {
		flips = 10_000
	}
	for _, format := range []Format{FormatParquet, FormatArrow} {
		dir := filepath.Join(t.TempDir(), "set")
		cfg := prepConfig(dir)
		cfg.Format = format
		if _, err := prepare(t, cfg, preparedRows(100, pipeline.Raw{}), -1); err != nil {
			t.Fatal(err)
		}
		whole := files(t, dir)
		var names []string
		var size int
		for name, text := range whole {
			names = append(names, name)
			size += len(text)
		}
		slices.Sort(names)
		rng := rand.New(rand.NewPCG(5, 6))
		for range flips / 2 {
			at := rng.IntN(size)
			name := ""
			for _, name = range names {
				if at < len(whole[name]) {
					break
				}
				at -= len(whole[name])
			}
			b := []byte(whole[name])
			b[at] ^= 1 << rng.IntN(8)
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			err := readAllOf(t, dir)
			switch {
			case err == nil:
				t.Fatalf("%s: byte %d was changed in silence", name, at)
			case !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion):
				t.Errorf("%s: byte %d: %v", name, at, err)
			case !bytes.Contains([]byte(err.Error()), []byte(filepath.Base(name))):
				t.Errorf("%s: byte %d: the error names another file: %v", name, at, err)
			}
			if err := os.WriteFile(path, []byte(whole[name]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := readAllOf(t, dir); err != nil {
			t.Fatalf("restored: %v", err)
		}
	}
}

// readAllOf reads all of a data set and returns its error.
func readAllOf(tb testing.TB, dir string) error {
	d, err := Open(tb.Context(), Config{Paths: []string{dir}})
	if err != nil {
		return err
	}
	defer d.Close()
	for _, err := range pipeline.From[pipeline.Record](d).All(tb.Context()) {
		if err != nil {
			return err
		}
	}
	return nil
}

// A shard that is missing, cut short or another one is found when the data set
// is opened or the shard is read, by its name.
func TestPreparedFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	m, err := prepare(t, prepConfig(dir), preparedRows(200, pipeline.Raw{}), -1)
	if err != nil {
		t.Fatal(err)
	}
	last := m.Shards[len(m.Shards)-1]
	path := filepath.Join(dir, last.Path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"missing": nil, "empty": {}, "cut short": whole[:len(whole)-9], "longer": append(bytes.Clone(whole), 'x')} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if text != nil {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(t.Context(), Config{Paths: []string{dir}})
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(filepath.Base(last.Path))) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A fault in one row group leaves the others readable.
	spoilt := bytes.Clone(whole)
	spoilt[last.Groups[0].End+20] ^= 1
	if err := os.WriteFile(path, spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	d := open(t, Config{Paths: []string{dir}})
	bad := d.Len() - int(last.Rows) + int(last.Groups[0].Rows)
	recs := make([]pipeline.Record, 1)
	for id := range d.Len() {
		err := d.Read(t.Context(), []int64{int64(id)}, recs)
		inBad := id >= bad && id < bad+int(last.Groups[1].Rows)
		if (err != nil) != inBad {
			t.Fatalf("row %d: %v", id, err)
		}
		if at, ok := errors.AsType[*RowError](err); err != nil && (!ok || at.File != path || at.RowGroup != 1 || !errors.Is(err, ErrCorrupt)) {
			t.Fatalf("row %d: %v", id, err)
		}
	}
}
