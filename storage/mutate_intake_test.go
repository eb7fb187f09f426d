package storage

import (
	"path/filepath"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// intakeFiles are good sources of every kind, and what else has to lie beside
// the one that is damaged.
func intakeFiles(t testing.TB) map[string]map[string]string {
	samples := tarred(t, "d/1.png", "image 1", "d/1.cls", "7", "d/2.json", `{"label":"10","group":"g"}`, "d/2.jpg", "image 2")
	labels := idx("\x01\x02\x03", 3)
	return map[string]map[string]string{
		"t10k-images-idx3-ubyte":    {"t10k-images-idx3-ubyte": idx("abcdefghijkl", 3, 2, 2), "t10k-labels-idx1-ubyte": labels},
		"t10k-images-idx3-ubyte.gz": {"t10k-images-idx3-ubyte.gz": gzipped(idx("abcdefghijkl", 3, 2, 2)), "t10k-labels-idx1-ubyte": labels},
		"s.tar":                     {"s.tar": samples},
		"s.tgz":                     {"s.tgz": gzipped(samples)},
		"a.zip":                     {"a.zip": zipped(t, map[string]string{"all/g/1.png": "image 1", "all/h/2.png": "image 2"})},
		"l.csv":                     {"l.csv": "path,label,group\na.png,x,g\nb.png,y,\n", "a.png": "a", "b.png": "b"},
		"l.jsonl":                   {"l.jsonl": `{"path":"a.png","label":3}` + "\n" + `{"path":"b.png","label":4}` + "\n", "a.png": "a", "b.png": "b"},
	}
}

// takeIn reads all of a source.
func takeIn(t testing.TB, path string) error {
	in, err := OpenIntake(t.Context(), IntakeConfig{Config: Config{Paths: []string{path}, Memory: 1 << 20}})
	if err != nil {
		return err
	}
	defer in.Close()
	for _, err := range pipeline.From(in.From(0)).All(t.Context()) {
		if err != nil {
			return err
		}
	}
	return nil
}

// Damaged and forged sources of a prep job do no harm.
func TestIntakeMutations(t *testing.T) {
	for name, files := range intakeFiles(t) {
		dir := put(t, t.TempDir(), files)
		if err := takeIn(t, filepath.Join(dir, name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mutations(t, dir, name, false, []byte(files[name]), func(path string) error { return takeIn(t, path) })
	}
}

// FuzzIntake: any bytes are a source, or an error that names it.
func FuzzIntake(f *testing.F) {
	all := intakeFiles(f)
	names := []string{"t10k-images-idx3-ubyte", "s.tar", "a.zip", "l.csv", "l.jsonl"}
	for i, name := range names {
		f.Add(uint8(i), []byte(all[name][name]))
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		name := names[int(kind)%len(names)]
		path := filepath.Join(put(t, t.TempDir(), all[name]), name)
		writeFile(t, path, b)
		harmless(t, name, path, false, func() error { return takeIn(t, path) })
	})
}
