package stages

import (
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/loss/f32"
)

// A ScreenBy says what the products that screen candidates are computed in. It
// decides no content: what the screen is not sure of is decided in float64.
type ScreenBy uint8

const (
	ScreenAuto    ScreenBy = iota // bytes where that pays, by the rule, the machine, and how much lies in the bands
	ScreenFloat32                 // float32
	ScreenInt8                    // bytes: four times the rate, where the machine has them, and a wider bound; float32 where rows of more than 4,096 values or of no ordinary size rule them out
)

var screenNames = [...]string{"auto", "f32", "int8"}

// String is the name that flags use.
func (s ScreenBy) String() string {
	if int(s) < len(screenNames) {
		return screenNames[s]
	}
	return fmt.Sprintf("ScreenBy(%d)", uint8(s))
}

// ParseScreen is the inverse of [ScreenBy.String].
func ParseScreen(s string) (ScreenBy, error) {
	for by, name := range screenNames {
		if s == name {
			return ScreenBy(by), nil
		}
	}
	return 0, fmt.Errorf("unknown screen %q, want auto, f32 or int8", s)
}

// A quantum is the step of the bytes that rows are made of; 0 where they are not.
type quantum float64

// quantumOf is that of two pools, the same for all rows.
func quantumOf(anchors, candidates *pool) quantum {
	return quantum(max(anchors.peak, candidates.peak)) / 127
}

// coarse bounds the length by which a row of so many values is off as bytes: half
// a step a value, and the rounding of the product before it is rounded to a byte.
func (q quantum) coarse(dim int) float64 {
	return float64(q) * (0.5 + 127*4*roundoff) * math.Sqrt(float64(dim))
}

// inverse is what rows are multiplied by.
func (q quantum) inverse() float32 { return float32(1 / float64(q)) }

// maxQuantised is the most dimensions whose products of bytes are exact in
// float32 but for one rounding, which the bound has.
const maxQuantised = 4096

// bytes packs the rows of a slab as bytes.
func (s *slab) bytes(rows []float32, dim, wide int, q quantum) {
	s.quantised = resize(s.quantised, len(rows))
	f32.Quantise(s.quantised, rows, q.inverse())
	s.byteColumns = resize(s.byteColumns, wide*4*f32.Quads(dim))
	s.correction = resize(s.correction, wide)
	f32.PackColumnsInt8(s.byteColumns, s.correction, s.quantised, dim)
}

// chooseScreen is the screen of the scan: where it is left to us, bytes for
// picks by hash, which ask for few distances, unless much more of the
// candidates then has to be looked at. What lies in the bands is measured with
// some anchors and candidates from all over the data set.
func (s *Scan) chooseScreen(by ScreenBy) ScreenBy {
	able := s.candidates.scale == 1 && s.pool.emb.Dim <= maxQuantised && max(s.pool.peak, s.candidates.peak) > 0
	if by == ScreenFloat32 || !able {
		return ScreenFloat32
	}
	if by == ScreenInt8 {
		return ScreenInt8
	}
	b := newBlock(s.cfg.Mine, s.pool.emb.Dim)
	b.quantum = quantumOf(s.pool, s.candidates)
	key := mineKey(s.cfg.Mine.Seed, s.cfg.Generation)
	for _, row := range s.census.sample(4*f32.TileRows, chain(key, 3)) {
		b.next().begin(key, s.pool, int(row), s.census.of(s.pool.labels[row]), s.candidates)
	}
	b.pack(1)
	if !f32.HasInt8() || s.pool.emb.Dim < 64 || len(b.active) == 0 || !b.active[0].sifts {
		return ScreenFloat32
	}
	const parts = 8
	looked, hits, n, rows := 0, 0, len(s.candidates.labels), slabRows(b.dim)
	for i := range parts {
		from := i * max(0, n-rows) / parts
		st := &b.slab
		st.load(s.candidates, &s.cfg.Mine.Guards, from, min(from+rows, n), b.quantum)
		b.each(func(a *search, values []float32, i int) {
			looked += len(values)
			hits += len(a.look(values, st.hits[i]))
		})
	}
	if float64(hits) > 0.3*float64(looked) {
		return ScreenFloat32
	}
	return ScreenInt8
}
