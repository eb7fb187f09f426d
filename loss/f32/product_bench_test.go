package f32

import (
	"fmt"
	"testing"
	"time"
)

// peakRate is the most operations a nanosecond that a few tries of Peak reach.
func peakRate() float64 {
	best := 0.0
	for range 20 {
		start := time.Now()
		n := Peak(2_000_000)
		best = max(best, float64(n)/float64(time.Since(start).Nanoseconds()))
	}
	return best
}

// BenchmarkProduct multiplies 2,040 rows with 512 columns, and tells its rate as
// a share of the peak that was measured beside it.
func BenchmarkProduct(b *testing.B) {
	const rows, columns = 170 * TileRows, 512
	for _, dim := range []int{64, 128, 256, 512} {
		b.Run(fmt.Sprintf("%s/dim=%d", Body(), dim), func(b *testing.B) {
			tiles, panels := make([]float32, rows*dim), make([]float32, columns*dim)
			init, dst := make([]float32, columns), make([]float32, TileRows*columns)
			for i := range tiles {
				tiles[i] = 0.001
			}
			for i := range panels {
				panels[i] = 0.002
			}
			peak := peakRate()
			for b.Loop() {
				for at := 0; at < rows; at += TileRows {
					Product(dst, init, tiles[at*dim:][:TileRows*dim], panels, dim)
				}
			}
			rate := 2 * rows * columns * float64(dim) * float64(b.N) / float64(b.Elapsed().Nanoseconds())
			b.ReportMetric(rate, "GFLOP/s")
			b.ReportMetric(100*rate/peak, "%peak")
		})
	}
}

func BenchmarkPackColumns(b *testing.B) {
	const dim = 128
	rows, panels := make([]float32, 512*dim), make([]float32, 512*dim)
	b.SetBytes(4 * 512 * dim)
	for b.Loop() {
		PackColumns(panels, rows, dim)
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, percent := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("inside=%d%%", percent), func(b *testing.B) {
			x, dst := make([]float32, 512), make([]uint16, 512)
			for i := range x {
				x[i] = float32(i * 37 % 100)
			}
			b.SetBytes(4 * 512)
			for b.Loop() {
				Select(dst, x, 0, float32(percent)-0.5)
			}
		})
	}
}

// BenchmarkSift is what 30 values of a strip cost four pairs.
func BenchmarkSift(b *testing.B) {
	x, hits, dst, sieves := make([]float32, 512), make([]uint16, 30), make([]uint32, 4*30+16), make([]Sieve, 4)
	for i := range hits {
		hits[i] = uint16(17 * i)
	}
	for i := range sieves {
		sieves[i] = Sieve{Key: uint64(i), Cut: 1 << 17}
	}
	for b.Loop() {
		Sift(dst, hits, x, 1, nil, sieves)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/hash")
}
