//go:build !purego

package f32

// hasNEON chooses the body; every arm64 has it, and tests set it.
var hasNEON = true

func product(dst, init, rows, columns []float32, dim int) {
	if !hasNEON {
		productGeneric(dst, init, rows, columns, dim)
		return
	}
	for row := 0; row < TileRows; row += 6 {
		for column := 0; column < PanelColumns; column += 16 {
			productNEON(&dst[row*len(init)+column], &init[column], &rows[row], &columns[column], dim, len(init)/PanelColumns)
		}
	}
}

func body() string {
	if hasNEON {
		return "neon"
	}
	return "go"
}

func peak(n int) int {
	if !hasNEON {
		return peakGeneric(n)
	}
	rounds := (n + 24*4 - 1) / (24 * 4)
	peakNEON(rounds)
	return 2 * 24 * 4 * rounds
}

// In f32_arm64.s, which does not check lengths.

//go:noescape
func productNEON(dst, init, a, b *float32, dim, panels int)

func peakNEON(n int)
