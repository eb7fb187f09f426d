package stages

import (
	"cmp"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// A pool is samples with their embeddings: those of a batch, or a data set.
type pool struct {
	emb          pipeline.Embeddings // a row for each sample
	ids          []int64             // by row; nil where the row is the sample id
	labels       []int32             // by row
	same, groups []int32             // by sample id; nil where not known

	// What the tile product needs, from census.check and fit.
	squares []float64 // by row: ‖x‖²
	norms   []float32 // by row: what a product begins with
	peak    float32   // greatest |value|
	scale   float64   // rows are multiplied by it, a power of 2; 1 for all but the strangest
}

func (p *pool) id(row int) int64 {
	if p.ids == nil {
		return int64(row)
	}
	return p.ids[row]
}

// number is numbers[id], and −1 where that says nothing.
func number(numbers []int32, id int64) int32 {
	if numbers == nil {
		return -1
	}
	return numbers[id]
}

// equal reports whether two numbers of [number] are known and equal.
func equal(a, b int32) bool { return a >= 0 && a == b }

// A search looks for the negatives of one anchor's pairs: begin says of which
// anchor, look and take are shown every candidate once, in any order, and chosen
// is what was found. Its memory is O(pairs × negatives of a pair), whatever
// the number of candidates, and is used again by the next begin.
type search struct {
	cfg    MineConfig // resolved
	screen screen
	direct struct{ rel, abs float64 } // bounds of one distance in float32
	key    uint64                     // mineKey of this generation

	anchors, candidates *pool
	row                 int // of the anchor, in anchors
	id                  int64
	label               int32
	point               []float32
	same, group         int32
	nearest             float64 // distance to the nearest positive
	reach               float32 // values above it are surely beyond the distance guards

	plain  bool // no guard looks at distances: what a cut-off keeps out need not be seen
	sifts  bool // and the pick is by hash alone
	counts bool // only count what is in the bands
	fresh  int  // how many hits to sift at a time, doubled each time; 0 for all

	// The pairs by d_ap. So both ends of their bands grow with the index, and
	// the pairs whose band may hold a value are neighbours: from the first whose
	// outHi it does not exceed to the last whose outLo it reaches. (outLo itself
	// may fall where d_ap is next to 0; but what is below one is below the lower
	// end of that band, and so of all that follow.)
	pairs        []pair
	outLo, outHi []float32   // of the bands, widened by what the screen may be wrong
	sieves       []f32.Sieve // the same, narrowed to the cut-off of what was found so far
	lo, hi       float32     // of all sieves

	positives  top // scratch of begin
	peers      []found
	cached     int // the candidate whose mining distance is distance; −1 for none
	distance   float64
	asked      questions
	second     int     // the candidate that closer is of; −1 for none
	closer     float64 // its squared distance, or product under Cosine, in float32
	list, skip []found // scratch of chosen
}

// A pair is an anchor and a positive, and what was found for them so far.
type pair struct {
	row         int // of the positive, in anchors
	id          int64
	ap          float64
	key         uint64
	same, group int32

	band
	inLo, inHi  float32 // inside these a value is surely in the band
	apLow, apHi float32 // brackets d_ap: TFA

	best    top       // in the order of the hash; SkipRanks more than are asked for
	order   shortlist // in an order by distance, where the pick is one; SkipRanks more
	near    shortlist // the first SkipRanks by distance, where the pick is in another order
	nearEnd float32   // values above it are surely not among them
	guarded GuardCounts
	inBand  int64 // where a search only counts
}

// newSearch returns a search in rows of dim values.
func newSearch(cfg MineConfig, dim int) *search {
	s := &search{cfg: cfg, screen: newScreen(cfg.Loss.Distance, dim)}
	if cfg.Loss.Distance == loss.Cosine {
		s.direct.rel, s.direct.abs = f32.DotError(dim)
	} else {
		s.direct.rel, s.direct.abs = f32.SqEuclideanError(dim)
	}
	return s
}

// begin starts on the anchor at a row of anchors. members are the rows of its
// class, ascending; those with the anchor's sample id are passed over.
func (s *search) begin(key uint64, anchors *pool, row int, members []int32, candidates *pool) {
	s.key, s.anchors, s.candidates = key, anchors, candidates
	s.row, s.id, s.label, s.point = row, anchors.id(row), anchors.labels[row], anchors.emb.Row(row)
	s.same, s.group = number(anchors.same, s.id), number(anchors.groups, s.id)
	s.cached, s.second, s.asked.n = -1, -1, 0
	s.screen.aim(anchors.squares[row], candidates.scale)
	s.pair(members)
	s.outLo, s.outHi, s.sieves = s.outLo[:0], s.outHi[:0], s.sieves[:0]
	for i := range s.pairs {
		p := &s.pairs[i]
		low, inLo := s.screen.around(p.lo)
		inHi, high := s.screen.around(p.hi)
		high = min(high, math.MaxFloat32) // +Inf is no candidate
		p.inLo, p.inHi = inLo, inHi
		p.apLow, p.apHi = s.screen.around(p.ap)
		s.outLo, s.outHi = append(s.outLo, low), append(s.outHi, high)
		s.sieves = append(s.sieves, f32.Sieve{Lo: low, Hi: high, Key: p.key, Cut: math.MaxUint32})
	}
	g := &s.cfg.Guards
	_, s.reach = s.screen.around(max(g.Floor, s.relativeEdge()))
	s.plain = g.Floor == 0 && g.Relative == 0 && !s.skipsApart() && !s.counts
	s.sifts = s.plain && s.cfg.Pick.By == Random && s.keep() > 0 && len(s.pairs) <= 256
	s.fresh = 4
	s.narrow()
}

// narrow sets lo and hi. Edges grow with the index only before anything is cut off.
func (s *search) narrow() {
	s.lo, s.hi = float32(math.Inf(1)), float32(math.Inf(-1))
	for i := range s.sieves {
		s.lo, s.hi = min(s.lo, s.sieves[i].Lo), max(s.hi, s.sieves[i].Hi)
	}
}

// pair chooses the positives and makes s.pairs of them.
func (s *search) pair(members []int32) {
	limit := max(s.cfg.Positives, 0)
	s.positives.reset(limit)
	everyDistance := limit == 0 || s.cfg.PositivesBy != RandomPositives || s.cfg.Guards.Relative > 0
	s.nearest, s.peers = math.Inf(1), s.peers[:0]
	ours := chain(s.key, uint64(s.id)) // pairKey's first half
	for _, m := range members {
		if id := s.anchors.id(int(m)); id != s.id {
			f := found{id: id, row: m}
			if s.cfg.PositivesBy == RandomPositives {
				f.key = chain(ours, uint64(id))
			}
			if everyDistance {
				s.peers = append(s.peers, f)
			} else {
				s.positives.add(f)
			}
		}
	}
	if everyDistance {
		s.measure(s.peers)
		for _, f := range s.peers {
			s.nearest = min(s.nearest, f.d)
			switch s.cfg.PositivesBy {
			case HardestPositives:
				f.key = ^distanceKey(f.d)
			case EasiestPositives:
				f.key = distanceKey(f.d)
			}
			s.positives.add(f)
		}
	}
	chosen := s.positives.list
	if !everyDistance {
		s.measure(chosen)
	}
	slices.SortFunc(chosen, func(x, y found) int { return cmp.Or(cmp.Compare(x.d, y.d), cmp.Compare(x.row, y.row)) })
	if n := len(chosen); n <= cap(s.pairs) {
		s.pairs = s.pairs[:n] // their lists keep their memory
	} else {
		s.pairs = append(s.pairs[:cap(s.pairs)], make([]pair, n-cap(s.pairs))...)
	}
	for i, f := range chosen {
		p := &s.pairs[i]
		*p = pair{
			row: int(f.row), id: f.id, ap: f.d,
			key:  chain(ours, uint64(f.id)),
			same: number(s.anchors.same, f.id), group: number(s.anchors.groups, f.id),
			band: bandOf(s.cfg.Rule, s.cfg.Loss, f.d),
			best: p.best, order: p.order, near: p.near, nearEnd: float32(math.Inf(1)),
		}
		p.best.reset(s.keep())
		p.order.reset(s.keep())
		p.near.reset(s.cfg.Guards.SkipRanks)
	}
}

// measure gives each of anchors its mining distance from the anchor, four at a time.
func (s *search) measure(list []found) {
	row := func(f found) []float32 { return s.anchors.emb.Row(int(f.row)) }
	i := 0
	for ; i+4 <= len(list); i += 4 {
		l := list[i:][:4]
		for j, d := range s.cfg.Loss.Distance.Mining4(s.point, row(l[0]), row(l[1]), row(l[2]), row(l[3])) {
			l[j].d = d
		}
	}
	for ; i < len(list); i++ {
		list[i].d = s.cfg.Loss.Distance.Mining(s.point, row(list[i]))
	}
}

// keep is how many candidates a pair has to remember; 0 for all of them.
func (s *search) keep() int {
	switch {
	case s.cfg.Pick.By == ByRank:
		return s.cfg.Pick.Last + 1 + s.cfg.Guards.SkipRanks
	case s.cfg.PerPair == 0:
		return 0
	default:
		return s.cfg.PerPair + s.cfg.Guards.SkipRanks
	}
}

func (s *search) relativeEdge() float64 {
	if s.cfg.Guards.Relative == 0 {
		return math.Inf(-1)
	}
	return (1 + s.cfg.Guards.Relative) * s.nearest
}
