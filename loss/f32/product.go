package f32

import "fmt"

// A tile is TileRows × PanelColumns products: what a kernel holds in registers.
const (
	TileRows     = 12
	PanelColumns = 32
)

// PackColumns writes rows of dim values to dst as the columns of [Product]: in
// panels of PanelColumns columns, value by value. dst has a place for every
// column of the last panel; those that rows does not fill are 0.
func PackColumns(dst, rows []float32, dim int) {
	n := packed("PackColumns", len(dst), len(rows), dim, PanelColumns)
	for from := 0; from < n; from += PanelColumns {
		count := min(n-from, PanelColumns)
		panel := dst[from*dim:][:PanelColumns*dim]
		if count < PanelColumns {
			clear(panel)
		}
		packPanel(panel, rows[from*dim:][:count*dim], dim, count)
	}
}

// PackRows writes rows of dim values, times alpha, to dst as the rows of
// [Product]: in tiles of TileRows rows, value by value. dst has a place for
// every row of the last tile; those that rows does not fill are 0.
func PackRows(dst []float32, alpha float32, rows []float32, dim int) {
	n := packed("PackRows", len(dst), len(rows), dim, TileRows)
	for from := 0; from < n; from += TileRows {
		count := min(n-from, TileRows)
		tile := dst[from*dim:][:TileRows*dim]
		if count < TileRows {
			clear(tile)
		}
		for r := range count {
			at := tile[r:]
			for k, x := range rows[(from+r)*dim:][:dim] {
				at[k*TileRows] = alpha * x
			}
		}
	}
}

// packed checks the lengths of a packing and is its number of rows.
func packed(kernel string, dst, rows, dim, per int) int {
	if dim < 1 || rows%dim != 0 || dst != (rows/dim+per-1)/per*per*dim {
		panic(fmt.Sprintf("f32: %s of %d values in rows of %d to %d", kernel, rows, dim, dst))
	}
	return rows / dim
}

// packColumns writes the values from k on of the rows from … to−1 to a panel,
// as Go code does.
func packColumns(panel, rows []float32, dim, from, to, k int) {
	for c := from; c < to; c++ {
		row := rows[c*dim:][:dim]
		for k := k; k < dim; k++ {
			panel[k*PanelColumns+c] = row[k]
		}
	}
}

// Product multiplies the TileRows rows of one tile with n = len(init) columns,
// a multiple of PanelColumns, and adds init:
//
//	dst[r·n + c] = init[c] + Σₖ row r[k] · column c[k]
//
// rows is a tile of [PackRows], columns are panels of [PackColumns]. A sum
// begins with init and takes the products in the order of k, each by a fused
// multiply-add that is rounded once. So every machine gives the same bits, but
// for the sign and payload of a NaN. See [ProductError].
func Product(dst, init, rows, columns []float32, dim int) {
	n := len(init)
	if dim < 1 || n%PanelColumns != 0 || len(dst) != TileRows*n || len(rows) != TileRows*dim || len(columns) != n*dim {
		panic(fmt.Sprintf("f32: Product of %d and %d values in rows of %d, with %d initial ones, to %d", len(rows), len(columns), dim, n, len(dst)))
	}
	if n > 0 {
		product(dst, init, rows, columns, dim)
	}
}
