package f32

import (
	"fmt"
	"math"
)

// Quads is how many groups of four bytes a row of dim bytes has.
func Quads(dim int) int { return (dim + 3) / 4 }

// Quantise writes x times inverse to dst, rounded to the nearest integer, ties
// to even. |x·inverse| is less than 127.5. dst is as long as x.
func Quantise(dst []int8, x []float32, inverse float32) {
	sameLen("Quantise", len(dst), len(x))
	whole := len(x) &^ 15
	if whole > 0 {
		quantiseWhole(dst[:whole], x[:whole], inverse)
	}
	quantiseGeneric(dst[whole:], x[whole:], inverse)
}

func quantiseGeneric(dst []int8, x []float32, inverse float32) {
	for k, v := range x {
		dst[k] = int8(math.RoundToEven(float64(float32(v * inverse))))
	}
}

// PackColumnsInt8 writes rows of dim bytes to dst as the columns of
// [ProductInt8]: in panels of PanelColumns columns, four values by four, filled
// up with 0; and to correction, for each column, −128 times the sum of its
// values. dst has 4·Quads(dim) bytes for every column of the last panel,
// correction one number.
func PackColumnsInt8(dst []int8, correction []int32, rows []int8, dim int) {
	n, quads := rowsOf("PackColumnsInt8", len(dst), len(rows), dim, PanelColumns), Quads(dim)
	sameLen("PackColumnsInt8", len(correction), len(dst)/(4*quads))
	clear(correction)
	if dim%4 != 0 || n%PanelColumns != 0 {
		clear(dst)
	}
	for c := range n {
		at := dst[c/PanelColumns*PanelColumns*4*quads+c%PanelColumns*4:]
		var sum int32
		row := rows[c*dim:][:dim]
		q := 0
		for ; len(row) >= 4; row = row[4:] {
			quad := at[q*PanelColumns*4:][:4]
			quad[0], quad[1], quad[2], quad[3] = row[0], row[1], row[2], row[3]
			sum += int32(row[0]) + int32(row[1]) + int32(row[2]) + int32(row[3])
			q++
		}
		for k, v := range row {
			at[q*PanelColumns*4+k] = v
			sum += int32(v)
		}
		correction[c] = -128 * sum
	}
}

// PackRowsInt8 writes rows of dim bytes, plus 128, to dst as the rows of
// [ProductInt8]: in tiles of TileRows rows, four values by four. dst has
// 4·Quads(dim) bytes for every row of the last tile; those that rows does not
// fill are 0.
func PackRowsInt8(dst []uint8, rows []int8, dim int) {
	n, quads := rowsOf("PackRowsInt8", len(dst), len(rows), dim, TileRows), Quads(dim)
	clear(dst)
	for r := range n {
		at := dst[r/TileRows*TileRows*4*quads+r%TileRows*4:]
		for k, v := range rows[r*dim:][:dim] {
			at[k/4*TileRows*4+k%4] = uint8(int32(v) + 128)
		}
	}
}

// rowsOf checks the lengths of a packing of bytes and is its number of rows.
func rowsOf(kernel string, dst, rows, dim, per int) int {
	if dim < 1 || rows%dim != 0 || dst != (rows/dim+per-1)/per*per*4*Quads(dim) {
		panic(fmt.Sprintf("f32: %s of %d values in rows of %d to %d", kernel, rows, dim, dst))
	}
	return rows / dim
}

// ProductInt8 multiplies the TileRows rows of one tile with n = len(init)
// columns, a multiple of PanelColumns, both of dim ≤ 65,536 bytes:
//
//	dst[r·n + c] = init[c] + scale·float32(row r · column c)
//
// The product is exact until it is made float32; multiplying and adding is
// rounded once. rows is a tile of [PackRowsInt8], columns and correction are
// panels of [PackColumnsInt8]. Every machine gives the same bits.
func ProductInt8(dst, init []float32, correction []int32, rows []uint8, columns []int8, dim int, scale float32) {
	n, quads := len(init), Quads(dim)
	if dim < 1 || dim > 1<<16 || n%PanelColumns != 0 || len(dst) != TileRows*n || len(rows) != TileRows*4*quads || len(columns) != n*4*quads || len(correction) != n {
		panic(fmt.Sprintf("f32: ProductInt8 of %d and %d bytes in rows of %d, with %d initial values, to %d", len(rows), len(columns), dim, n, len(dst)))
	}
	if n > 0 {
		productInt8(dst, init, correction, rows, columns, quads, scale)
	}
}

// HasInt8 reports whether [ProductInt8] is faster than [Product] here.
func HasInt8() bool { return hasInt8() }

func productInt8Generic(dst, init []float32, correction []int32, rows []uint8, columns []int8, quads int, scale float32) {
	n := len(init)
	for from := 0; from < n; from += PanelColumns {
		panel := columns[from*4*quads:][:PanelColumns*4*quads]
		for r := range TileRows {
			for c := range PanelColumns {
				sum := correction[from+c]
				for q := range quads {
					x, y := rows[(q*TileRows+r)*4:][:4], panel[(q*PanelColumns+c)*4:][:4]
					sum += int32(x[0])*int32(y[0]) + int32(x[1])*int32(y[1]) + int32(x[2])*int32(y[2]) + int32(x[3])*int32(y[3])
				}
				x, z := float32(sum), init[from+c]
				if s := float64(x)*float64(scale) + float64(z); safe(s) {
					dst[r*n+from+c] = float32(s)
				} else {
					dst[r*n+from+c] = fmaOdd(x, scale, z)
				}
			}
		}
	}
}
