package stages

import (
	"cmp"
	"context"
	"slices"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// sample chooses n rows of known class, or all where there are fewer: as many
// of each class as of any other, or all that it has, and within a class those
// whose ids come first in an order by key. They are ascending.
func (c *census) sample(n int, key uint64) []int32 {
	bySize := make([]int, len(c.classes))
	for i := range bySize {
		bySize[i] = i
	}
	slices.SortStableFunc(bySize, func(i, j int) int { return cmp.Compare(c.size(i), c.size(j)) })
	var chosen []int32
	for i, class := range bySize {
		rows := slices.Clone(c.rows[c.starts[class]:c.starts[class+1]])
		share := min(len(rows), (n-len(chosen))/(len(bySize)-i)) // what the small ones leave is the larger ones'
		slices.SortFunc(rows, func(x, y int32) int {
			return cmp.Compare(f32.Hash(key, uint32(x)), f32.Hash(key, uint32(y)))
		})
		chosen = append(chosen, rows[:share]...)
	}
	slices.Sort(chosen)
	return chosen
}

// subset copies rows of p, whose rows are sample ids.
func (p *pool) subset(rows []int32) *pool {
	s := &pool{
		emb: pipeline.MakeEmbeddings(len(rows), p.emb.Dim), ids: make([]int64, len(rows)), labels: make([]int32, len(rows)),
		same: p.same, groups: p.groups,
	}
	for i, row := range rows {
		copy(s.emb.Row(i), p.emb.Row(int(row)))
		s.ids[i], s.labels[i] = int64(row), p.labels[row]
	}
	return s
}

// choose sets the candidates of the scan: all, or a sample.
func (s *Scan) choose() error {
	s.candidates, s.known = s.pool, &s.census
	if n := s.cfg.Mine.Candidates; n > 0 {
		s.candidates = s.pool.subset(s.census.sample(n, chain(mineKey(s.cfg.Mine.Seed, s.cfg.Generation), 1)))
		s.known = &census{}
		var none MineReport
		if err := cmp.Or(s.known.take(s.candidates, &none), s.known.check(s.candidates, s.cfg.Mine.Loss.Distance, &none)); err != nil {
			return err
		}
		s.counts.Candidates = int64(len(s.candidates.labels))
	}
	fit(s.pool, s.candidates, s.cfg.Mine.Loss.Distance)
	return nil
}

// see counts, for some of the anchors, how many negatives of the data set are in
// the bands of their pairs, and how many of those are candidates: what a sample
// of candidates sees of the bands. What a guard keeps out counts in neither, and
// without a sample there is nothing to count.
func (s *Scan) see(ctx context.Context) (inBand, seen int64, err error) {
	const anchors = 10 * f32.TileRows
	if s.candidates == s.pool {
		return 0, 0, nil
	}
	key := mineKey(s.cfg.Mine.Seed, s.cfg.Generation)
	rows := s.census.sample(anchors, chain(key, 2))
	whole := *s.pool // with norms of the same scale as the candidates'
	whole.norms = slices.Clone(whole.norms)
	fit(s.pool, &whole, s.cfg.Mine.Loss.Distance)
	if inBand, err = s.inBands(ctx, rows, key, &whole); err != nil {
		return 0, 0, err
	}
	seen, err = s.inBands(ctx, rows, key, s.candidates)
	return inBand, seen, err
}

// inBands is how many candidates are in the bands of anchors, of all pairs together.
func (s *Scan) inBands(ctx context.Context, anchors []int32, key uint64, candidates *pool) (n int64, err error) {
	b := newBlock(s.cfg.Mine, s.cfg.Embeddings.Dim)
	for _, row := range anchors {
		a := b.next()
		a.counts = true
		a.begin(key, s.pool, int(row), s.census.of(s.pool.labels[row]), candidates)
	}
	if err := b.pass(ctx, candidates, 0, len(candidates.labels)); err != nil {
		return 0, err
	}
	for _, a := range b.searches[:b.used] {
		for i := range a.pairs {
			n += a.pairs[i].inBand
		}
	}
	return n, nil
}
