//go:build !purego

package f32

import "golang.org/x/sys/cpu"

// hasVNNI chooses the body, where there is AVX-512; tests set it.
var hasVNNI = cpu.X86.HasAVX512VNNI

func hasInt8() bool { return hasAVX512 && hasVNNI }

func productInt8(dst, init []float32, correction []int32, rows []uint8, columns []int8, quads int, scale float32) {
	if hasInt8() {
		productVNNI(&dst[0], &init[0], &correction[0], &rows[0], &columns[0], quads, len(init)/PanelColumns, scale)
	} else {
		productInt8Generic(dst, init, correction, rows, columns, quads, scale)
	}
}

func quantiseWhole(dst []int8, x []float32, inverse float32) {
	if hasAVX512 {
		quantiseAVX512(&dst[0], &x[0], len(x), inverse)
	} else {
		quantiseGeneric(dst, x, inverse)
	}
}

// In f32_amd64.s, which does not check lengths.

//go:noescape
func productVNNI(dst, init *float32, correction *int32, a *uint8, b *int8, quads, panels int, scale float32)

//go:noescape
func quantiseAVX512(dst *int8, x *float32, n int, inverse float32)
