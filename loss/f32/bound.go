package f32

// unit is the unit roundoff of float32: rounding once changes a value by at
// most this fraction of it.
const unit = 1.0 / (1 << 24)

// SqEuclideanError bounds the rounding of [SqEuclidean] for rows of d values:
//
//	|SqEuclidean(a, b) − ‖a−b‖²| ≤ rel·SqEuclidean(a, b) + abs
//
// It holds for finite rows, for the exact ‖a−b‖² and for one summed in float64
// in any order. A result that overflowed is +Inf and so is its bound.
//
// A term is rounded in the subtraction (which counts twice, as it is squared),
// in the product, by each addition in its lane but the first, which adds to 0,
// and by the three that join the lanes: h = ⌈d/8⌉ + 5 roundings. All terms are
// positive, so the sum is within γ = h·u/(1−h·u) of the exact one, u = 2⁻²⁴
// (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1), and
// within γ/(1−γ) of the computed one. A product below 2⁻¹²⁶ is wrong by at most
// 2⁻¹⁵⁰ instead: that is abs.
func SqEuclideanError(d int) (rel, abs float64) { return bound(d, lanes(d)+5) }

// DotError bounds the rounding of [Dot] for rows of d values:
//
//	|Dot(a, b) − a·b| ≤ rel·‖a‖·‖b‖ + abs
//
// It holds for finite rows whose result did not overflow, for the exact a·b
// and for one summed in float64 in any order. The derivation is that of
// [SqEuclideanError] with a rounding for the product alone, relative to
// Σ|aₖ·bₖ| ≤ ‖a‖·‖b‖ (Cauchy and Schwarz).
func DotError(d int) (rel, abs float64) { return bound(d, lanes(d)+3) }

// lanes is how many values a partial sum takes.
func lanes(d int) int { return (d + 7) / 8 }

// bound is that of d terms of h roundings each, with what a sum in float64 may
// be wrong by itself: less than d+3 roundings of 2⁻⁵³.
func bound(d, h int) (rel, abs float64) {
	gamma := float64(h) * unit / (1 - float64(h)*unit)
	return gamma/(1-gamma) + float64(d+3)*0x1p-52, float64(d) * 0x1p-149
}

// ProductError bounds the rounding of [Product] for rows and columns of d values:
//
//	|Product − (init + row·column)| ≤ rel·(|init| + ‖row‖·‖column‖) + abs
//
// It holds for finite values whose result did not overflow, for the exact sum
// and for one in float64 in any order. Each of the d steps of the chain is
// rounded once, which a product made before its addition and rounded by itself
// would make d + 1.
func ProductError(d int) (rel, abs float64) { return bound(d, d+1) }
