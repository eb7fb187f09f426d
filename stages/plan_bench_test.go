package stages

import (
	"fmt"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// evenLabels are classes of n rows each, taking turns.
func evenLabels(classes, n int) []int32 {
	labels := make([]int32, classes*n)
	for i := range labels {
		labels[i] = int32(i % classes)
	}
	return labels
}

func BenchmarkPlan(b *testing.B) {
	for _, s := range []struct{ classes, rows, p, k int }{
		{10, 6000, 10, 32},
		{1000, 1280, 64, 4},
		{1000, 1280, 32, 32},
		{100, 6, 64, 8},
		{100_000, 13, 64, 4},
	} {
		b.Run(fmt.Sprintf("classes=%d/rows=%d/p=%d/k=%d", s.classes, s.rows, s.p, s.k), func(b *testing.B) {
			p, err := NewPlan(PlanConfig{Labels: evenLabels(s.classes, s.rows), P: s.p, K: s.k, Seed: 1})
			if err != nil {
				b.Fatal(err)
			}
			var ids []int64
			var n int64
			for n = range p.Steps() / 4 {
				ids = p.Batch(n, ids[:0])
			}
			b.ReportAllocs()
			for b.Loop() {
				n++
				ids = p.Batch(n, ids[:0])
			}
			b.ReportMetric(float64(b.N*len(ids))/b.Elapsed().Seconds(), "indices/s")
		})
	}
}

func BenchmarkPlanRandomAccess(b *testing.B) {
	p, err := NewPlan(PlanConfig{Labels: evenLabels(1000, 1280), P: 64, K: 4, Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	d := newDice(newPlanKey("random access"))
	var ids []int64
	for b.Loop() {
		ids = p.Batch(int64(d.below(1<<40)), ids[:0])
	}
}

func BenchmarkNewPlan(b *testing.B) {
	labels := evenLabels(100_000, 13)
	for b.Loop() {
		if _, err := NewPlan(PlanConfig{Labels: labels, P: 64, K: 4, Data: "data"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPermutation(b *testing.B) {
	key := newPlanKey("benchmark")
	b.Run("table/n=1000", func(b *testing.B) {
		dst := make([]uint32, 1000)
		for b.Loop() {
			shuffle(dst, key)
		}
	})
	b.Run("feistel/n=1000000", func(b *testing.B) {
		f := newFeistel(1_000_000, key)
		var i uint64
		for b.Loop() {
			i++
			f.at(i % 1_000_000)
		}
	})
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		var i uint64
		for b.Loop() {
			i++
			newPlanKey("image", 1, 2, i)
		}
	})
}

func BenchmarkStateCapture(b *testing.B) {
	p, err := NewPlan(PlanConfig{Labels: evenLabels(10, 10), P: 2, K: 2})
	if err != nil {
		b.Fatal(err)
	}
	batch := pipeline.NewBatch()
	batch.Stamp(p.State())
	b.ReportAllocs()
	for b.Loop() {
		_ = batch.State()
	}
}

// BenchmarkWindowPlan makes a plan over windows, and then batches of it.
func BenchmarkWindowPlan(b *testing.B) {
	for _, tt := range []struct {
		name                   string
		classes, each, perFile int
	}{{"rows=1e6,groups=1e4", 10_000, 100, 100}, {"rows=1e6,groups=1e3", 1000, 1000, 1000}} {
		cfg := PlanConfig{P: 16, K: 4}
		for c := range tt.classes {
			for range tt.each {
				cfg.Labels = append(cfg.Labels, int32(c))
			}
		}
		cfg.Layout = layoutOf(len(cfg.Labels), tt.perFile, 1000)
		cfg.Window = cfg.Layout.Bytes() / 20
		b.Run("new/"+tt.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := NewPlan(cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
		p, err := NewPlan(cfg)
		if err != nil {
			b.Fatal(err)
		}
		var ids []int64
		b.Run("batches/"+tt.name, func(b *testing.B) {
			n := int64(0)
			for b.Loop() {
				ids = p.Batch(n, ids[:0])
				n++
			}
			b.ReportMetric(float64(n)*64/b.Elapsed().Seconds(), "indices/s")
		})
	}
}
