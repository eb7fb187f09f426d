package loss

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// TestGoldenBits pins the bits of losses and gradients, by panels and in float64,
// for all machines and builds. The soft margin has no part in it: its last bit
// is that of [math.Exp].
func TestGoldenBits(t *testing.T) {
	h := fnv.New64a()
	for i, kind := range []string{"normal", "mixed", "clustered", "grid"} {
		r := rand.New(rand.NewPCG(21, uint64(i)))
		in := scatter(r, kind, 100, 19)
		in.Triplets = valid(in)[:100]
		everyLoss(medianDistance(in, Euclidean), func(name string, l Loss) {
			if _, soft := tripletLossOf(l).(TripletSoftMargin); soft || reductionOf(l) != Sum {
				return
			}
			for ws := range bothPaths {
				grad := pipeline.MakeEmbeddings(100, 19)
				stats, err := l.Compute(ws, grad, in)
				if err != nil {
					continue // a zero vector, or beyond float32
				}
				binary.Write(h, binary.LittleEndian, []float64{stats.Loss, stats.MeanAP, stats.MeanAN})
				binary.Write(h, binary.LittleEndian, []int64{int64(stats.Active), int64(stats.Hard), int64(stats.Count)})
				binary.Write(h, binary.LittleEndian, grad.Data)
			}
		})
	}
	if got := h.Sum64(); got != goldenBits {
		t.Errorf("bits hash to %#x, want %#x: this machine rounds differently", got, uint64(goldenBits))
	}
}

const goldenBits = 0xdc06506bc8218441
