package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// The gradient of Σ g·z by every weight is what a small change of it does.
func TestNetGradient(t *testing.T) {
	const rows, in, hidden, out = 5, 7, 6, 3
	dice := rand.New(rand.NewPCG(3, 4))
	n := newNet(in, hidden, out, 1)
	x, g := make([]float32, rows*in), pipeline.MakeEmbeddings(rows, out)
	for _, data := range [][]float32{x, g.Data, n.params[hidden*in : hidden*in+hidden]} {
		for i := range data {
			data[i] = float32(dice.NormFloat64())
		}
	}
	value := func() (sum float64) {
		z := pipeline.MakeEmbeddings(rows, out)
		if err := n.Embed(t.Context(), z, x); err != nil {
			t.Fatal(err)
		}
		for i, v := range z.Data {
			sum += float64(v) * float64(g.Data[i])
		}
		return sum
	}
	value()
	n.backward(g, x)
	for i, got := range n.grad {
		const step = 1.0 / 256
		keep := n.params[i]
		n.params[i] = keep + step
		up := value()
		n.params[i] = keep - step
		down := value()
		n.params[i] = keep
		want := (up - down) / (2 * step)
		if math.Abs(float64(got)-want) > 2e-3*max(1, math.Abs(want)) {
			t.Errorf("gradient of weight %d is %v, want about %v", i, got, want)
		}
	}
}

// Adam's first step has the length of the rate in every direction.
func TestNetStep(t *testing.T) {
	n := newNet(2, 2, 1, 1)
	n.grad = make([]float32, len(n.params))
	n.grad[0], n.grad[1] = 5, -0.01
	before := append([]float32(nil), n.params...)
	n.step(0.125)
	for i, want := range []float32{before[0] - 0.125, before[1] + 0.125, before[2]} {
		if math.Abs(float64(n.params[i]-want)) > 1e-5 {
			t.Errorf("weight %d is %v, want %v", i, n.params[i], want)
		}
	}
}

func TestNetFreezes(t *testing.T) {
	n := newNet(2, 2, 1, 1)
	frozen, err := n.Freeze()
	if err != nil || frozen.Fingerprint() != n.Fingerprint() {
		t.Fatalf("a frozen net is another one: %v", err)
	}
	n.params[0]++ // it learns
	if frozen.Fingerprint() == n.Fingerprint() {
		t.Error("a frozen net goes on learning")
	}
}

// compareGlyphs runs a short comparison on the glyphs.
func compareGlyphs(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"compare", data + "glyphs", "--steps", "60", "--shift", "0", "--seeds", "2", "--size", "16x16", "--hidden", "48", "--dim", "16"}, args...)
	code, stdout, stderr := tercet(t, args...)
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	return stdout
}

func TestCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for some seconds")
	}
	plot := filepath.Join(t.TempDir(), "curves.svg")
	text := compareGlyphs(t, "--json", "--plot", plot)
	var res comparisonResult
	if err := json.Unmarshal([]byte(text), &res); err != nil {
		t.Fatal(err)
	}
	if len(res.Rules) != 2 || res.Rules[0].Rule != "random" || res.Rules[1].Rule != "semi-hard" || res.Held == 0 || res.Held >= res.Images {
		t.Fatalf("result is %+v", res)
	}
	for _, r := range res.Rules {
		if len(r.Recalls) != 2 || r.Mean < res.Start+0.05 {
			t.Errorf("%s: recall@1 went from %.3f to %.3f by the seeds %.3f", r.Rule, res.Start, r.Mean, r.Recalls)
		}
		if r.Rows == 0 || r.Active <= 0 || r.Active > 1 {
			t.Errorf("%s: %d triplets, of which %v have a loss", r.Rule, r.Rows, r.Active)
		}
	}
	picture, err := os.ReadFile(plot)
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for dec := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
		if el, ok := token.(xml.StartElement); ok && el.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != 2 || bytes.Contains(picture, []byte("NaN")) {
		t.Errorf("the plot has %d curves, want 2 of numbers", lines)
	}
}

// The table is a function of data, settings and seeds.
func TestCompareIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for some seconds")
	}
	want := compareGlyphs(t, "--scope", "batch", "--rules", "semi-hard,batch-hard")
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if got := compareGlyphs(t, "--scope", "batch", "--rules", "semi-hard,batch-hard", "--workers", "3"); got != want {
		t.Errorf("on one core:\n%s\non several:\n%s", got, want)
	}
	for _, part := range []string{"batch-hard − semi-hard", "of 2 seeds", "semi-hard", "batch-hard", "mean ± std", "before training"} {
		if !strings.Contains(want, part) {
			t.Errorf("the table does not say %q:\n%s", part, want)
		}
	}
}

func TestCompareFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--rules", "best"}, "--rules"},
		{[]string{"--steps", "0"}, "--steps is 0"},
		{[]string{"--seeds", "0"}, "--seeds is 0"},
		{[]string{"--hold-out", "1"}, "--hold-out is 1"},
		{[]string{"--margin", "0"}, "--margin is 0"},
		{[]string{"--margin", "NaN"}, "--margin is NaN"},
		{[]string{"--rate", "2"}, "--rate is 2"},
		{[]string{"--scope", "world"}, "--scope"},
		{[]string{"--size", "4000x4000x3"}, "--memory"},
		{[]string{"--p", "200"}, "--p"},
	} {
		code, _, stderr := tercet(t, append([]string{"compare", data + "glyphs"}, tt.args...)...)
		if code != exitUsage || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: exit code %d, message %q: want it to say %q", tt.args, code, stderr, tt.want)
		}
	}
}

// Images that are moved keep what is in them, and are not moved at random twice.
func TestCompareShifts(t *testing.T) {
	c := &comparison{compareFlags: &compareFlags{shift: 1}, shape: pipeline.Shape{C: 1, H: 3, W: 3}, in: 9, pixels: []float32{0, 0, 0, 0, 1, 0, 0, 0, 0}}
	ids := make([]int64, 200)
	x := c.shifted(nil, ids, rand.New(rand.NewPCG(1, 2)))
	var seen [9]int
	for i := range ids {
		img := x[9*i : 9*i+9]
		at := -1
		for k, v := range img {
			if v == 1 && at >= 0 || v != 0 && v != 1 {
				t.Fatalf("the image is %v: one point came to it", img)
			} else if v == 1 {
				at = k
			}
		}
		if at < 0 {
			t.Fatalf("the image is %v: its point has left it", img)
		}
		seen[at]++
	}
	for at, n := range seen {
		if n == 0 {
			t.Errorf("in %d images the point was never moved to place %d", len(ids), at)
		}
	}
	if again := c.shifted(nil, ids, rand.New(rand.NewPCG(1, 2))); !slices.Equal(again, x) {
		t.Error("the same seed moves images otherwise")
	}
}
