// Package stages holds what happens to a batch on its way, one stage a file: it
// is planned, embedded, mined, fetched, decoded and given its loss.
package stages

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/tercet-ml/tercet/pipeline"
)

// PlanConfig configures a [Plan].
type PlanConfig struct {
	Labels []int32 // class number of each row by sample id, or pipeline.Unknown; kept, and not to be changed
	Data   string  // digest of the data set; default: a digest of Labels
	P      int     // classes in a batch: 1 or more
	K      int     // images of each: 2 or more, an anchor and its positives
	Short  Short   // what happens to classes with fewer than K images; default Repeat
	Seed   uint64
	Steps  int64 // batches in an epoch; default: [Plan.Steps]
	// Where the images do not fit in Window bytes of memory, batches are planned
	// over windows of row groups (see [Plan]).
	Layout pipeline.Layout // of the data set: where Window is set
	Window int64           // budget, in bytes, of encoded images: the current and the next window; 0 for no limit

	Config string // digest of what else decides the content of a batch, such as the miner's rule; part of every State

	// One of several trainers that step together takes the batches whose number
	// is Rank modulo World. Neither is part of a State: see [Plan].
	Rank  int // from 0
	World int // default 1
}

// maxBatch is the most images a batch may have.
const maxBatch = 1 << 24

// passMemory is how many bytes of permutations a plan remembers.
const passMemory = 32 << 20

// A Plan says which images are in which batch: batch b is a pure function of
// the labels, P, K, Short, the seed and b, and holds P different classes and K
// different images of each (see [Short] for smaller classes).
//
// Classes come by cycles: a cycle of C batches' places, for C planned classes,
// holds each class once. The images of a class come by passes in the same
// manner: none is seen again before all the others of its class were seen. Where
// a batch lies across two cycles, or its images across two passes, the later
// one is rearranged just enough for the batch to hold no class and no image twice.
//
// Batches are numbered on and on; an epoch is Steps of them, and neither cycles
// nor passes start afresh with it. Rows of unknown class, and classes with a
// single image, which can be no pair, are never planned: [Plan.Report] counts them.
//
// Where Window is set and the images of Layout do not fit in it, an epoch is cut
// into windows of row groups from many places, and each batch is made of one
// window: P classes with K different images. A row group is in one window of an
// epoch, and a row in one batch at most. Rows that do not fit into batches of
// their window are left out of that epoch: [Plan.Windows] counts them by reason,
// and each epoch leaves out others. Only a class that has fewer than K images in
// all of the data set is repeated, as Short says.
//
// A Plan is a [pipeline.Source] of the batches of one epoch, or of what is left
// of it after the state it was resumed at. It does not change, and its methods
// may be called from any goroutine.
//
// With ranks it is a source of one rank's batches. A step is World batches, one
// for each rank; the batches at the end of an epoch that do not fill a step are
// left out. So all ranks have equally many, no batch has two, and together they
// are those of a world of 1. A State is one between two steps and the same on
// every rank, and any world may go on from it; a smaller one first takes what was
// left out at the end of an epoch, where it fills a step of its own.
type Plan struct {
	*planned
	next, end int64 // the batches Run sends; −1 and −1 for an epoch there is not
}

// planned is what the plans of all epochs share.
type planned struct {
	cfg    PlanConfig // Data and Steps filled in
	ranks  ranks
	digest string // of the configuration
	report PlanReport
	planClasses
	windows *windows // nil where all images fit; guarded by mu

	mu           sync.Mutex // guards what follows: memory that decides nothing
	dealer       *dealer    // deck 0 holds the classes, deck 1+j the images of class j
	hand, images []uint32
}

// NewPlan checks cfg and returns the plan of epoch 0.
func NewPlan(cfg PlanConfig) (*Plan, error) {
	if cfg.P < 1 {
		return nil, usage("PlanConfig.P", "is %d, want 1 class or more", cfg.P)
	}
	if cfg.K < 2 {
		return nil, usage("PlanConfig.K", "is %d, want 2 images or more: an anchor and its positive", cfg.K)
	}
	if cfg.P > maxBatch/cfg.K {
		return nil, usage("PlanConfig.P", "is %d and K is %d, want at most %d images in a batch", cfg.P, cfg.K, maxBatch)
	}
	if cfg.Short > Drop {
		return nil, usage("PlanConfig.Short", "is %d, want Repeat or Drop", cfg.Short)
	}
	if cfg.Steps < 0 || cfg.Steps > lastNumber(cfg) {
		return nil, usage("PlanConfig.Steps", "is %d, want 0 (the default) to %d", cfg.Steps, lastNumber(cfg))
	}
	ranks, err := newRanks(cfg.Rank, cfg.World)
	if err != nil {
		return nil, err
	}
	classes, report, err := sortClasses(cfg)
	if err != nil {
		return nil, err
	}
	if err := report.enough(cfg); err != nil {
		return nil, err
	}
	w, err := cfg.windows(&classes, report)
	if err != nil {
		return nil, err
	}
	if cfg.Steps == 0 {
		cfg.Steps = defaultSteps(cfg, report)
		if w != nil {
			cfg.Steps = w.length
		}
	}
	if cfg.Steps < ranks.world {
		return nil, usage("PlanConfig.World", "is %d, but an epoch has only %d batches, want one for each rank: raise Steps", ranks.world, cfg.Steps)
	}
	if cfg.Data == "" {
		cfg.Data = digestLabels(cfg.Labels)
	}
	var window int64 // where it decides nothing it is no part of the digest
	var layout string
	if w != nil {
		window, layout = cfg.Window, pipeline.Digest("layout", cfg.Layout)
	}
	p := &planned{
		cfg:         cfg,
		ranks:       ranks,
		report:      report,
		planClasses: classes,
		windows:     w,
		dealer:      newDealer(1+report.Planned, passMemory),
		digest: pipeline.Digest("plan", struct {
			P, K   int
			Short  string
			Steps  int64
			Config string
			Window int64  `json:",omitempty"`
			Layout string `json:",omitempty"`
		}{cfg.P, cfg.K, cfg.Short.String(), cfg.Steps, cfg.Config, window, layout}),
	}
	return &Plan{planned: p, end: cfg.Steps}, nil
}

// lastNumber is a batch number that no run reaches, at which no product of the
// plan's arithmetic overflows.
func lastNumber(cfg PlanConfig) int64 { return math.MaxInt64/(int64(cfg.P)*int64(cfg.K)) - 1 }

// defaultSteps is how many batches it takes until the largest class, and with
// it every class, has shown all its images: ceil(n_max/K) cycles of C classes.
func defaultSteps(cfg PlanConfig, r PlanReport) int64 {
	p, k := int64(cfg.P), int64(cfg.K)
	cycles := (r.Largest + k - 1) / k
	return (cycles*int64(r.Planned) + p - 1) / p
}

func digestLabels(labels []int32) string {
	text := make([]byte, 0, 4*len(labels))
	for _, l := range labels {
		text = binary.LittleEndian.AppendUint32(text, uint32(l))
	}
	return pipeline.Digest("labels", text)
}

// Steps is the number of batches in an epoch, of all ranks together. By default it is the fewest, as
// all classes are shown equally often, in which every image of every planned
// class is shown: ceil(ceil(n/K)·C/P) for C classes, of which the largest has n
// images. More exactly, when e epochs are over, every image has been shown at
// least e times.
func (p *Plan) Steps() int64 { return p.cfg.Steps }

// PerRank is the number of batches in an epoch that are this rank's: Steps/World.
func (p *Plan) PerRank() int64 { return p.cfg.Steps / p.ranks.world }

// State is where the plan starts.
func (p *Plan) State() pipeline.State { return p.stateAt(p.next) }

func (p *Plan) stateAt(next int64) pipeline.State {
	return pipeline.State{
		Format: pipeline.StateFormat,
		Data:   p.cfg.Data,
		Config: p.digest,
		Seed:   p.cfg.Seed,
		Next:   next,
	}
}

// At returns the plan that goes on at s, to the end of the epoch that s.Next is
// in: after the last step of an epoch, that is the whole of the next one. The
// zero State is the beginning. A state of other data, settings, seed or format,
// or one with an impossible number, is refused with a [*pipeline.StateError].
func (p *Plan) At(s pipeline.State) (*Plan, error) {
	if s == (pipeline.State{}) {
		return p.Epoch(0), nil
	}
	if err := s.Check(p.stateAt(s.Next)); err != nil {
		return nil, err
	}
	if last := lastNumber(p.cfg) - p.cfg.Steps; s.Next < 0 || s.Next > last {
		return nil, &pipeline.StateError{Field: "next", Have: fmt.Sprint(s.Next), Want: fmt.Sprintf("0 to %d", last)}
	}
	q := p.Epoch(s.Next / p.cfg.Steps)
	if q.end-s.Next < p.ranks.world { // what is left of the epoch does not fill a step
		return p.Epoch(s.Next/p.cfg.Steps + 1), nil
	}
	q.next = s.Next
	return q, nil
}

// Epoch returns the plan of epoch e, from 0: batches e·Steps to (e+1)·Steps−1.
// The Run of an epoch below 0, or too late for its numbers to fit, is an error.
func (p *Plan) Epoch(e int64) *Plan {
	if e < 0 || e > lastNumber(p.cfg)/p.cfg.Steps-1 {
		return &Plan{planned: p.planned, next: -1, end: -1}
	}
	return &Plan{planned: p.planned, next: e * p.cfg.Steps, end: (e + 1) * p.cfg.Steps}
}

// Run implements [pipeline.Source]: batches with Number, P, K, IDs and Labels.
func (p *Plan) Run(ctx context.Context, out chan<- *pipeline.Batch) error {
	if p.next < 0 {
		return fmt.Errorf("stages: there is no such epoch: want 0 to %d", lastNumber(p.cfg)/p.cfg.Steps-1)
	}
	for first := range p.ranks.steps(p.next, p.end) {
		b := pipeline.NewBatch()
		b.Number, b.P, b.K = p.ranks.of(first), p.cfg.P, p.cfg.K
		b.First, b.World = first, p.cfg.World
		b.IDs = p.Batch(b.Number, b.IDs)
		for _, id := range b.IDs {
			b.Labels = append(b.Labels, p.cfg.Labels[id])
		}
		b.Stamp(p.stateAt(first + p.ranks.world))
		if err := pipeline.Send(ctx, out, b); err != nil {
			return err
		}
	}
	return nil
}

// Batch appends the P·K sample ids of batch b to ids, a class side by side. It
// takes about the same time for any b ≥ 0, of any epoch, in any order; the
// nearer b is to the one before, the more is remembered. A negative b, or one
// beyond any run, panics, as an index out of range does.
func (p *Plan) Batch(b int64, ids []int64) []int64 {
	if b < 0 || b > lastNumber(p.cfg) {
		panic(fmt.Sprintf("stages: Plan.Batch of %d, want 0 to %d", b, lastNumber(p.cfg)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.windows != nil {
		return p.windows.batch(b, ids)
	}
	classes := int64(p.report.Planned)
	deck := deck{n: classes, w: int64(p.cfg.P), stage: "class", seed: p.cfg.Seed}
	p.hand = p.dealer.deal(0, &deck, b, p.hand[:0])
	deck.w, deck.stage = int64(p.cfg.K), "image"
	for i, j := range p.hand {
		members := p.membersOf(j)
		deck.n, deck.class = int64(len(members)), p.numbers[j]
		visit := (b*int64(p.cfg.P) + int64(i)) / classes // one in each cycle
		p.images = p.dealer.deal(1+int(j), &deck, visit, p.images[:0])
		for _, m := range p.images {
			ids = append(ids, int64(members[m]))
		}
	}
	return ids
}
