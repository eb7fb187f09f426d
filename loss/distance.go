package loss

import (
	"fmt"
	"math"
)

// A Distance says how far apart two embeddings are. A margin is in units of
// its distance and means nothing without it: with d_ap at 30° on the unit
// sphere and a margin of 0.2, the semi-hard band ends at 40.0°, 42.1° or 48.2°.
type Distance uint8

const (
	SqEuclidean Distance = iota // ‖x−y‖²; on unit vectors 2(1−cos)
	Euclidean                   // ‖x−y‖
	Cosine                      // 1 − x·y/(‖x‖‖y‖)
)

var distanceNames = [...]string{"sqeuclidean", "euclidean", "cosine"}

// String is the name that flags and file headers use.
func (d Distance) String() string {
	if int(d) < len(distanceNames) {
		return distanceNames[d]
	}
	return fmt.Sprintf("Distance(%d)", d)
}

// ParseDistance is the inverse of [Distance.String].
func ParseDistance(s string) (Distance, error) {
	for d, name := range distanceNames {
		if s == name {
			return Distance(d), nil
		}
	}
	return 0, fmt.Errorf("unknown distance %q, want sqeuclidean, euclidean or cosine", s)
}

// Mining is the distance that decides which triplets are mined: float64 sums
// over the float32 values in order, each product rounded, so that every machine
// gets the same bits. Under Cosine it is 1 − x·y and expects rows of length 1.
// It panics when the lengths differ.
func (d Distance) Mining(x, y []float32) float64 {
	if len(x) != len(y) {
		panic(fmt.Sprintf("loss: distance of rows of %d and %d values", len(x), len(y)))
	}
	var sum float64
	if d == Cosine {
		for k, v := range x {
			sum += float64(float64(v) * float64(y[k])) // the conversion forbids a fused multiply-add
		}
		return 1 - sum
	}
	for k, v := range x {
		t := float64(v) - float64(y[k])
		sum += float64(t * t)
	}
	if d == Euclidean {
		return math.Sqrt(sum)
	}
	return sum
}
