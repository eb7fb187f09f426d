package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/tercet-ml/tercet/pipeline"
)

func randomEmbeddings(rows, dim int) pipeline.Embeddings {
	r := rand.New(rand.NewPCG(uint64(rows), uint64(dim)))
	emb := pipeline.MakeEmbeddings(rows, dim)
	for i := range emb.Data {
		emb.Data[i] = float32(r.NormFloat64())
	}
	return emb
}

var testSnapshot = SnapshotMeta{DataDigest: "d1", Embedder: "pca", Fingerprint: "f00d", Preprocessing: "resize", ImageSize: "16x16x1", Normalised: true, Generation: 3, Fit: []byte{1, 2, 255}}

func TestSnapshotRoundTrip(t *testing.T) {
	for _, tt := range []struct{ rows, dim int }{{0, 4}, {1, 1}, {100, 64}, {2001, 512}} {
		t.Run(fmt.Sprintf("%dx%d", tt.rows, tt.dim), func(t *testing.T) {
			defer func(most int) { snapshotValues = most }(snapshotValues)
			if tt.rows == 2001 {
				snapshotValues = 1000 * tt.dim // three record batches
			}
			emb := randomEmbeddings(tt.rows, tt.dim)
			path := filepath.Join(t.TempDir(), "s.arrow")
			wrote, err := WriteSnapshot(path, testSnapshot, emb, false)
			if err != nil {
				t.Fatal(err)
			}
			meta, got, err := ReadSnapshot(path, wrote)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(meta) != fmt.Sprint(wrote) || meta.Rows != int64(tt.rows) || meta.Dim != tt.dim || !bytes.Equal(meta.Fit, testSnapshot.Fit) {
				t.Errorf("metadata is %v, want %v", meta, wrote)
			}
			if got.Dim != emb.Dim || !slices.Equal(got.Data, emb.Data) {
				t.Error("rows differ after a round trip")
			}
			first := readFile(t, path)
			if _, err := WriteSnapshot(path, testSnapshot, emb, false); !errors.Is(err, ErrExists) {
				t.Errorf("without overwrite: %v, want ErrExists", err)
			}
			if _, err := WriteSnapshot(path, testSnapshot, emb, true); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first, readFile(t, path)) {
				t.Error("written twice, the bytes differ")
			}
		})
	}
}

func TestSnapshotMismatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.arrow")
	wrote, err := WriteSnapshot(path, testSnapshot, randomEmbeddings(10, 4), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		field string
		edit  func(*SnapshotMeta)
	}{
		{"data_digest", func(m *SnapshotMeta) { m.DataDigest = "d2" }},
		{"embedder", func(m *SnapshotMeta) { m.Embedder = "column" }},
		{"embedder_fingerprint", func(m *SnapshotMeta) { m.Fingerprint = "beef" }},
		{"preprocessing", func(m *SnapshotMeta) { m.Preprocessing = "crop" }},
		{"image_size", func(m *SnapshotMeta) { m.ImageSize = "8x8x1" }},
		{"dtype", func(m *SnapshotMeta) { m.DType = "float16" }},
		{"normalised", func(m *SnapshotMeta) { m.Normalised = false }},
		{"dim", func(m *SnapshotMeta) { m.Dim = 5 }},
		{"rows", func(m *SnapshotMeta) { m.Rows = 11 }},
		{"generation", func(m *SnapshotMeta) { m.Generation = 4 }},
		{"sha256", func(m *SnapshotMeta) { m.Digest = "00" }},
	} {
		want := wrote
		tt.edit(&want)
		_, _, err := ReadSnapshot(path, want)
		if m, ok := errors.AsType[*MismatchError](err); !ok || m.Field != tt.field || m.File != path {
			t.Errorf("%v, want a MismatchError of %s", err, tt.field)
		}
	}
	if _, _, err := ReadSnapshot(path, SnapshotMeta{}); err != nil {
		t.Errorf("nothing expected: %v", err)
	}
	writeFile(t, path, bytes.Replace(readFile(t, path), []byte(`"format_version":1`), []byte(`"format_version":9`), 2))
	if _, _, err := ReadSnapshot(path, SnapshotMeta{}); !errors.Is(err, ErrVersion) {
		t.Errorf("another format: %v, want ErrVersion", err)
	}
}

// The rows of a snapshot are those in its file, and no copy.
func TestSnapshotIsMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.arrow")
	emb := randomEmbeddings(300, 7)
	if _, err := WriteSnapshot(path, testSnapshot, emb, false); err != nil {
		t.Fatal(err)
	}
	m, err := MapSnapshot(path, SnapshotMeta{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !slices.Equal(m.Rows.Data, emb.Data) {
		t.Error("other rows")
	}
	at := uintptr(unsafe.Pointer(&m.Rows.Data[0])) - uintptr(unsafe.Pointer(&m.file.src.data[0]))
	if at >= uintptr(len(m.file.src.data)) {
		t.Error("the rows are a copy")
	}
}

func TestSnapshotRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		emb := randomEmbeddings(10, 4)
		emb.Data[4*7+2] = float32(bad)
		_, err := WriteSnapshot(filepath.Join(dir, "s.arrow"), testSnapshot, emb, false)
		if err == nil || !strings.Contains(err.Error(), "sample 7") {
			t.Errorf("%v: %v, want an error that names sample 7", bad, err)
		}
	}
	if names := listDir(t, dir); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestSnapshotDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.arrow")
	emb := randomEmbeddings(20, 3)
	wrote, err := WriteSnapshot(path, testSnapshot, emb, false)
	if err != nil {
		t.Fatal(err)
	}
	good := readFile(t, path)
	bad := filepath.Join(t.TempDir(), "bad.arrow")
	read := func(b []byte) (SnapshotMeta, pipeline.Embeddings, error) {
		if err := os.WriteFile(bad, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return ReadSnapshot(bad, SnapshotMeta{})
	}
	for n := 0; n < len(good); n += 3 {
		if _, _, err := read(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("first %d of %d bytes: %v, want ErrCorrupt", n, len(good), err)
		}
	}
	for bit := 0; bit < 8*len(good); bit += 7 {
		b := slices.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		meta, got, err := read(b)
		if err == nil && (fmt.Sprint(meta) != fmt.Sprint(wrote) || !slices.Equal(got.Data, emb.Data)) {
			t.Fatalf("bit %d: silently other data", bit)
		}
	}
}
