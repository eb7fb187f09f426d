package f32

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestProductInt8(t *testing.T) {
	bodies(t, func(t *testing.T) {
		for _, dim := range []int{1, 2, 3, 4, 5, 8, 31, 64, 130} {
			for _, n := range []int{1, 31, 32, 33, 64, 70} {
				r := rand.New(rand.NewPCG(uint64(dim), uint64(n)))
				m, quads, wide := 1+r.IntN(TileRows), Quads(dim), (n+31)/32*32
				rows, columns := make([]int8, m*dim), make([]int8, n*dim)
				for _, s := range [][]int8{rows, columns} {
					for i := range s {
						s[i] = int8(r.IntN(255) - 127)
						if r.IntN(4) == 0 {
							s[i] = []int8{127, -127, 0}[r.IntN(3)]
						}
					}
				}
				tile, panels, correction := make([]uint8, TileRows*4*quads), make([]int8, wide*4*quads), make([]int32, wide)
				for i := range panels {
					panels[i] = 99 // what was there before is of no meaning
				}
				PackRowsInt8(tile, rows, dim)
				PackColumnsInt8(panels, correction, columns, dim)
				init, _ := guarded(r, wide, 0, kinds["normal"])
				dst, all := guarded(r, TileRows*wide, dim%5, kinds["normal"])
				scale := -r.Float32() / 8000
				ProductInt8(dst, init, correction, tile, panels, dim, scale)
				checkGuards(t, "ProductInt8", all, dim%5, len(dst))
				for i := range m {
					for c := range n {
						var sum int32
						for k := range dim {
							sum += int32(rows[i*dim+k]) * int32(columns[c*dim+k])
						}
						if got, want := dst[i*wide+c], fma(float32(sum), scale, init[c]); !sameBits(got, want) {
							t.Fatalf("dim=%d n=%d: row %d column %d is %g, want %g", dim, n, i, c, got, want)
						}
					}
				}
			}
		}
	})
}

func TestQuantise(t *testing.T) {
	bodies(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		for n := range 70 {
			x, dst := make([]float32, n), make([]int8, n+16)
			for i := range x {
				x[i] = 2*r.Float32() - 1
				if r.IntN(3) == 0 {
					x[i] = (float32(r.IntN(253)-126) + 0.5) / 127 // near a tie
				}
			}
			dst[n] = 77
			Quantise(dst[:n], x, 127)
			for i, v := range x {
				if want := int8(math.RoundToEven(float64(float32(v * 127)))); dst[i] != want {
					t.Fatalf("%g is %d, want %d", v, dst[i], want)
				}
			}
			if dst[n] != 77 {
				t.Fatalf("wrote beyond %d", n)
			}
		}
	})
}

func BenchmarkProductInt8(b *testing.B) {
	const rows, columns, dim = 170 * TileRows, 512, 128
	tiles, panels := make([]uint8, rows*dim), make([]int8, columns*dim)
	init, dst, correction := make([]float32, columns), make([]float32, TileRows*columns), make([]int32, columns)
	for b.Loop() {
		for at := 0; at < rows; at += TileRows {
			ProductInt8(dst, init, correction, tiles[at*dim:][:TileRows*dim], panels, dim, 1)
		}
	}
	b.ReportMetric(2*rows*columns*dim*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "Gop/s")
}
