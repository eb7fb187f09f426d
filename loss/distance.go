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

// Mining4 is [Distance.Mining] from x to each of four rows, to the last bit:
// four sums side by side take little longer than one.
func (d Distance) Mining4(x, y0, y1, y2, y3 []float32) [4]float64 {
	y0, y1, y2, y3 = y0[:len(x)], y1[:len(x)], y2[:len(x)], y3[:len(x)]
	var s0, s1, s2, s3 float64
	if d == Cosine {
		for k, v := range x {
			v := float64(v)
			s0 += float64(v * float64(y0[k]))
			s1 += float64(v * float64(y1[k]))
			s2 += float64(v * float64(y2[k]))
			s3 += float64(v * float64(y3[k]))
		}
		return [4]float64{1 - s0, 1 - s1, 1 - s2, 1 - s3}
	}
	for k, v := range x {
		v := float64(v)
		t0, t1, t2, t3 := v-float64(y0[k]), v-float64(y1[k]), v-float64(y2[k]), v-float64(y3[k])
		s0 += float64(t0 * t0)
		s1 += float64(t1 * t1)
		s2 += float64(t2 * t2)
		s3 += float64(t3 * t3)
	}
	if d == Euclidean {
		return [4]float64{math.Sqrt(s0), math.Sqrt(s1), math.Sqrt(s2), math.Sqrt(s3)}
	}
	return [4]float64{s0, s1, s2, s3}
}
