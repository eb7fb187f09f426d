package stages

import (
	"context"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
)

// ScanConfig configures a [Scan]. The slices are kept and only read.
type ScanConfig struct {
	Mine       MineConfig
	Embeddings pipeline.Embeddings   // N×D, by sample id
	Labels     []int32               // N class numbers, or pipeline.Unknown
	Same       []int32               // N numbers of equal image bytes, −1 for none: see Duplicates; nil: not known, and the guard has nothing to compare
	Groups     []int32               // N numbers of groups, −1 for none; nil without such a column
	Generation int32                 // of the embeddings; part of the keyed hash
	BarePairs  bool                  // send pairs that were given no negative as well, as triplets with Negative −1: for Pairs
	Workers    int                   // blocks mined at a time; default GOMAXPROCS; decides no content
	Screen     ScreenBy              // default ScreenAuto; decides no content
	Block      int                   // anchors that share a pass over the data; default at most 2,048, fewer where they have many pairs; decides no content
	Progress   func(done, total int) // anchors behind us, on the goroutine of Run; may be nil
	Meter      *pipeline.Meter       // counts anchors under "mine"; may be nil
}

// A Scan mines a whole data set: every anchor-positive pair against every
// negative. It is a [pipeline.Source] of triplets in the order of their file:
// by anchor, positive and rank.
//
// Anchors go in blocks of neighbours, several blocks at a time. A block passes
// over the data once, tile by tile, and its memory is O(Block × positives ×
// PerPair). Distances are screened in float32 or bytes and decided in float64, so the
// triplets are those of the definition, for any Block and Workers.
type Scan struct {
	cfg        ScanConfig
	pool       *pool
	census     census
	candidates *pool      // the same pool, or a sample of it
	known      *census    // of the candidates
	screen     ScreenBy   // what the products are computed in
	counts     MineReport // of the data set, before mining
	blocks     sync.Pool  // of *block

	mu     sync.Mutex
	report MineReport // of the last run
}

// NewScan checks the settings and the data. A setting that makes no sense is a
// [*UsageError], a row that cannot be mined a [*SampleError].
func NewScan(cfg ScanConfig) (*Scan, error) {
	cfg.Mine.Scope = ScopeDataSet
	if err := checkSamples("ScanConfig", len(cfg.Labels), cfg.Same, cfg.Groups, cfg.Mine.Guards); err != nil {
		return nil, err
	}
	if cfg.Block < 0 {
		return nil, usage("ScanConfig.Block", "is %d, want 1 or more", cfg.Block)
	}
	s := &Scan{pool: &pool{emb: cfg.Embeddings, labels: cfg.Labels, same: cfg.Same, groups: cfg.Groups}}
	if err := s.census.take(s.pool, &s.counts); err != nil {
		return nil, err
	}
	if cfg.Mine.Rule.Listing() && cfg.Mine.PerPair == 0 && cfg.Mine.Pick.By != ByRank {
		// Everything else is checked first, with a PerPair that is allowed.
		rest := cfg.Mine
		rest.PerPair = 1
		rest, err := rest.Resolve()
		if err != nil {
			return nil, err
		}
		upTo := "up to "
		if rest.Rule == All {
			upTo = ""
		}
		return nil, usage("MineConfig.PerPair", "is not set, and rule %v would list %s%v triplets: want 1 or more a pair", rest.Rule, upTo, s.census.triplets(rest.Positives))
	}
	var err error
	if cfg.Mine, err = cfg.Mine.Resolve(); err != nil {
		return nil, err
	}
	if err := s.census.check(s.pool, cfg.Mine.Loss.Distance, &s.counts); err != nil {
		return nil, err
	}
	if cfg.Block == 0 {
		cfg.Block = s.census.block(cfg.Mine, len(cfg.Labels), pipeline.Workers(cfg.Workers))
	}
	s.cfg = cfg
	if err := s.choose(); err != nil {
		return nil, err
	}
	s.screen = s.chooseScreen(cfg.Screen)
	s.report = s.counts
	s.blocks.New = func() any {
		b := newBlock(cfg.Mine, cfg.Embeddings.Dim)
		b.bare = cfg.BarePairs
		if s.screen == ScreenInt8 {
			b.quantum = quantumOf(s.pool, s.candidates)
		}
		return b
	}
	return s, nil
}

// checkSamples checks what is known of n samples.
func checkSamples(config string, n int, same, groups []int32, g Guards) error {
	if same != nil && len(same) != n {
		return usage(config+".Same", "has %d numbers for %d samples", len(same), n)
	}
	if groups != nil && len(groups) != n {
		return usage(config+".Groups", "has %d numbers for %d samples", len(groups), n)
	}
	if g.SameGroup && groups == nil {
		return usage("MineConfig.Guards.SameGroup", "is set, but the data has no group column")
	}
	return nil
}

// block is how many of n anchors share a pass: so many that packing the
// candidates does not count, so few that what is kept of them stays near, and
// the same number for each of the workers as often.
func (c *census) block(m MineConfig, n, workers int) int {
	const most, entries = 2048, 1 << 18
	pairs := 1
	for class := range c.classes {
		pairs = max(pairs, int(c.size(class)-1))
	}
	if m.Positives > 0 {
		pairs = min(pairs, m.Positives)
	}
	each := pairs * (8 + max(m.PerPair, m.Pick.Last) + 2*m.Guards.SkipRanks)
	anchors := max(f32.TileRows, min(most, entries/each))
	rounds := max((n+anchors*workers-1)/(anchors*workers), min(4, n/(workers*128)), 1)
	anchors = (n + rounds*workers - 1) / (rounds * workers)
	return max(1, (anchors+f32.TileRows-1)/f32.TileRows) * f32.TileRows
}

// triplets is the number of valid triplets with at most q positives an anchor;
// all where q is AllPositives.
func (c *census) triplets(q int) *big.Int {
	total := new(big.Int)
	for class := range c.classes {
		n := c.size(class)
		pairs := max(n-1, 0)
		if q > 0 {
			pairs = min(pairs, int64(q))
		}
		t := big.NewInt(n * pairs) // both below 2³¹
		total.Add(total, t.Mul(t, big.NewInt(c.known-n)))
	}
	return total
}

// Settings are the settings with their defaults filled in.
func (s *Scan) Settings() MineConfig { return s.cfg.Mine }

// Pairs is the number of anchor-positive pairs that Run will look at.
func (s *Scan) Pairs() int64 {
	var total int64
	for class := range s.census.classes {
		n := s.census.size(class)
		pairs := max(n-1, 0)
		if q := s.cfg.Mine.Positives; q > 0 {
			pairs = min(pairs, int64(q))
		}
		total += n * pairs
	}
	return total
}

// Report is that of the last run, as far as it went; of the data before one.
func (s *Scan) Report() MineReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.report
}

// Run implements [pipeline.Source].
func (s *Scan) Run(ctx context.Context, out chan<- pipeline.MinedTriplet) error {
	done, err := s.settler(ctx)
	if err != nil {
		return err
	}
	defer done.end()
	for st, err := range pipeline.From(s.Stretches(0)).All(ctx) {
		if err != nil {
			return err
		}
		done.report.Add(&st.Report)
		for _, t := range st.Triplets {
			if !done.settle(&t) {
				continue
			}
			if err := pipeline.Send(ctx, out, t); err != nil {
				return err
			}
		}
		if s.cfg.Progress != nil {
			s.cfg.Progress(int(st.Next), len(s.cfg.Labels))
		}
	}
	return nil
}

// scanStage mines blocks, given the first anchor of each.
type scanStage struct{ *Scan }

// Run implements [pipeline.Stage].
func (s scanStage) Run(ctx context.Context, in <-chan int, out chan<- Stretch) error {
	return pipeline.Map(ctx, pipeline.MapConfig[int]{Workers: s.cfg.Workers}, in, out, s.mine)
}

// mine mines the block that begins at an anchor.
func (s *Scan) mine(ctx context.Context, start int) (Stretch, error) {
	end := min(start+s.cfg.Block, len(s.cfg.Labels))
	defer s.cfg.Meter.Timer("mine").Add(end-start, time.Now())
	b := s.blocks.Get().(*block)
	defer s.blocks.Put(b)
	key := mineKey(s.cfg.Mine.Seed, s.cfg.Generation)
	b.reset()
	for row := start; row < end; row++ {
		if l := s.pool.labels[row]; l != pipeline.Unknown {
			b.next().begin(key, s.pool, row, s.census.of(l), s.candidates)
		}
	}
	if err := b.pass(ctx, s.candidates, 0, len(s.candidates.labels)); err != nil {
		return Stretch{}, err
	}
	m := Stretch{Next: int64(end)}
	b.collect(&m.Report, s.known, func(a *search, p *pair, f found) {
		l := s.cfg.Mine.Loss
		if f == noNegative {
			m.Triplets = append(m.Triplets, pipeline.MinedTriplet{
				Anchor: a.id, Positive: p.id, Negative: -1,
				AnchorLabel: a.label, PositiveLabel: a.label, NegativeLabel: pipeline.Unknown,
				AP: float32(p.ap), Generation: s.cfg.Generation, Batch: -1,
			})
			return
		}
		m.Triplets = append(m.Triplets, pipeline.MinedTriplet{
			Anchor: a.id, Positive: p.id, Negative: f.id,
			AnchorLabel: a.label, PositiveLabel: a.label, NegativeLabel: s.candidates.labels[f.row],
			AP: float32(p.ap), AN: float32(f.d), Loss: float32(l.Of(p.ap, f.d)),
			Kind: l.Kind(p.ap, f.d), Generation: s.cfg.Generation, Batch: -1,
		})
	})
	return m, nil
}

// String describes the scan for logs.
func (s *Scan) String() string {
	return fmt.Sprintf("scan of %d samples: %v, %v", len(s.cfg.Labels), s.cfg.Mine.Rule, s.cfg.Mine.Pick)
}
