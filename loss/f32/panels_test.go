package f32

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// A panelCase is a panel of random distances, thresholds that many of them are
// near or on, and some lanes left out.
type panelCase struct {
	panel, rows, lanes []float32
	skip               []uint32
}

func randomPanel(r *rand.Rand, n, q int) panelCase {
	value := func() float32 { return float32(r.IntN(40)) / 8 }
	c := panelCase{make([]float32, n*PanelColumns), make([]float32, n*(2+q)), make([]float32, (1+2*q)*PanelColumns), make([]uint32, n)}
	for k := range c.panel {
		c.panel[k] = value()
		if r.IntN(4) == 0 {
			c.panel[k] += r.Float32() / 4096
		}
	}
	threshold := func() float32 {
		switch r.IntN(8) {
		case 0:
			return float32(math.Inf(-1))
		case 1:
			return float32(math.Inf(1))
		case 2, 3, 4:
			return value() + r.Float32()/8192
		default:
			return value() + r.Float32()/4
		}
	}
	for k := range c.rows {
		switch k % (2 + q) {
		case 0:
			c.rows[k] = value() / 4
		case 1:
			c.rows[k] = r.Float32() / 8192
		default:
			c.rows[k] = threshold()
		}
	}
	for k := range c.lanes {
		if k < PanelColumns {
			c.lanes[k] = r.Float32() / 8192
		} else {
			c.lanes[k] = threshold()
		}
	}
	for j := range c.skip {
		c.skip[j] = r.Uint32() & r.Uint32() & r.Uint32()
	}
	return c
}

func (c panelCase) clone() panelCase {
	return panelCase{slices.Clone(c.panel), slices.Clone(c.rows), slices.Clone(c.lanes), slices.Clone(c.skip)}
}

// floatBits tells −0 from 0.
func floatBits(x []float32) []uint32 {
	bits := make([]uint32, len(x))
	for i, v := range x {
		bits[i] = math.Float32bits(v)
	}
	return bits
}

// TestHinge holds each body to the Go code bit by bit, and that to the definition.
func TestHinge(t *testing.T) {
	undecided := 0
	for n := range 30 {
		for _, q := range []int{1, 2, 3, 7} {
			for _, root := range []bool{false, true} {
				r := rand.New(rand.NewPCG(uint64(n), uint64(q)))
				in := randomPanel(r, n, q)
				want := in.clone()
				counts, sums := make([]int32, (1+q)*PanelColumns), make([]float64, 2*PanelColumns)
				hingeGeneric(want.panel, want.skip, want.rows, want.lanes, counts, sums, q, root)
				checkHinge(t, in, want, counts, sums, q, root)
				for _, u := range want.skip {
					undecided += bits.OnesCount32(u)
				}
				for name, use := range bodiesHere() {
					got := in.clone()
					c, s := make([]int32, len(counts)), make([]float64, len(sums))
					restore := use()
					Hinge(got.panel, got.skip, got.rows, got.lanes, c, s, q, root)
					restore()
					if !slices.Equal(floatBits(got.panel), floatBits(want.panel)) || !slices.Equal(got.skip, want.skip) || !slices.Equal(c, counts) || !slices.Equal(s, sums) {
						t.Fatalf("%s differs from Go: n=%d q=%d root=%v", name, n, q, root)
					}
				}
			}
		}
	}
	if undecided < 1000 {
		t.Errorf("only %d undecided distances: nothing was tested", undecided)
	}
}

// checkHinge holds what Hinge made of a panel to what its comment says, lane by lane.
func checkHinge(t *testing.T, in, out panelCase, counts []int32, sums []float64, q int, root bool) {
	t.Helper()
	const w = PanelColumns
	for i := range w {
		below := make([]int32, 1+q)
		var sum, weighted float64
		for j := range in.skip {
			row := in.rows[j*(2+q):][:2+q]
			x := in.panel[j*w+i] + row[0]
			slack := in.lanes[i] + row[1]
			near := x*Resolution <= slack
			var mine, theirs float32
			counted := make([]int32, 1+q)
			for p := range q {
				edge, floor := in.lanes[(1+p)*w+i], in.lanes[(1+q+p)*w+i]
				near = near || abs(x-edge) <= slack || abs(x-floor) <= slack || abs(x-row[2+p]) <= slack
				if x < edge {
					mine++
					counted[1+p]++
				}
				if x < floor {
					counted[0]++
				}
				if x < row[2+p] {
					theirs++
				}
			}
			skipped := in.skip[j]>>i&1 == 1
			if got, want := out.skip[j]>>i&1 == 1, near && !skipped; got != want {
				t.Fatalf("row %d, lane %d: undecided is %v, want %v", j, i, got, want)
			}
			if near || skipped {
				if out.panel[j*w+i] != 0 {
					t.Fatalf("row %d, lane %d: %v of a distance that is left out", j, i, out.panel[j*w+i])
				}
				continue
			}
			d, of := x, float32(1)
			if root {
				d = float32(math.Sqrt(float64(x)))
				of = d
			}
			if got := out.panel[j*w+i]; got != (mine+theirs)/of {
				t.Fatalf("row %d, lane %d: %v, want %v", j, i, got, (mine+theirs)/of)
			}
			for p := range counted {
				below[p] += counted[p]
			}
			sum += float64(d)
			weighted += float64(mine * d)
		}
		for p := range below {
			if counts[p*w+i] != below[p] {
				t.Fatalf("lane %d: count %d is %d, want %d", i, p, counts[p*w+i], below[p])
			}
		}
		if sums[i] != sum || sums[w+i] != weighted {
			t.Fatalf("lane %d: sums %v and %v, want %v and %v", i, sums[i], sums[w+i], sum, weighted)
		}
	}
}

func TestNearest(t *testing.T) {
	const w = PanelColumns
	for n := range 40 {
		r := rand.New(rand.NewPCG(uint64(n), 1))
		in := randomPanel(r, n, 1)
		rows, slack := make([]float32, 2*n), in.lanes[:w]
		for j := range n {
			copy(rows[2*j:], in.rows[3*j:][:2])
		}
		want, best := in.clone(), slices.Repeat([]float32{float32(math.Inf(1))}, w)
		nearestGeneric(best, want.panel, want.skip, rows, slack)
		for i := range w {
			least := float32(math.Inf(1)) // what the smallest can be at most
			for j := range n {
				if in.skip[j]>>i&1 == 0 {
					least = min(least, in.panel[j*w+i]+rows[2*j]+(slack[i]+rows[2*j+1]))
				}
			}
			if best[i] != least {
				t.Fatalf("n=%d lane %d: best is %v, want %v", n, i, best[i], least)
			}
			for j := range n {
				candidate := want.skip[j]>>i&1 == 1
				if candidate && in.skip[j]>>i&1 == 1 || !candidate && in.skip[j]>>i&1 == 0 && want.panel[j*w+i] <= least {
					t.Fatalf("n=%d lane %d: candidate %d is %v", n, i, j, candidate)
				}
			}
		}
		for name, use := range bodiesHere() {
			got, low := in.clone(), slices.Repeat([]float32{float32(math.Inf(1))}, w)
			restore := use()
			Nearest(low, got.panel, got.skip, rows, slack)
			restore()
			if !slices.Equal(low, best) || !slices.Equal(got.skip, want.skip) || !slices.Equal(floatBits(got.panel), floatBits(want.panel)) {
				t.Fatalf("%s differs from Go: n=%d", name, n)
			}
		}
	}
}

func TestPanelLengthsPanic(t *testing.T) {
	f := func(n int) []float32 { return make([]float32, n) }
	for name, call := range map[string]func(){
		"Hinge panel":  func() { Hinge(f(63), make([]uint32, 2), f(6), f(96), make([]int32, 64), make([]float64, 64), 1, false) },
		"Hinge counts": func() { Hinge(f(64), make([]uint32, 2), f(6), f(96), make([]int32, 63), make([]float64, 64), 1, false) },
		"Hinge q":      func() { Hinge(f(64), make([]uint32, 2), f(4), f(32), make([]int32, 32), make([]float64, 64), 0, false) },
		"Nearest":      func() { Nearest(f(32), f(64), make([]uint32, 2), f(3), f(32)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
}

func BenchmarkPanels(b *testing.B) {
	const n = 512
	for _, q := range []int{1, 3, 31} {
		for _, root := range []bool{false, true} {
			b.Run(fmt.Sprintf("Hinge/q=%d/root=%v", q, root), func(b *testing.B) {
				in := randomPanel(rand.New(rand.NewPCG(1, 1)), n, q)
				counts, sums := make([]int32, (1+q)*PanelColumns), make([]float64, 2*PanelColumns)
				for b.Loop() {
					Hinge(in.panel, in.skip, in.rows, in.lanes, counts, sums, q, root)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n/PanelColumns, "ns/value")
			})
		}
	}
	b.Run("Nearest", func(b *testing.B) {
		in := randomPanel(rand.New(rand.NewPCG(1, 1)), n, 1)
		best := make([]float32, PanelColumns)
		for b.Loop() {
			Nearest(best, in.panel, in.skip, in.rows[:2*n], in.lanes[:PanelColumns])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n/PanelColumns, "ns/value")
	})
}

func TestRepel(t *testing.T) {
	const w = PanelColumns
	undecided, below := 0, 0
	for n := range 40 {
		for _, root := range []bool{false, true} {
			r := rand.New(rand.NewPCG(uint64(n), 2))
			in := randomPanel(r, n, 1)
			rows, slack := make([]float32, 2*n), in.lanes[:w]
			for j := range n {
				copy(rows[2*j:], in.rows[3*j:][:2])
			}
			edge := float32(r.IntN(16)) / 4
			margin := edge
			if root {
				margin = sqrt(edge)
			}
			want := in.clone()
			counts, sums := make([]int32, w), make([]float64, 2*w)
			repelGeneric(want.panel, want.skip, rows, slack, counts, sums, edge, margin, root)
			for i := range w {
				var count int32
				var sum, squares float64
				for j := range n {
					x, slack := in.panel[j*w+i]+rows[2*j], slack[i]+rows[2*j+1]
					skipped := in.skip[j]>>i&1 == 1
					near := abs(x-edge) <= slack || x*Resolution <= slack
					if got := want.skip[j]>>i&1 == 1; got != (near && !skipped) {
						t.Fatalf("n=%d row %d, lane %d: undecided is %v", n, j, i, got)
					}
					var out float32
					if !near && !skipped {
						d := x
						if root {
							d = sqrt(x)
						}
						sum += float64(d)
						if x < edge {
							count++
							out = margin - d
							squares += float64(out) * float64(out)
							if root {
								out /= d
							}
						}
					}
					if near && !skipped {
						undecided++
					}
					if want.panel[j*w+i] != out {
						t.Fatalf("n=%d row %d, lane %d: %v, want %v", n, j, i, want.panel[j*w+i], out)
					}
				}
				below += int(count)
				if counts[i] != count || sums[i] != sum || sums[w+i] != squares {
					t.Fatalf("n=%d lane %d: %d, %v, %v, want %d, %v, %v", n, i, counts[i], sums[i], sums[w+i], count, sum, squares)
				}
			}
			for name, use := range bodiesHere() {
				got := in.clone()
				c, s := make([]int32, w), make([]float64, 2*w)
				restore := use()
				Repel(got.panel, got.skip, rows, slack, c, s, edge, margin, root)
				restore()
				if !slices.Equal(c, counts) || !slices.Equal(s, sums) || !slices.Equal(got.skip, want.skip) || !slices.Equal(floatBits(got.panel), floatBits(want.panel)) {
					t.Fatalf("%s differs from Go: n=%d root=%v", name, n, root)
				}
			}
		}
	}
	if undecided < 100 || below < 1000 {
		t.Errorf("%d undecided and %d below the edge: nothing was tested", undecided, below)
	}
}
