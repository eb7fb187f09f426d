package stages

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// This file is the definition of mining, written from the words and as loops
// over triplets, to hold the miners against. It shares with them the keyed hash
// (pinned in pick_test.go) and the distance, and nothing else.

// A defined is a triplet of rows.
type defined struct {
	a, p, n int
	ap, an  float64
}

// define mines every anchor of anchors against candidates. cfg is resolved; a
// class cap is the caller's.
func define(cfg MineConfig, anchors, candidates *pool, generation int32) (list []defined, report MineReport) {
	dist := cfg.Loss.Distance.Mining
	for a, la := range anchors.labels {
		if la == pipeline.Unknown {
			continue
		}
		var positives []int
		nearest := math.Inf(1)
		for p, lp := range anchors.labels {
			if lp == la && anchors.id(p) != anchors.id(a) {
				positives = append(positives, p)
				nearest = min(nearest, dist(anchors.emb.Row(a), anchors.emb.Row(p)))
			}
		}
		for _, p := range choose(cfg, anchors, a, positives, generation) {
			ap := dist(anchors.emb.Row(a), anchors.emb.Row(p))
			report.Pairs++
			var guards GuardCounts
			var found []defined
			negatives := 0
			for n, ln := range candidates.labels {
				if ln == pipeline.Unknown || ln == la {
					continue
				}
				negatives++
				an := dist(anchors.emb.Row(a), candidates.emb.Row(n))
				if !inRule(cfg, ap, an) {
					continue
				}
				if count := guardOf(cfg, &guards, anchors, candidates, a, p, n, an, nearest); count != nil {
					*count++
					continue
				}
				found = append(found, defined{a, p, n, ap, an})
			}
			taken := pickOf(cfg, anchors, candidates, found, generation, &guards)
			switch {
			case len(taken) > 0:
			case negatives == 0:
				report.NoNegative++
			case guards != GuardCounts{}:
				report.AllGuarded++
			default:
				report.NoCandidate++
			}
			report.Guarded.add(guards)
			list = append(list, taken...)
		}
	}
	return list, report
}

func inRule(cfg MineConfig, ap, an float64) bool {
	hi := cfg.Loss.Edge(ap)
	switch cfg.Rule {
	case SemiHard:
		return ap < an && an < hi
	case Hard:
		return an <= ap
	case BatchAll, VGG:
		return an < hi
	case PML:
		return ap < an && an <= hi
	}
	return true
}

func choose(cfg MineConfig, pool *pool, a int, positives []int, generation int32) []int {
	d := func(p int) float64 { return cfg.Loss.Distance.Mining(pool.emb.Row(a), pool.emb.Row(p)) }
	h := func(p int) uint64 { return pairKey(mineKey(cfg.Seed, generation), pool.id(a), pool.id(p)) }
	slices.SortStableFunc(positives, func(p, q int) int {
		first := 0
		switch cfg.PositivesBy {
		case RandomPositives:
			first = cmp.Compare(h(p), h(q))
		case HardestPositives:
			first = cmp.Compare(d(q), d(p))
		case EasiestPositives:
			first = cmp.Compare(d(p), d(q))
		}
		return cmp.Or(first, cmp.Compare(pool.id(p), pool.id(q)))
	})
	if cfg.Positives > 0 {
		positives = positives[:min(len(positives), cfg.Positives)]
	}
	slices.Sort(positives)
	return positives
}

func guardOf(cfg MineConfig, counts *GuardCounts, anchors, candidates *pool, a, p, n int, an, nearest float64) *int64 {
	clash := func(numbers []int32) bool {
		if numbers == nil {
			return false
		}
		x, y, z := numbers[anchors.id(a)], numbers[anchors.id(p)], numbers[candidates.id(n)]
		return z >= 0 && (z == x || z == y)
	}
	g := cfg.Guards
	switch {
	case !g.AllowDuplicates && clash(candidates.same):
		return &counts.SameImage
	case g.SameGroup && clash(candidates.groups):
		return &counts.SameGroup
	case g.Floor > 0 && an < g.Floor:
		return &counts.Floor
	case g.Relative > 0 && an <= (1+g.Relative)*nearest:
		return &counts.Relative
	}
	return nil
}

func pickOf(cfg MineConfig, anchors, candidates *pool, found []defined, generation int32, counts *GuardCounts) []defined {
	id := func(t defined) int64 { return candidates.id(t.n) }
	by := func(first func(x, y defined) int) func(x, y defined) int {
		return func(x, y defined) int {
			return cmp.Or(first(x, y), cmp.Compare(id(x), id(y)), cmp.Compare(x.n, y.n))
		}
	}
	near := by(func(x, y defined) int { return cmp.Compare(x.an, y.an) })
	far := by(func(x, y defined) int { return cmp.Compare(y.an, x.an) })
	hash := func(t defined) uint64 {
		return uint64(f32.Hash(pairKey(mineKey(cfg.Seed, generation), anchors.id(t.a), anchors.id(t.p)), uint32(id(t))))
	}

	if cfg.Rule == TFA {
		var above, others []defined
		for _, t := range found {
			if t.an > t.ap {
				above = append(above, t)
			} else {
				others = append(others, t)
			}
		}
		slices.SortFunc(above, near)
		slices.SortFunc(others, far)
		for range cfg.Guards.SkipRanks {
			if len(above) > 0 {
				above = above[1:]
			} else if len(others) > 0 {
				others = others[1:]
			} else {
				break
			}
			counts.SkipRanks++
		}
		if len(above) == 0 {
			return others[:min(1, len(others))]
		}
		return above[:min(cfg.PerPair, len(above))]
	}
	slices.SortFunc(found, near)
	skip := min(cfg.Guards.SkipRanks, len(found))
	counts.SkipRanks += int64(skip)
	found = found[skip:]
	switch cfg.Pick.By {
	case Random:
		if cfg.PerPair == 0 {
			slices.SortFunc(found, by(func(x, y defined) int { return 0 }))
		} else {
			slices.SortFunc(found, by(func(x, y defined) int { return cmp.Compare(hash(x), hash(y)) }))
		}
	case Farthest:
		slices.SortFunc(found, far)
	case ByRank:
		found = found[min(cfg.Pick.First, len(found)):min(cfg.Pick.Last+1, len(found))]
	}
	if cfg.PerPair > 0 {
		found = found[:min(cfg.PerPair, len(found))]
	}
	return found
}

// A small is a random problem: rows on a coarse grid, or a hair's breadth from
// it, so that distances tie, hit band edges, and miss both by one rounding.
func small(rng *rand.Rand, dist loss.Distance, rows int, repeats bool) *pool {
	dim := 1 + rng.IntN(5)
	if rng.IntN(4) == 0 {
		dim = 16 + rng.IntN(20)
	}
	p := &pool{emb: pipeline.MakeEmbeddings(rows, dim), labels: make([]int32, rows)}
	hair := rng.IntN(2) == 0
	scale := [...]float32{1, 1, 1, 1e-3, 100, 1e19, 1e-23}[rng.IntN(7)] // the last two leave float32's range when squared
	classes := 1 + rng.IntN(5)
	for i := range rows {
		row := p.emb.Row(i)
		if i > 0 && rng.IntN(5) == 0 {
			copy(row, p.emb.Row(rng.IntN(i)))
		} else {
			for k := range row {
				row[k] = float32(rng.IntN(5)-2) * scale / 2
			}
		}
		if hair && rng.IntN(2) == 0 {
			k := rng.IntN(dim)
			row[k] = math.Nextafter32(row[k], 2*scale)
		}
		if dist == loss.Cosine {
			if err := finish(row, true); err != nil {
				row[0] = 1
			}
		}
		p.labels[i] = int32(rng.IntN(classes+1)) - 1
		if rng.IntN(3) > 0 {
			p.labels[i] = int32(rng.IntN(classes))
		}
	}
	samples := rows
	if repeats {
		p.ids = make([]int64, rows)
		samples = 2 * rows
		for i, id := range rng.Perm(samples)[:rows] {
			p.ids[i] = int64(id)
		}
		for range rows / 4 { // an image that is there twice
			i, j := rng.IntN(rows), rng.IntN(rows)
			p.ids[i], p.labels[i] = p.ids[j], p.labels[j]
			copy(p.emb.Row(i), p.emb.Row(j))
		}
	}
	numbers := func(n int) []int32 {
		s := make([]int32, samples)
		for i := range s {
			s[i] = int32(rng.IntN(n)) - 1
		}
		return s
	}
	if rng.IntN(2) == 0 {
		p.same = numbers(max(2, samples/2))
	}
	if rng.IntN(2) == 0 {
		p.groups = numbers(6)
	}
	return p
}

// settings are a random configuration that Resolve accepts.
func settings(rng *rand.Rand, dist loss.Distance, rule Rule, scope Scope, p *pool) MineConfig {
	cfg := MineConfig{
		Loss: loss.TripletMargin{Margin: []float64{0.25, 0.5, 1, 0.1}[rng.IntN(4)], Distance: dist},
		Rule: rule, Scope: scope, Seed: rng.Uint64(),
	}
	if i, j := rng.IntN(len(p.labels)), rng.IntN(len(p.labels)); rng.IntN(3) == 0 {
		// A margin that puts an edge exactly onto distances that occur.
		if m := dist.Mining(p.emb.Row(0), p.emb.Row(i)) - dist.Mining(p.emb.Row(0), p.emb.Row(j)); m > 0 {
			cfg.Loss.Margin = m
		}
	}
	if !rule.picksItself() {
		cfg.Pick = []Pick{{}, {By: Nearest}, {By: Farthest}, {By: ByRank, First: 1, Last: 2}, {By: ByRank, Last: 3}}[rng.IntN(5)]
	}
	cfg.PerPair = rng.IntN(4)
	if scope == ScopeDataSet && rule.Listing() {
		cfg.PerPair++
	}
	if rule != BatchHard {
		cfg.Positives = []int{AllPositives, 0, 1, 2, 3}[rng.IntN(5)]
		cfg.PositivesBy = PositivesBy(rng.IntN(3))
	}
	g := &cfg.Guards
	g.AllowDuplicates = rng.IntN(4) == 0
	g.SameGroup = p.groups != nil && rng.IntN(2) == 0
	if rng.IntN(3) == 0 {
		g.Floor = dist.Mining(p.emb.Row(0), p.emb.Row(rng.IntN(len(p.labels))))
		g.Floor = max(g.Floor, 0)
	}
	if rng.IntN(3) == 0 {
		g.Relative = []float64{0.05, 0.5, 1}[rng.IntN(3)]
	}
	g.SkipRanks = max(0, rng.IntN(5)-2)
	g.AnchorCap = max(0, rng.IntN(12)-8)
	g.NegativeCap = max(0, rng.IntN(12)-8)
	g.ClassCap = max(0, rng.IntN(12)-8)
	resolved, err := cfg.Resolve()
	if err != nil {
		panic(fmt.Sprintf("%+v: %v", cfg, err))
	}
	return resolved
}

// capped drops what the caps drop from triplets in file order.
func capped(cfg MineConfig, candidates *pool, list []defined, report *MineReport) []defined {
	anchors, negatives, classes := map[int]int{}, map[int64]int{}, map[int32]int{}
	full := func(limit, n int) bool { return limit > 0 && n >= limit }
	g, c := cfg.Guards, &report.Guarded
	return slices.DeleteFunc(list, func(t defined) bool {
		id, label := candidates.id(t.n), candidates.labels[t.n]
		switch {
		case full(g.AnchorCap, anchors[t.a]):
			c.AnchorCap++
		case full(g.NegativeCap, negatives[id]):
			c.NegativeCap++
		case full(g.ClassCap, classes[label]):
			c.ClassCap++
		default:
			anchors[t.a]++
			negatives[id]++
			classes[label]++
			return false
		}
		return true
	})
}
