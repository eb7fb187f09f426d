package f32

import "fmt"

// Resolution is how well [Hinge] has to know a squared distance: one whose
// slack is this share of it or more is undecided.
const Resolution = 0x1p-10

// Hinge goes through a panel of squared distances between n rows and
// PanelColumns lanes and counts the thresholds that are greater: of each lane q
// edges and q floors, and of each row q edges.
//
//	panel   n×PanelColumns: the squared distance x less the norm of the row, as Product gives it
//	skip    n: bit i leaves out lane i
//	rows    n×(2+q): norm, slack, and edges of each row
//	lanes   (1+2q)×PanelColumns: slack, edges and floors of each lane
//	counts  (1+q)×PanelColumns, added to: the x below the floors, and below each edge of the lane
//	sums    2×PanelColumns, added to: Σ d and Σ c·d, where d is x or, with root, √x, and c the number of edges of the lane above x
//
// x is taken to be right within the slack of its row and its lane together. It
// is undecided, and left out, where a threshold is that near or x is smaller
// than the slack divided by [Resolution]. Thresholds are in units of x and may
// be infinite; padding is −Inf.
//
// On return a bit of skip tells which x are undecided. panel holds the number of
// edges of the lane and of the row above x, divided by √x with root, and 0 for
// what was left out. Lanes are independent of each other and see the rows in
// order: equal inputs give equal bits on every machine.
func Hinge(panel []float32, skip []uint32, rows, lanes []float32, counts []int32, sums []float64, q int, root bool) {
	n := len(skip)
	if q < 1 || len(panel) != n*PanelColumns || len(rows) != n*(2+q) || len(lanes) != (1+2*q)*PanelColumns ||
		len(counts) != (1+q)*PanelColumns || len(sums) != 2*PanelColumns {
		panic(fmt.Sprintf("f32: Hinge of a panel of %d values, %d rows in %d, %d for the lanes, %d counts and %d sums, q = %d",
			len(panel), n, len(rows), len(lanes), len(counts), len(sums), q))
	}
	if n > 0 {
		hinge(panel, skip, rows, lanes, counts, sums, q, root)
	}
}

// Nearest goes through a panel of squared distances between n rows and
// PanelColumns lanes and finds what may be the smallest of each lane. panel, skip
// and slacks are as in [Hinge], with n×2 values in rows: norm and slack. best
// holds PanelColumns upper bounds of the smallest so far, +Inf to begin with,
// and is lowered. On return a bit of skip says that the distance of a row was
// not above best by more than its slack when its turn came: the smallest of a
// lane is among those, ties included. panel holds x less both slacks.
func Nearest(best, panel []float32, skip []uint32, rows, slack []float32) {
	n := len(skip)
	if len(best) != PanelColumns || len(panel) != n*PanelColumns || len(rows) != 2*n || len(slack) != PanelColumns {
		panic(fmt.Sprintf("f32: Nearest of %d lanes, a panel of %d values, %d rows in %d and %d slacks", len(best), len(panel), n, len(rows), len(slack)))
	}
	if n > 0 {
		nearest(best, panel, skip, rows, slack)
	}
}

// Repel goes through a panel of squared distances between n rows and
// PanelColumns lanes, for a loss over those below a margin. panel, skip, slacks
// and root are as in [Hinge], with n×2 values in rows: norm and slack. edge is the
// squared distance at the margin and margin what d is there: √edge with root,
// edge itself without.
//
//	counts  PanelColumns, added to: the x below the edge
//	sums    2×PanelColumns, added to: Σ d, and Σ (margin − d)² over those below the edge
//
// On return a bit of skip tells which x are undecided, and panel holds
// margin − d, with root divided by d, where x is below the edge, and 0 elsewhere.
func Repel(panel []float32, skip []uint32, rows, slack []float32, counts []int32, sums []float64, edge, margin float32, root bool) {
	n := len(skip)
	if len(panel) != n*PanelColumns || len(rows) != 2*n || len(slack) != PanelColumns || len(counts) != PanelColumns || len(sums) != 2*PanelColumns {
		panic(fmt.Sprintf("f32: Repel of a panel of %d values, %d rows in %d, %d slacks, %d counts and %d sums", len(panel), n, len(rows), len(slack), len(counts), len(sums)))
	}
	if n > 0 {
		repel(panel, skip, rows, slack, counts, sums, edge, margin, root)
	}
}
