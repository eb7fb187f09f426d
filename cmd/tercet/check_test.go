package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

const shared = "../../../shared/data/"

// What is mined with the defaults is checked triplet by triplet, from the
// embeddings and the labels alone: on the glyphs, and on MNIST, Omniglot and
// sign language photographs where they are at hand.
func TestMinedTripletsAreSemiHard(t *testing.T) {
	for _, set := range []string{
		data + "glyphs", shared + "mnist-t10k/parquet", shared + "omniglot-small1/parquet", shared + "sign-digits/parquet",
	} {
		t.Run(filepath.Base(filepath.Dir(set))+"/"+filepath.Base(set), func(t *testing.T) {
			if _, err := os.Stat(set); err != nil {
				t.Skipf("no data here: %v", err)
			}
			if set != data+"glyphs" && (testing.Short() || raceEnabled) {
				t.Skip("mines thousands of images")
			}
			dir := t.TempDir()
			out, emb := filepath.Join(dir, "t.parquet"), filepath.Join(dir, "emb.arrow")
			if code, _, stderr := tercet(t, "mine", set, "-o", out, "--save-embeddings", emb); code != exitDone {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			checkSemiHard(t, set, out, emb)
		})
	}
}

func checkSemiHard(t *testing.T, set, out, emb string) {
	const margin = 0.2
	ctx := t.Context()
	d, err := storage.Open(ctx, storage.Config{Paths: []string{set}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, rows, err := storage.ReadSnapshot(emb, storage.SnapshotMeta{DataDigest: d.Digest(), Normalised: true})
	if err != nil {
		t.Fatal(err)
	}
	distance := func(i, j int64) float64 {
		sum := 0.0
		x, y := rows.Row(int(i)), rows.Row(int(j))
		for k := range x {
			diff := float64(x[k]) - float64(y[k])
			sum += float64(diff * diff)
		}
		return sum
	}
	file, err := storage.OpenTriplets(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type pair struct{ a, p int64 }
	pairs, positives := map[pair]int{}, map[int64]int{}
	labels, wrong, n := d.Labels(), 0, 0
	for m, err := range pipeline.From[pipeline.MinedTriplet](file).All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		ap, an := distance(m.Anchor, m.Positive), distance(m.Anchor, m.Negative)
		of := pair{m.Anchor, m.Positive}
		if pairs[of]++; pairs[of] == 1 {
			positives[m.Anchor]++
		}
		a := labels[m.Anchor]
		if m.Anchor == m.Positive || a < 0 || labels[m.Positive] != a || labels[m.Negative] == a || labels[m.Negative] < 0 ||
			m.AnchorLabel != a || m.PositiveLabel != a || m.NegativeLabel != labels[m.Negative] ||
			!(ap < an && an < ap+margin) || m.Kind != pipeline.SemiHard ||
			m.AP != float32(ap) || m.AN != float32(an) || m.Loss != float32(math.Max(0, ap+margin-an)) ||
			pairs[of] > 1 || positives[m.Anchor] > 4 {
			if wrong++; wrong <= 5 {
				t.Errorf("%+v: d_ap %v, d_an %v", m, ap, an)
			}
		}
	}
	if n == 0 || int64(n) != file.Len() {
		t.Errorf("%d triplets read, %d in the file", n, file.Len())
	}
	t.Logf("%d triplets, %d wrong", n, wrong)
}
