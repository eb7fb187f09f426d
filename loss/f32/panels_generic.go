package f32

import "math"

// lane is a value of each lane.
type lane [PanelColumns]float32

// hingeGeneric takes a row through all lanes, threshold by threshold, without a
// branch: which distances are below is not foreseeable. Magnitudes compare as
// their bits do, and the smaller of two is that of integers.
func hingeGeneric(panel []float32, skip []uint32, rows, lanes []float32, counts []int32, sums []float64, q int, root bool) {
	const w = PanelColumns
	slacks, below := (*lane)(lanes), (*[w]int32)(counts)
	var x, slack lane
	var least, known, own, all [w]int32
	for j, skipped := range skip {
		row, values := rows[j*(2+q):][:2+q], (*lane)(panel[j*w:])
		for i, v := range values {
			x[i] = v + row[0]
			slack[i] = slacks[i] + row[1]
			least[i] = int32(math.Float32bits(Resolution * x[i])) // below all magnitudes where x is negative
		}
		for p := 1; p <= 2*q; p++ {
			nearer(&least, &x, (*lane)(lanes[p*w:]))
		}
		for _, edge := range row[2:] {
			for i, v := range &x {
				least[i] = min(least[i], int32(math.Float32bits(v-edge)&^(1<<31)))
			}
		}
		var undecided uint32
		for i, s := range &slack {
			near := uint32(0)
			if least[i] <= int32(math.Float32bits(s)) {
				near = 1
			}
			undecided |= near &^ (skipped >> i) & 1 << i
			known[i] = int32(1 &^ (near | skipped>>i))
		}
		skip[j] = undecided

		clear(own[:])
		for p := 1; p <= q; p++ {
			edges, floors, count := (*lane)(lanes[p*w:]), (*lane)(lanes[(q+p)*w:]), (*[w]int32)(counts[p*w:])
			for i, v := range &x {
				c := isBelow(v, edges[i]) & known[i]
				own[i] += c
				count[i] += c
				below[i] += isBelow(v, floors[i]) & known[i]
			}
		}
		all = own
		for _, edge := range row[2:] {
			for i, v := range &x {
				all[i] += isBelow(v, edge) & known[i]
			}
		}
		for i, v := range &x {
			values[i] = 0
			if known[i] == 0 {
				continue
			}
			d, c := v, float32(all[i])
			if root {
				d = sqrt(v)
				c /= d
			}
			values[i] = c
			sums[i] += float64(d)
			sums[w+i] += float64(float32(float32(own[i]) * d))
		}
	}
}

// nearer lowers least to the bits of |x − t|.
func nearer(least *[PanelColumns]int32, x, t *lane) {
	for i, v := range x {
		least[i] = min(least[i], int32(math.Float32bits(v-t[i])&^(1<<31)))
	}
}

// isBelow is 1 where x < t, of which only t may be infinite.
func isBelow(x, t float32) int32 { return int32(math.Float32bits(x-t) >> 31) }

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
