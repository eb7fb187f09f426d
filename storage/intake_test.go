package storage

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// put writes files below a folder, by their paths.
func put(tb testing.TB, dir string, files map[string]string) string {
	tb.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func zipped(tb testing.TB, files map[string]string) string {
	tb.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// tarred is a tar of members: name, text, name, text…
func tarred(tb testing.TB, members ...string) string {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(members); i += 2 {
		err := w.WriteHeader(&tar.Header{Name: members[i], Mode: 0o644, Size: int64(len(members[i+1]))})
		if err == nil {
			_, err = w.Write([]byte(members[i+1]))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// idx is an IDX file of bytes.
func idx(values string, dims ...uint32) string {
	b := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return string(b) + values
}

// told are the rows of an intake, as "class path group image".
func told(tb testing.TB, in *Intake, from int64) []string {
	tb.Helper()
	var rows []string
	for rec, err := range pipeline.From(in.From(from)).All(tb.Context()) {
		if err != nil {
			tb.Fatal(err)
		}
		class := "?"
		if rec.Label >= 0 {
			class = in.Classes()[rec.Label]
		}
		if want := from + int64(len(rows)); rec.ID != want {
			tb.Errorf("row %d comes as %d", want, rec.ID)
		}
		rows = append(rows, strings.TrimSpace(fmt.Sprintf("%s %s %s %q", class, rec.Path, in.Group(rec.ID), rec.Image)))
	}
	return rows
}

func TestIntake(t *testing.T) {
	animals := map[string]string{"cat/1.png": "c1", "cat/2.JPG": "c2", "dog/1.png": "d1", "dog/notes.txt": "x", ".hidden/3.png": "h"}
	nested := map[string]string{"train/a/x/1.png": "ax", "train/b/x/1.png": "bx", "test/a/x/9.png": "t"}
	samples := []string{"d/1.png", "i1", "d/1.cls", "7", "d/2.json", `{"label":"10","group":"g"}`, "d/2.jpg", "i2", "d/3.cls", "-1", "d/3.webp", "i3", "d/3.txt", "caption"}
	for _, tt := range []struct {
		name  string
		files map[string]string
		path  []string
		cfg   IntakeConfig
		want  []string
		names []string
	}{
		{"folder", animals, []string{"."}, IntakeConfig{},
			[]string{`cat cat/1.png  "c1"`, `cat cat/2.JPG  "c2"`, `dog dog/1.png  "d1"`}, []string{"cat", "dog"}},
		{"zip of a folder with one around it", map[string]string{"a.zip": zipped(t, map[string]string{"all/g/x/1.png": "1", "all/h/x/1.png": "2", "__MACOSX/all/1.png": "m"})}, []string{"a.zip"}, IntakeConfig{},
			[]string{`g/x all/g/x/1.png  "1"`, `h/x all/h/x/1.png  "2"`}, []string{"g/x", "h/x"}},
		{"a split of folders", nested, []string{"."}, IntakeConfig{Config: Config{Split: "train"}},
			[]string{`a/x train/a/x/1.png  "ax"`, `b/x train/b/x/1.png  "bx"`}, []string{"a/x", "b/x"}},
		{"one level of two", nested, []string{"train"}, IntakeConfig{ClassLevels: 1},
			[]string{`a a/x/1.png  "ax"`, `b b/x/1.png  "bx"`}, []string{"a", "b"}},
		{"idx", map[string]string{"t10k-images-idx3-ubyte": idx("abcdefgh", 2, 2, 2), "t10k-labels-idx1-ubyte.gz": gzipped(idx("\x0a\x02", 2))}, []string{"t10k-images-idx3-ubyte"}, IntakeConfig{},
			[]string{`10 0  "abcd"`, `2 1  "efgh"`}, []string{"2", "10"}},
		{"a folder of idx, named with its labels", map[string]string{"train-images.idx3-ubyte.gz": gzipped(idx("abcd", 1, 2, 2)), "train-labels.idx1-ubyte.gz": gzipped(idx("\x01", 1))},
			[]string{"train-labels.idx1-ubyte.gz", "train-images.idx3-ubyte.gz"}, IntakeConfig{}, []string{`1 0  "abcd"`}, []string{"1"}},
		{"tar", map[string]string{"s.tar": tarred(t, samples...)}, []string{"s.tar"}, IntakeConfig{},
			[]string{`7 d/1.png  "i1"`, `10 d/2.jpg g "i2"`, `? d/3.webp  "i3"`}, []string{"7", "10"}},
		{"tgz", map[string]string{"s.tgz": gzipped(tarred(t, samples...))}, []string{"s.tgz"}, IntakeConfig{},
			[]string{`7 d/1.png  "i1"`, `10 d/2.jpg g "i2"`, `? d/3.webp  "i3"`}, []string{"7", "10"}},
		{"csv", map[string]string{"l.csv": "\ufeffpath,label,group,split\nx/1.png,b,\"g,1\",train\nx/2.png,,,train\nx/3.png,c,,test\n", "x/1.png": "1", "x/2.png": "2"}, []string{"l.csv"}, IntakeConfig{Config: Config{Split: "training"}},
			[]string{`b x/1.png g,1 "1"`, `? x/2.png  "2"`}, []string{"b"}},
		{"jsonl", map[string]string{"l.jsonl": `{"file_name":"1.png","label":3}` + "\n\n" + `{"file_name":"2.png","label":-1,"group":5,"more":[1]}` + "\n", "1.png": "1", "2.png": "2"}, []string{"l.jsonl"}, IntakeConfig{},
			[]string{`3 1.png  "1"`, `? 2.png 5 "2"`}, []string{"3"}},
		{"several", map[string]string{"f/cat/1.png": "c", "f/ant/1.png": "a", "z.csv": "path,label\nf/cat/1.png,bee\n"}, []string{"f", "z.csv"}, IntakeConfig{},
			[]string{`ant ant/1.png  "a"`, `cat cat/1.png  "c"`, `bee f/cat/1.png  "c"`}, []string{"ant", "bee", "cat"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := put(t, t.TempDir(), tt.files)
			open := func() *Intake {
				cfg := tt.cfg
				for _, p := range tt.path {
					cfg.Paths = append(cfg.Paths, filepath.Join(dir, p))
				}
				in, err := OpenIntake(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { in.Close() })
				return in
			}
			in := open()
			for from := range len(tt.want) + 1 {
				if got := told(t, in, int64(from)); !slices.Equal(got, tt.want[from:]) {
					t.Errorf("from %d: read %q, want %q", from, got, tt.want[from:])
				}
			}
			if !slices.Equal(in.Classes(), tt.names) {
				t.Errorf("classes %q, want %q", in.Classes(), tt.names)
			}
			if again := open(); again.Digest() != in.Digest() {
				t.Error("another digest for the same data")
			}
		})
	}
}

// Class names that a source declares keep their order when all sources agree,
// also those that have no rows.
func TestIntakeTables(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, cfg RecordWriterConfig, labels ...int32) string {
		var rows []Row
		for i, l := range labels {
			rows = append(rows, Row{Record: pipeline.Record{Label: l, Path: fmt.Sprint(i), Image: []byte{byte(i)}}, Group: []string{"", "g", "h"}[i%3]})
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, writeRows(t, cfg, rows), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	names := []string{"z", "none", "a"}
	a := write("a.parquet", RecordWriterConfig{Classes: names, GroupColumn: "group", GroupRows: 2}, 0, 2, -1, 0, 2)
	b := write("b.arrow", RecordWriterConfig{Format: FormatArrow, Classes: names}, 2)
	c := write("c.parquet", RecordWriterConfig{Label: LabelString, Classes: names}, 0, 2)
	d := write("d.parquet", RecordWriterConfig{}, 11, 2)
	for _, tt := range []struct {
		paths []string
		names []string
		want  string
	}{
		{[]string{a}, names, `z 0  "\x00"|a 1 g "\x01"|? 2 h "\x02"|z 3  "\x03"|a 4 g "\x04"`},
		{[]string{a, b}, names, `z 0  "\x00"|a 1 g "\x01"|? 2 h "\x02"|z 3  "\x03"|a 4 g "\x04"|a 0  "\x00"`},
		{[]string{b, c}, []string{"a", "none", "z"}, `a 0  "\x00"|z 0  "\x00"|a 1  "\x01"`},
		{[]string{d}, []string{"2", "11"}, `11 0  "\x00"|2 1  "\x01"`},
	} {
		in, err := OpenIntake(t.Context(), IntakeConfig{Config: Config{Paths: tt.paths}})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		want := strings.Split(tt.want, "|")
		for from := range want {
			if got := told(t, in, int64(from)); !slices.Equal(got, want[from:]) {
				t.Errorf("%v from %d: %q, want %q", tt.paths, from, got, want[from:])
			}
		}
		if !slices.Equal(in.Classes(), tt.names) {
			t.Errorf("%v: classes %q, want %q", tt.paths, in.Classes(), tt.names)
		}
	}
}

func TestIntakeErrors(t *testing.T) {
	good := idx("abcd", 1, 2, 2)
	for _, tt := range []struct {
		name  string
		files map[string]string
		path  string
		want  error
		says  []string
	}{
		{"nothing there", nil, "nosuch", ErrNoData, []string{"nosuch"}},
		{"empty folder", map[string]string{"d/.keep": ""}, "d", ErrNoData, []string{"no images"}},
		{"other ending", map[string]string{"x.bmp": "BM"}, "x.bmp", ErrUnsupported, []string{"x.bmp", "CSV"}},
		{"one image", map[string]string{"x.png": "p"}, "x.png", ErrUnsupported, []string{"no class"}},
		{"an image in no folder", map[string]string{"d/x.png": "p", "d/a/x.png": "p"}, "d", ErrUnsupported, []string{"x.png"}},
		{"other depths", map[string]string{"d/a/x.png": "p", "d/b/c/x.png": "p"}, "d", ErrUnsupported, []string{"b/c/x.png", "2 folders deep"}},
		{"too deep", map[string]string{"d/a/b/c/x.png": "p", "d/b/b/c/x.png": "p"}, "d", ErrUnsupported, []string{"3 folders deep"}},
		{"two kinds", map[string]string{"d/a/x.png": "p", "d/x.parquet": "p"}, "d", ErrUnsupported, []string{"x.png", "x.parquet"}},
		{"splits", map[string]string{"d/train/a/x.png": "p", "d/val/a/x.png": "p"}, "d", nil, []string{"train, validation"}},
		{"no labels", map[string]string{"i-images-idx3-ubyte": good}, "i-images-idx3-ubyte", ErrNoData, []string{"labels-idx1"}},
		{"labels of other length", map[string]string{"i-images-idx3-ubyte": good, "i-labels-idx1-ubyte": idx("\x01\x02", 2)}, "i-images-idx3-ubyte", ErrCorrupt, []string{"2 labels for the 1 images"}},
		{"labels alone", map[string]string{"i-labels-idx1-ubyte": idx("\x01\x02", 2)}, "i-labels-idx1-ubyte", ErrUnsupported, []string{"name the images"}},
		{"idx of other type", map[string]string{"i-images-idx3-ubyte": "\x00\x00\x0d\x03"}, "i-images-idx3-ubyte", ErrUnsupported, []string{"0x0d"}},
		{"idx that promises more", map[string]string{"i-images-idx3-ubyte": idx("abcd", 1<<31, 1<<15, 2)}, "i-images-idx3-ubyte", ErrCorrupt, []string{"in a file of"}},
		{"idx bomb", map[string]string{"i-images-idx3-ubyte.gz": gzipped(idx("abcd", 1<<20, 1<<10, 1<<10))}, "i-images-idx3-ubyte.gz", ErrCorrupt, []string{"in a file of"}},
		{"gzip cut short", map[string]string{"i-images-idx3-ubyte.gz": gzipped(good)[:15]}, "i-images-idx3-ubyte.gz", ErrCorrupt, nil},
		{"members apart", map[string]string{"s.tar": tarred(t, "a.png", "1", "b.png", "2", "b.cls", "0", "a.cls", "0")}, "s.tar", ErrCorrupt, []string{`"a"`, "no label"}},
		{"sample twice", map[string]string{"s.tar": tarred(t, "a.png", "1", "a.cls", "0", "b.png", "2", "b.cls", "0", "a.png", "1", "a.cls", "0")}, "s.tar", ErrCorrupt, []string{`"a"`, "side by side"}},
		{"two images", map[string]string{"s.tar": tarred(t, "a.png", "1", "a.jpg", "1", "a.cls", "0")}, "s.tar", ErrCorrupt, []string{"two images"}},
		{"label of no image", map[string]string{"s.tar": tarred(t, "a.cls", "0")}, "s.tar", ErrCorrupt, []string{"no image"}},
		{"two labels", map[string]string{"s.tar": tarred(t, "a.png", "1", "a.cls", "0", "a.json", `{"label":1}`)}, "s.tar", ErrValue, []string{"for one sample"}},
		{"label of a list", map[string]string{"s.tar": tarred(t, "a.png", "1", "a.json", `{"label":[1]}`)}, "s.tar", ErrValue, []string{"string or an integer"}},
		{"tar cut short", map[string]string{"s.tar": tarred(t, "a.png", "1", "a.cls", "0")[:1100]}, "s.tar", ErrCorrupt, nil},
		{"not a zip", map[string]string{"s.zip": "PK?"}, "s.zip", ErrCorrupt, nil},
		{"empty zip", map[string]string{"s.zip": zipped(t, nil)}, "s.zip", ErrNoData, nil},
		{"csv without names", map[string]string{"l.csv": "x/1.png,3\n"}, "l.csv", ErrSchema, []string{"line 1", "path and label"}},
		{"csv of other length", map[string]string{"l.csv": "path,label\nx,1\ny\n"}, "l.csv", ErrCorrupt, []string{"line 3"}},
		{"csv that leads out", map[string]string{"l.csv": "path,label\n../x.png,1\n"}, "l.csv", ErrUnsupported, []string{"line 2", "../x.png"}},
		{"csv with an absolute path", map[string]string{"l.csv": "path,label\n/etc/passwd,1\n"}, "l.csv", ErrUnsupported, []string{"line 2"}},
		{"csv without rows", map[string]string{"l.csv": "path,label\n"}, "l.csv", ErrNoData, nil},
		{"json of another form", map[string]string{"l.jsonl": `{"path":"x","label":1}` + "\n[1]\n"}, "l.jsonl", ErrCorrupt, []string{"line 2"}},
		{"json without label", map[string]string{"l.jsonl": `{"path":"x"}` + "\n"}, "l.jsonl", ErrSchema, []string{"line 1"}},
		{"negative label", map[string]string{"l.jsonl": `{"path":"x","label":-2}` + "\n"}, "l.jsonl", ErrValue, []string{"line 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := put(t, t.TempDir(), tt.files)
			_, err := OpenIntake(t.Context(), IntakeConfig{Config: Config{Paths: []string{filepath.Join(dir, tt.path)}}})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("%v, want one that wraps %v", err, tt.want)
			}
			for _, text := range append(tt.says, filepath.Base(tt.path)) {
				if !strings.Contains(err.Error(), text) && tt.name != "splits" {
					t.Errorf("%q does not say %q", err, text)
				}
			}
		})
	}
}

// What goes wrong after the labels were read is an error too.
func TestIntakeReadErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		path  string
		spoil func(dir string) error
		want  error
	}{
		{"a file that is gone", map[string]string{"l.csv": "path,label\nx.png,1\n"}, "l.csv", nil, fs.ErrNotExist},
		{"a link that leads out", map[string]string{"in/l.csv": "path,label\nx.png,1\n", "x.png": "p"}, "in/l.csv",
			func(dir string) error { return os.Symlink("../x.png", filepath.Join(dir, "in/x.png")) }, nil},
		{"a shorter tar", map[string]string{"s.tar": tarred(t, "a.png", "1", "a.cls", "0", "b.png", "1", "b.cls", "0")}, "s.tar",
			func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "s.tar"), []byte(tarred(t, "a.png", "1", "a.cls", "0")), 0o644)
			}, ErrCorrupt},
		{"images that end early", map[string]string{"i-images-idx3-ubyte.gz": gzipped(idx("abc", 1, 2, 2)), "i-labels-idx1-ubyte": idx("\x01", 1)}, "i-images-idx3-ubyte.gz", nil, ErrCorrupt},
		{"images that go on", map[string]string{"i-images-idx3-ubyte.gz": gzipped(idx("abcde", 1, 2, 2)), "i-labels-idx1-ubyte": idx("\x01", 1)}, "i-images-idx3-ubyte.gz", nil, ErrCorrupt},
	} {
		dir := put(t, t.TempDir(), tt.files)
		in, err := OpenIntake(t.Context(), IntakeConfig{Config: Config{Paths: []string{filepath.Join(dir, tt.path)}}})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		defer in.Close()
		if tt.spoil != nil {
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range pipeline.From(in.From(0)).All(t.Context()) {
			err = e
		}
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want one that wraps %v", tt.name, err, tt.want)
		}
	}
}
