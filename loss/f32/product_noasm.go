//go:build (!amd64 && !arm64) || purego

package f32

func product(dst, init, rows, columns []float32, dim int) {
	productGeneric(dst, init, rows, columns, dim)
}

func body() string { return "go" }

func peak(n int) int { return peakGeneric(n) }
