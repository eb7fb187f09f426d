//go:build !purego

package f32

import "testing"

// TestWithoutAVX repeats the tests of the kernels as on a machine without AVX.
func TestWithoutAVX(t *testing.T) {
	if !hasAVX {
		t.Skip("no AVX: the other tests were the same")
	}
	hasAVX = false
	defer func() { hasAVX = true }()
	t.Run("PairKernels", TestPairKernels)
	t.Run("RowKernels", TestRowKernels)
	t.Run("AxpyScale", TestAxpyScale)
	t.Run("GoldenBits", TestGoldenBits)
}
