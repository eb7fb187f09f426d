package stages

import (
	"encoding/json"
	"math"
)

// A Sketch is the distribution of many values ≥ 0 in little memory, such as
// distances: counts of values in buckets whose edges are 1/64 of a power of two
// apart, so that a quantile is within 0.8 % of a value of that rank. Sketches
// over different values add up, in any order, to the sketch over all of them.
// The zero Sketch is empty. It is for one goroutine at a time.
type Sketch struct {
	Count    int64   // finite values
	NaN      int64   // values that are NaN or infinite, and counted nowhere else
	Sum      float64 // of the finite values, added up in their order
	Min, Max float64 // of the finite values; 0 without any

	tiny    int64   // below the first bucket, and ≤ 0
	base    int     // bucket of counts[0]
	buckets []int64 // counts
}

// Values from 2^−40 to 2^40 have buckets; a float64's exponent and first six
// bits of mantissa number them.
const (
	sketchShift = 52 - 6
	sketchFirst = (1023 - 40) << 6
	sketchLast  = (1023+40)<<6 - 1
)

// Add counts v.
func (s *Sketch) Add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		s.NaN++
		return
	}
	if s.Count == 0 || v < s.Min {
		s.Min = v
	}
	if s.Count == 0 || v > s.Max {
		s.Max = v
	}
	s.Count++
	s.Sum += v
	bucket := int(math.Float64bits(v) >> sketchShift)
	if v <= 0 || bucket < sketchFirst {
		s.tiny++
		return
	}
	bucket = min(bucket, sketchLast)
	s.reach(bucket, bucket)
	s.buckets[bucket-s.base]++
}

// reach makes room for the buckets first … last.
func (s *Sketch) reach(first, last int) {
	if len(s.buckets) == 0 {
		s.base = first
	}
	if first < s.base {
		s.buckets = append(make([]int64, s.base-first, s.base-first+len(s.buckets)), s.buckets...)
		s.base = first
	}
	if n := last - s.base + 1; n > len(s.buckets) {
		s.buckets = append(s.buckets, make([]int64, n-len(s.buckets))...)
	}
}

// Merge counts what o has counted.
func (s *Sketch) Merge(o *Sketch) {
	s.NaN += o.NaN
	if o.Count == 0 {
		return
	}
	if s.Count == 0 {
		s.Min, s.Max = o.Min, o.Max
	}
	s.Min, s.Max = min(s.Min, o.Min), max(s.Max, o.Max)
	s.Count += o.Count
	s.Sum += o.Sum
	s.tiny += o.tiny
	if len(o.buckets) > 0 {
		s.reach(o.base, o.base+len(o.buckets)-1)
		for i, n := range o.buckets {
			s.buckets[o.base-s.base+i] += n
		}
	}
}

// Mean is that of the finite values; 0 without any.
func (s *Sketch) Mean() float64 { return s.Sum / math.Max(1, float64(s.Count)) }

// Quantile is a value that a share q of the finite values do not exceed, within
// 0.8 %; 0 without any. (Of values below 2^−40 it is Min.)
func (s *Sketch) Quantile(q float64) float64 {
	if s.Count == 0 {
		return 0
	}
	rank := int64(math.Ceil(min(max(q, 0), 1) * float64(s.Count)))
	switch {
	case rank <= 1:
		return s.Min
	case rank >= s.Count:
		return s.Max
	}
	seen := s.tiny
	if rank <= seen {
		return s.Min
	}
	for i, n := range s.buckets {
		if seen += n; seen >= rank {
			low := math.Float64frombits(uint64(s.base+i) << sketchShift)
			high := math.Float64frombits(uint64(s.base+i+1) << sketchShift)
			return min(max((low+high)/2, s.Min), s.Max)
		}
	}
	return s.Max
}

// MarshalJSON writes count, mean and quantiles.
func (s *Sketch) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count int64   `json:"count"`
		NaN   int64   `json:"nan,omitempty"`
		Mean  float64 `json:"mean"`
		Min   float64 `json:"min"`
		P1    float64 `json:"p1"`
		P10   float64 `json:"p10"`
		P50   float64 `json:"p50"`
		P90   float64 `json:"p90"`
		P99   float64 `json:"p99"`
		Max   float64 `json:"max"`
	}{s.Count, s.NaN, s.Mean(), s.Min, s.Quantile(0.01), s.Quantile(0.1), s.Quantile(0.5), s.Quantile(0.9), s.Quantile(0.99), s.Max})
}
