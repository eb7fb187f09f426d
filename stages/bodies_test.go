package stages

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// mineDigest is the digest of what many settings mine from rows that take every
// way through the screen: ties, duplicates, unknown classes, guards.
func mineDigest(ctx context.Context, rows int) (string, error) {
	b := clustered(rows, 37, 40)
	same := make([]int32, rows)
	for i := range same {
		same[i] = -1
	}
	for i := 0; i+7 < rows; i += 50 { // the same image, and the same embedding of another
		copy(b.Embeddings.Row(i+7), b.Embeddings.Row(i))
		same[i], same[i+7] = int32(i), int32(i)
		b.Labels[i+3] = pipeline.Unknown
	}
	var all []pipeline.MinedTriplet
	for rule := SemiHard; rule <= VGG; rule++ {
		for _, pick := range []Pick{{}, {By: Nearest}, {By: Farthest}, {By: ByRank, First: 1, Last: 2}} {
			dist := distances[(int(rule)+int(pick.By))%len(distances)]
			if rule == VGG {
				dist = loss.SqEuclidean
			}
			if rule.picksItself() && pick.By != Nearest {
				continue
			}
			s, err := NewScan(ScanConfig{
				Mine: MineConfig{
					Loss: loss.TripletMargin{Margin: 0.2, Distance: dist}, Rule: rule, Pick: pick, PerPair: 2, Seed: 11,
					Guards: Guards{SkipRanks: int(rule) % 2},
				},
				Screen:     ScreenBy(int(rule) % 3),
				Embeddings: b.Embeddings, Labels: b.Labels, Same: same,
			})
			if err != nil {
				return "", err
			}
			for m, err := range pipeline.From(s).All(ctx) {
				if err != nil {
					return "", err
				}
				all = append(all, m)
			}
		}
	}
	return fmt.Sprintf("%s %d", pipeline.Digest("mined", all)[:24], len(all)), nil
}

// TestGoldenTriplets: every machine and every body mines these.
func TestGoldenTriplets(t *testing.T) {
	const want = "f12dc2837d5bebed94edf884 40911"
	got, err := mineDigest(t.Context(), 240)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s mines %s, want %s", f32.Body(), got, want)
	}
}

// TestGoldenTripletsOfMany is the same of 10,000 rows, for long tests.
func TestGoldenTripletsOfMany(t *testing.T) {
	if !planLong {
		t.Skip("set TERCET_LONG=1")
	}
	const want = "3f10ef0ef7e104ac5f9c79e4 40000"
	b := clustered(10_000, 32, 100)
	triplets := scanned(t, ScanConfig{
		Mine:       MineConfig{Loss: loss.TripletMargin{Margin: 0.7}, Seed: 11},
		Embeddings: b.Embeddings, Labels: b.Labels,
	})
	if got := fmt.Sprintf("%s %d", pipeline.Digest("mined", triplets)[:24], len(triplets)); got != want {
		t.Errorf("%s mines %s, want %s", f32.Body(), got, want)
	}
}

// TestBodiesMineTheSame mines in processes of their own, with some of the
// processor's abilities switched off.
func TestBodiesMineTheSame(t *testing.T) {
	const variable = "TERCET_TEST_MINE_DIGEST"
	if os.Getenv(variable) != "" {
		got, err := mineDigest(t.Context(), 360)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nmined %s %s\n", f32.Body(), got)
		return
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("GODEBUG switches nothing off here")
	}
	found := map[string]string{}
	for _, off := range []string{"", "cpu.avx512f=off", "cpu.avx512f=off,cpu.fma=off"} {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBodiesMineTheSame$", "-test.count=1")
		c.Env = append(os.Environ(), variable+"=1", "GODEBUG="+off)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("GODEBUG=%s: %v\n%s", off, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "mined "); ok {
				body, digest, _ := strings.Cut(rest, " ")
				found[body] = digest
			}
		}
	}
	if len(found) == 0 {
		t.Fatal("nothing was mined")
	}
	for body, digest := range found {
		if digest != found["go"] {
			t.Errorf("%s mines %s, go %s", body, digest, found["go"])
		}
	}
	t.Logf("%v", found)
}
