package f32

import "math"

func hingeGeneric(panel []float32, skip []uint32, rows, lanes []float32, counts []int32, sums []float64, q int, root bool) {
	const w = PanelColumns
	floors, edges := lanes[(1+q)*w:], lanes[w:][:q*w]
	below := counts[w:]
	for j, skipped := range skip {
		row, values := rows[j*(2+q):][:2+q], panel[j*w:][:w]
		var undecided uint32
		for i, v := range values {
			x := v + row[0]
			slack := lanes[i] + row[1]
			least := float32(Resolution * x)
			for p := i; p < q*w; p += w {
				least = min(least, abs(x-edges[p]), abs(x-floors[p]))
			}
			for _, edge := range row[2:] {
				least = min(least, abs(x-edge))
			}
			bit := uint32(1) << i
			if least <= slack {
				undecided |= bit &^ skipped
			}
			if least <= slack || skipped&bit != 0 {
				values[i] = 0
				continue
			}

			var c int32
			for p := i; p < q*w; p += w {
				if x < edges[p] {
					below[p]++
					c++
				}
				if x < floors[p] {
					counts[i]++
				}
			}
			d := x
			if root {
				d = sqrt(x)
			}
			sums[i] += float64(d)
			sums[w+i] += float64(float32(float32(c) * d))
			for _, edge := range row[2:] {
				if x < edge {
					c++
				}
			}
			values[i] = float32(c)
			if root {
				values[i] /= d
			}
		}
		skip[j] = undecided
	}
}

func nearestGeneric(best, panel []float32, skip []uint32, rows, slack []float32) {
	const w = PanelColumns
	for j, skipped := range skip {
		norm, rowSlack, values := rows[2*j], rows[2*j+1], panel[j*w:][:w]
		var candidates uint32
		for i, v := range values {
			x, slack := v+norm, slack[i]+rowSlack
			values[i] = x - slack
			if skipped>>i&1 != 0 {
				continue
			}
			if values[i] <= best[i] {
				candidates |= 1 << i
			}
			best[i] = min(best[i], x+slack)
		}
		skip[j] = candidates
	}
}

func repelGeneric(panel []float32, skip []uint32, rows, slack []float32, counts []int32, sums []float64, edge, margin float32, root bool) {
	const w = PanelColumns
	for j, skipped := range skip {
		norm, rowSlack, values := rows[2*j], rows[2*j+1], panel[j*w:][:w]
		var undecided uint32
		for i, v := range values {
			x, slack := v+norm, slack[i]+rowSlack
			values[i] = 0
			if skipped>>i&1 != 0 {
				continue
			}
			if min(abs(x-edge), float32(Resolution*x)) <= slack {
				undecided |= 1 << i
				continue
			}
			d := x
			if root {
				d = sqrt(x)
			}
			sums[i] += float64(d)
			if x < edge {
				t := margin - d
				counts[i]++
				sums[w+i] += float64(t) * float64(t) // exact
				if root {
					t /= d
				}
				values[i] = t
			}
		}
		skip[j] = undecided
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// sqrt is √x rounded once: that of float64 is near enough for its rounding not to matter.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
