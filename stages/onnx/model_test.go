//go:build (linux || darwin || windows) && (amd64 || arm64)

package onnx_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/stages/onnx"
)

const models = "../../testdata/onnx/"

var _ stages.Embedder = (*onnx.Embedder)(nil)

// library is the runtime to test with.
func library(t testing.TB) string {
	t.Helper()
	path := os.Getenv("TERCET_ONNXRUNTIME")
	if path == "" {
		t.Skip("TERCET_ONNXRUNTIME does not name the shared library of ONNX Runtime, or its folder")
	}
	return path
}

func open(t testing.TB, cfg onnx.Config) *onnx.Model {
	t.Helper()
	cfg.Model, cfg.Library = models+cfg.Model, library(t)
	m, err := onnx.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func embedder(t testing.TB, cfg onnx.Config, shape pipeline.Shape) *onnx.Embedder {
	t.Helper()
	e, err := open(t, cfg).Embedder(t.Context(), shape)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// images are n of them with values in [0, 1].
func images(n int, shape pipeline.Shape) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	pixels := make([]float32, n*shape.Len())
	for i := range pixels {
		pixels[i] = r.Float32()
	}
	return pixels
}

func embed(t testing.TB, e *onnx.Embedder, n int, pixels []float32) pipeline.Embeddings {
	t.Helper()
	dst := pipeline.MakeEmbeddings(n, e.Dim())
	if err := e.Embed(t.Context(), dst, pixels); err != nil {
		t.Fatal(err)
	}
	return dst
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 1e-5 {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// A model whose output is its input shows that every value arrives in its place.
func TestEmbedKeepsOrder(t *testing.T) {
	shape := pipeline.Shape{C: 1, H: 8, W: 1}
	e := embedder(t, onnx.Config{Model: "pooled.onnx", Workers: 3}, shape)
	if e.Dim() != 8 {
		t.Fatalf("Dim is %d, want 8: dimensions of length 1 do not count", e.Dim())
	}
	for _, n := range []int{0, 1, 31, 32, 33, 200} {
		pixels := images(n, shape)
		near(t, "identity", embed(t, e, n, pixels).Data, pixels)
	}
}

// The same weights behind another layout, and a batch of fixed size.
func TestLayoutsAndFixedBatches(t *testing.T) {
	shape := pipeline.Shape{C: 1, H: 20, W: 20}
	const n = 70
	pixels := images(n, shape)
	conv := embedder(t, onnx.Config{Model: "conv.onnx"}, shape)
	want := embed(t, conv, n, pixels)
	if want.Dim != 64 {
		t.Fatalf("Dim is %d, want 64", want.Dim)
	}
	nhwc := open(t, onnx.Config{Model: "nhwc.onnx"})
	if got := nhwc.Shape(); got != shape {
		t.Errorf("Shape of an NHWC model is %v, want %v", got, shape)
	}
	e, err := nhwc.Embedder(t.Context(), shape)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "NHWC", embed(t, e, n, pixels).Data, want.Data)

	colour := pipeline.Shape{C: 3, H: 20, W: 20}
	four := embedder(t, onnx.Config{Model: "batch4.onnx"}, colour)
	pixels = images(n, colour)
	all := embed(t, four, n, pixels)
	for _, part := range [][2]int{{0, 1}, {4, 7}, {60, 70}} {
		got := embed(t, four, part[1]-part[0], pixels[part[0]*colour.Len():part[1]*colour.Len()])
		near(t, "fixed batch", got.Data, all.Slice(part[0], part[1]).Data)
	}
}

func TestWorkersDecideNothing(t *testing.T) {
	shape := pipeline.Shape{C: 1, H: 28, W: 28}
	const n = 333
	pixels := images(n, shape)
	var want pipeline.Embeddings
	for _, workers := range []int{1, 2, 7} {
		e := embedder(t, onnx.Config{Model: "conv.onnx", Workers: workers}, shape)
		got := embed(t, e, n, pixels)
		if want.Data == nil {
			want = got
		}
		for i := range got.Data {
			if math.Float32bits(got.Data[i]) != math.Float32bits(want.Data[i]) {
				t.Fatalf("%d workers: value %d is %v, want %v", workers, i, got.Data[i], want.Data[i])
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	shape := pipeline.Shape{C: 1, H: 20, W: 20}
	seen := map[string]string{}
	for name, e := range map[string]*onnx.Embedder{
		"conv":       embedder(t, onnx.Config{Model: "conv.onnx"}, shape),
		"other file": embedder(t, onnx.Config{Model: "nhwc.onnx"}, shape),
		"other size": embedder(t, onnx.Config{Model: "conv.onnx"}, pipeline.Shape{C: 1, H: 28, W: 28}),
		"top":        embedder(t, onnx.Config{Model: "two.onnx", Output: "top"}, pipeline.Shape{C: 1, H: 2, W: 8}),
		"bottom":     embedder(t, onnx.Config{Model: "two.onnx", Output: "bottom"}, pipeline.Shape{C: 1, H: 2, W: 8}),
	} {
		if other, ok := seen[e.Fingerprint()]; ok {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[e.Fingerprint()] = name
	}
	again := embedder(t, onnx.Config{Model: "conv.onnx", Workers: 5}, shape)
	if seen[again.Fingerprint()] != "conv" {
		t.Error("the same model and size have two fingerprints")
	}
}

func TestRefusals(t *testing.T) {
	lib := library(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conv, err := os.ReadFile(models + "conv.onnx")
	if err != nil {
		t.Fatal(err)
	}
	settled := func(name, text string) string {
		path := write(name, string(conv))
		write(name+".json", text)
		return path
	}
	shape := pipeline.Shape{C: 1, H: 8, W: 8}
	for _, tt := range []struct {
		name  string
		cfg   onnx.Config
		shape pipeline.Shape
		want  []string
	}{
		{"no library", onnx.Config{Model: models + "conv.onnx", Library: dir}, shape, []string{"ONNX Runtime library", dir, "holds no"}},
		{"library is another file", onnx.Config{Model: models + "conv.onnx", Library: models + "conv.onnx"}, shape, []string{"ONNX Runtime library", "conv.onnx"}},
		{"no model", onnx.Config{Model: dir + "/none.onnx"}, shape, []string{"none.onnx"}},
		{"not a model", onnx.Config{Model: write("text.onnx", "hello, world")}, shape, []string{"text.onnx"}},
		{"an empty file", onnx.Config{Model: write("empty.onnx", "")}, shape, []string{"empty.onnx", "empty"}},
		{"half a model", onnx.Config{Model: write("half.onnx", string(conv[:len(conv)/2]))}, shape, []string{"half.onnx"}},
		{"no such input", onnx.Config{Model: models + "conv.onnx", Input: "pixels"}, shape, []string{"conv.onnx", `no input "pixels"`, `"image"`}},
		{"no such output", onnx.Config{Model: models + "conv.onnx", Output: "logits"}, shape, []string{`no output "logits"`, `"embedding"`}},
		{"two outputs", onnx.Config{Model: models + "two.onnx"}, shape, []string{"2 outputs", `"top"`, `"bottom"`, "name one"}},
		{"two inputs", onnx.Config{Model: models + "pair.onnx", Input: "image"}, shape, []string{"2 inputs"}},
		{"bytes", onnx.Config{Model: models + "bytes.onnx"}, shape, []string{`input "image" takes uint8, want float32`}},
		{"three dimensions", onnx.Config{Model: models + "rank3.onnx"}, shape, []string{"[-1 8 8]", "want 4"}},
		{"five channels", onnx.Config{Model: models + "planes5.onnx"}, shape, []string{"5 channels"}},
		{"another layout", onnx.Config{Model: models + "nhwc.onnx", Layout: "NCHW"}, shape, []string{"20 channels"}},
		{"no layout", onnx.Config{Model: models + "nhwc.onnx", Layout: "CHWN"}, shape, []string{"Config.Layout", "CHWN"}},
		{"another size", onnx.Config{Model: models + "nhwc.onnx"}, shape, []string{"nhwc.onnx", "[-1 20 20 1]", "height 8"}},
		{"colour", onnx.Config{Model: models + "conv.onnx"}, pipeline.Shape{C: 3, H: 8, W: 8}, []string{"conv.onnx", "channels 3"}},
		{"a map and no vector", onnx.Config{Model: models + "map.onnx"}, shape, []string{"map.onnx", "[1 1 8 8]", "one vector"}},
		{"a size it cannot work with", onnx.Config{Model: models + "eight.onnx"}, pipeline.Shape{C: 1, H: 5, W: 5}, []string{"eight.onnx", "run one image", "Add"}},
		{"settings that are no JSON", onnx.Config{Model: settled("a.onnx", "{")}, shape, []string{"a.onnx.json"}},
		{"settings with a typo", onnx.Config{Model: settled("b.onnx", `{"means": [0.5]}`)}, shape, []string{"b.onnx.json", "means"}},
		{"settings with half a size", onnx.Config{Model: settled("c.onnx", `{"height": 8}`)}, shape, []string{"c.onnx.json", "height and width"}},
		{"settings with one mean", onnx.Config{Model: settled("d.onnx", `{"mean": [0.5]}`)}, shape, []string{"d.onnx.json", "1 means"}},
		{"settings with a layout", onnx.Config{Model: settled("e.onnx", `{"layout": "WHC"}`)}, shape, []string{"e.onnx.json", "WHC"}},
		{"settings with another size", onnx.Config{Model: settled("f.onnx", `{"height": 9, "width": 9}`)}, shape, []string{"f.onnx", "height 8"}},
		{"settings with two values", onnx.Config{Model: settled("g.onnx", `{} {}`)}, shape, []string{"g.onnx.json"}},
	} {
		if tt.cfg.Library == "" {
			tt.cfg.Library = lib
		}
		m, err := onnx.Open(tt.cfg)
		if err == nil {
			_, err = m.Embedder(t.Context(), tt.shape)
			m.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error is %q, want it to say %q", tt.name, err, want)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	text, err := os.ReadFile(models + "two.onnx")
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path, text, 0o666)
	os.WriteFile(path+".json", []byte(`{"input": "image", "output": "bottom", "layout": "NCHW", "height": 2, "width": 8, "mean": [0.5], "std": [0.25]}`), 0o666)
	m, err := onnx.Open(onnx.Config{Model: path, Library: library(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if s := m.Settings(); s.Mean[0] != 0.5 || s.Std[0] != 0.25 {
		t.Errorf("settings are %+v", s)
	}
	shape := pipeline.Shape{C: 1, H: 2, W: 8}
	e, err := m.Embedder(t.Context(), shape)
	if err != nil {
		t.Fatal(err)
	}
	pixels := images(1, shape)
	near(t, "bottom", embed(t, e, 1, pixels).Data, pixels[8:])
}

func TestWrongBuffers(t *testing.T) {
	shape := pipeline.Shape{C: 1, H: 20, W: 20}
	e := embedder(t, onnx.Config{Model: "conv.onnx"}, shape)
	for _, dst := range []pipeline.Embeddings{pipeline.MakeEmbeddings(2, 64), pipeline.MakeEmbeddings(3, 63)} {
		if err := e.Embed(t.Context(), dst, images(3, shape)); err == nil || !strings.Contains(err.Error(), "rows of 64") {
			t.Errorf("rows of %d for 3 images: error is %v", dst.Dim, err)
		}
	}
}

// What is not finite is the builder's to name, with the row it comes from.
func TestInfinite(t *testing.T) {
	shape := pipeline.Shape{C: 1, H: 1, W: 8}
	e := embedder(t, onnx.Config{Model: "infinite.onnx"}, shape)
	got := embed(t, e, 1, make([]float32, 8))
	if !math.IsInf(float64(got.Data[0]), 1) {
		t.Errorf("1/0 is %v", got.Data[0])
	}
}

func TestMissingLibrary(t *testing.T) {
	_, err := onnx.Open(onnx.Config{Model: models + "conv.onnx", Library: filepath.Join(t.TempDir(), "libonnxruntime.so")})
	if !errors.Is(err, onnx.ErrLibrary) {
		t.Errorf("error is %v, want ErrLibrary", err)
	}
}

func BenchmarkEmbed(b *testing.B) {
	shape := pipeline.Shape{C: 1, H: 28, W: 28}
	const n = 2048
	pixels := images(n, shape)
	e := embedder(b, onnx.Config{Model: "conv.onnx"}, shape)
	dst := pipeline.MakeEmbeddings(n, e.Dim())
	for b.Loop() {
		if err := e.Embed(b.Context(), dst, pixels); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "images/s")
}
