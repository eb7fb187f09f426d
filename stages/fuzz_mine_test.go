package stages

import (
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// FuzzScan lets the fuzzer choose coordinates, labels and settings, and holds
// the scan against the definition.
func FuzzScan(f *testing.F) {
	f.Add(uint64(1), uint8(0), []byte("semi-hard negatives of a few points"))
	f.Add(uint64(2), uint8(5), []byte{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 255, 255})
	f.Add(uint64(3), uint8(10), []byte{1, 2, 1, 2, 1, 2, 1, 3, 1, 3, 1, 3, 1, 2})
	f.Fuzz(func(t *testing.T, seed uint64, choice uint8, data []byte) {
		const dim = 2
		rows := min(len(data)/(dim+1), 40)
		if rows == 0 {
			return
		}
		rule, dist := Rule(choice%8), loss.Distance(choice/8%2)
		if rule == VGG {
			dist = loss.SqEuclidean
		}
		p := &pool{emb: pipeline.MakeEmbeddings(rows, dim)}
		for i := range rows {
			row := data[i*(dim+1):]
			p.labels = append(p.labels, int32(row[0]%5)-1)
			p.emb.Row(i)[0], p.emb.Row(i)[1] = float32(row[1])/8, float32(row[2])/3
		}
		cfg := settings(rand.New(rand.NewPCG(seed, 1)), dist, rule, ScopeDataSet, p)
		list, report := define(cfg, p, p, 0)
		list = capped(cfg, p, list, &report)
		s, err := NewScan(ScanConfig{Mine: cfg, Embeddings: p.emb, Labels: p.labels, Workers: 1, Block: 7})
		if err != nil {
			t.Fatal(err)
		}
		got := drain(t, s)
		if len(got) != len(list) {
			t.Fatalf("%d triplets, want %d", len(got), len(list))
		}
		for i, m := range got {
			if d := list[i]; int(m.Anchor) != d.a || int(m.Positive) != d.p || int(m.Negative) != d.n || m.AN != float32(d.an) {
				t.Fatalf("triplet %d is %+v, want %+v", i, m, d)
			}
		}
		sameReport(t, s.Report(), report)
	})
}
