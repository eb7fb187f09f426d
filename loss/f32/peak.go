package f32

// Peak makes at least n multiplications with an addition each that wait for
// nothing but the multiplier: as fast as this machine's kernels could be at
// best. It returns the number of floating-point operations, two for each.
func Peak(n int) int { return peak(n) }

// Body names the instructions that [Product] is made of here: "avx512",
// "avx2", "neon" or "go".
func Body() string { return body() }
