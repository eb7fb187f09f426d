package stages

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// Snapshots hands out the embeddings of the whole data set. A [Cache] does.
type Snapshots interface {
	// Snapshot is the generation that the batch of that number uses.
	Snapshot(ctx context.Context, batch int64) (*Snapshot, error)
}

// MinerConfig configures a [Miner]. The slices are kept and only read.
type MinerConfig struct {
	Mine      MineConfig
	Same      []int32                               // by sample id: numbers of equal image bytes, −1 for none (see Duplicates); nil: not known
	Groups    []int32                               // by sample id: numbers of groups, −1 for none; nil without such a column
	Labels    []int32                               // by sample id; ScopeDataSet only, and required there
	Snapshots Snapshots                             // ScopeDataSet only, and required there
	BarePairs bool                                  // list pairs that were given no negative as well, as triplets with Negative −1: for Mined and Pairs, never for a loss
	Workers   int                                   // ScopeDataSet only: parts of the data set looked at at a time; default GOMAXPROCS; decides no content
	Meter     *pipeline.Meter                       // counts images under "mine"; may be nil
	Observe   func(b *pipeline.Batch, r MineReport) // called with every batch that was mined, which it does not keep, and the report of it alone; may be nil
}

// A Miner gives each batch its Triplets, by its Embeddings: positions, in
// order of anchor, positive and rank. It comes behind [Embed].
//
// In ScopeBatch, anchors, positives and negatives are the images of the batch.
// An image that is there twice is a candidate twice, and never its own positive.
// So it may take up two of a pair's PerPair triplets, which [Mined] makes one.
//
// In ScopeDataSet, anchors and positives are the images of the batch and
// negatives those of the whole data set, from the snapshot that belongs to the
// batch's number. A mined negative that is not in the batch joins it: ids,
// labels and embeddings from position P·K on, each once, by ascending id, and
// Extra counts them. One that is in the batch is named by its first position there.
type Miner struct {
	cfg   MinerConfig
	whole *pool     // ScopeDataSet: the data set, with the embeddings of from
	from  *Snapshot // whose rows have been checked

	images  pool     // the batch
	parts   []*block // one for each part of the candidates
	members census   // of the batch
	known   census   // of the candidates: the batch or the data set
	place   map[int64]int32
	extra   []int64
	caps    *caps

	mu     sync.Mutex
	report MineReport
}

// NewMiner checks the settings. One that makes no sense is a [*UsageError].
func NewMiner(cfg MinerConfig) (*Miner, error) {
	var err error
	if cfg.Mine, err = cfg.Mine.Resolve(); err != nil {
		return nil, err
	}
	if cfg.Mine.Candidates > 0 {
		return nil, usage("MineConfig.Candidates", "is %d, but only a Scan chooses among candidates", cfg.Mine.Candidates)
	}
	m := &Miner{cfg: cfg, place: map[int64]int32{}, caps: newCaps(cfg.Mine.Guards)}
	if cfg.Mine.Guards.SameGroup && cfg.Groups == nil {
		return nil, usage("MineConfig.Guards.SameGroup", "is set, but the data has no group column")
	}
	if cfg.Mine.Scope == ScopeBatch {
		return m, nil
	}
	if cfg.Snapshots == nil {
		return nil, usage("MinerConfig.Snapshots", "is nil, want the cache that scope dataset looks for negatives in")
	}
	if cfg.Labels == nil {
		return nil, usage("MinerConfig.Labels", "is nil, want the labels of the data set for scope dataset")
	}
	if err := checkSamples("MinerConfig", len(cfg.Labels), cfg.Same, cfg.Groups, cfg.Mine.Guards); err != nil {
		return nil, err
	}
	m.whole = &pool{labels: cfg.Labels, same: cfg.Same, groups: cfg.Groups}
	return m, m.known.take(m.whole, &MineReport{})
}

// Settings are the settings with their defaults filled in.
func (m *Miner) Settings() MineConfig { return m.cfg.Mine }

// Report is the sum over the batches so far.
func (m *Miner) Report() MineReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.report
}

// Run implements [pipeline.Stage].
func (m *Miner) Run(ctx context.Context, in <-chan *pipeline.Batch, out chan<- *pipeline.Batch) error {
	return m.run(ctx, in, func(b *pipeline.Batch, _ *MineReport) error { return pipeline.Send(ctx, out, b) })
}

// run mines each batch and hands it to send with its own report.
func (m *Miner) run(ctx context.Context, in <-chan *pipeline.Batch, send func(*pipeline.Batch, *MineReport) error) error {
	timer := m.cfg.Meter.Timer("mine")
	for b, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		start := time.Now()
		var report MineReport
		if err := m.mine(ctx, b, &report); err != nil {
			return err
		}
		timer.Add(len(b.IDs)-b.Extra, start)
		if err := send(b, &report); err != nil {
			return err
		}
	}
	return nil
}

// Mine gives b its triplets: what Run does with each batch. It is called by
// one goroutine at a time.
func (m *Miner) Mine(ctx context.Context, b *pipeline.Batch) error {
	return m.mine(ctx, b, new(MineReport))
}

// mine is Mine, and counts b in an empty report.
func (m *Miner) mine(ctx context.Context, b *pipeline.Batch, report *MineReport) error {
	m.images = pool{emb: b.Embeddings, ids: b.IDs, labels: b.Labels, same: m.cfg.Same, groups: m.cfg.Groups, squares: m.images.squares, norms: m.images.norms}
	if err := m.checkIDs(b); err != nil {
		return err
	}
	if err := m.members.take(&m.images, report); err != nil {
		return err
	}
	if err := m.members.check(&m.images, m.cfg.Mine.Loss.Distance, report); err != nil {
		return err
	}
	candidates, known, parts := &m.images, &m.members, 1
	if m.whole != nil {
		if err := m.refresh(ctx, b); err != nil {
			return err
		}
		candidates, known, parts = m.whole, &m.known, pipeline.Workers(m.cfg.Workers)
	}
	if m.images.emb.Dim != candidates.emb.Dim {
		return fmt.Errorf("stages: the batch has embeddings of %d values, the cache of %d", m.images.emb.Dim, candidates.emb.Dim)
	}
	fit(&m.images, candidates, m.cfg.Mine.Loss.Distance)
	if err := m.search(ctx, candidates, b.Generation, parts); err != nil {
		return err
	}
	m.emit(b, report, known)
	if m.cfg.Observe != nil {
		m.cfg.Observe(b, *report)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report.Add(report)
	return nil
}

// refresh sees to it that m.whole holds the generation of b.
func (m *Miner) refresh(ctx context.Context, b *pipeline.Batch) error {
	snapshot, err := m.cfg.Snapshots.Snapshot(ctx, b.Number)
	if err != nil {
		return err
	}
	b.Generation = snapshot.Generation
	if snapshot == m.from {
		return nil
	}
	m.from, m.whole.emb = nil, snapshot.Embeddings // nil until they have been checked
	if err := m.known.check(m.whole, m.cfg.Mine.Loss.Distance, &MineReport{}); err != nil {
		return err
	}
	m.from = snapshot
	return nil
}

// checkIDs returns an error for an image that Labels, Same or Groups do not
// reach, or that is not in the batch as it is in them.
func (m *Miner) checkIDs(b *pipeline.Batch) error {
	if len(b.IDs) != len(b.Labels) {
		return fmt.Errorf("stages: a batch of %d sample ids and %d labels", len(b.IDs), len(b.Labels))
	}
	for at, id := range b.IDs {
		for _, numbers := range [...][]int32{m.cfg.Labels, m.cfg.Same, m.cfg.Groups} {
			if id < 0 || numbers != nil && id >= int64(len(numbers)) {
				return &SampleError{id, fmt.Errorf("it is not one of the data set's %d", len(numbers))}
			}
		}
		if m.whole != nil && m.whole.labels[id] != b.Labels[at] {
			return &SampleError{id, fmt.Errorf("label is %d in the batch and %d in the data set", b.Labels[at], m.whole.labels[id])}
		}
	}
	return nil
}

// search passes over the candidates in parts, each worker with partial results
// of its own, and merges these into the first.
func (m *Miner) search(ctx context.Context, candidates *pool, generation int32, parts int) error {
	if len(m.parts) > 0 && m.parts[0].dim != candidates.emb.Dim {
		m.parts = nil
	}
	for len(m.parts) < parts {
		k := newBlock(m.cfg.Mine, candidates.emb.Dim)
		k.bare = m.cfg.BarePairs
		m.parts = append(m.parts, k)
	}
	key, n := mineKey(m.cfg.Mine.Seed, generation), len(candidates.labels)
	if parts == 1 {
		return m.part(ctx, m.parts[0], key, candidates, 0, n)
	}
	err := pipeline.ForEach(ctx, parts, parts, func(ctx context.Context, i int) error {
		return m.part(ctx, m.parts[i], key, candidates, i*n/parts, (i+1)*n/parts)
	})
	if err != nil {
		return err
	}
	for _, k := range m.parts[1:parts] {
		m.parts[0].merge(k)
	}
	return nil
}

// part shows every image of the batch the candidates in rows from … to−1.
func (m *Miner) part(ctx context.Context, k *block, key uint64, candidates *pool, from, to int) error {
	k.reset()
	for row, l := range m.images.labels {
		if l != pipeline.Unknown {
			k.next().begin(key, &m.images, row, m.members.of(l), candidates)
		}
	}
	return k.pass(ctx, candidates, from, to)
}

// emit writes what was found to b.
func (m *Miner) emit(b *pipeline.Batch, report *MineReport, known *census) {
	l := m.cfg.Mine.Loss
	m.caps.reset()
	b.Triplets, m.extra = b.Triplets[:0], m.extra[:0]
	labels := b.Labels
	if m.whole != nil {
		labels = m.whole.labels
	}
	m.parts[0].collect(report, known, func(a *search, p *pair, f found) {
		if f == noNegative {
			b.Triplets = append(b.Triplets, pipeline.Triplet{Anchor: int32(a.row), Positive: int32(p.row), Negative: -1, AP: float32(p.ap)})
			return
		}
		if !m.caps.admits(int64(a.row), f.id, labels[f.row], &report.Guarded) {
			return
		}
		t := pipeline.Triplet{
			Anchor: int32(a.row), Positive: int32(p.row), Negative: f.row,
			AP: float32(p.ap), AN: float32(f.d), Loss: float32(l.Of(p.ap, f.d)), Kind: l.Kind(p.ap, f.d),
		}
		report.triplet(t.AP, t.AN, t.Kind)
		b.Triplets = append(b.Triplets, t)
		if m.whole != nil {
			m.extra = append(m.extra, f.id)
		}
	})
	if m.whole != nil {
		m.join(b)
	}
}

// join adds the mined negatives to b, and makes positions of their sample ids.
func (m *Miner) join(b *pipeline.Batch) {
	clear(m.place)
	for at, id := range b.IDs {
		if _, there := m.place[id]; !there {
			m.place[id] = int32(at)
		}
	}
	slices.Sort(m.extra)
	for _, id := range m.extra {
		if _, there := m.place[id]; there {
			continue
		}
		m.place[id] = int32(len(b.IDs))
		b.IDs = append(b.IDs, id)
		b.Labels = append(b.Labels, m.whole.labels[id])
		b.Embeddings.Data = append(b.Embeddings.Data, m.whole.emb.Row(int(id))...)
		b.Extra++
	}
	for i := range b.Triplets {
		if n := b.Triplets[i].Negative; n >= 0 {
			b.Triplets[i].Negative = m.place[int64(n)]
		}
	}
}
