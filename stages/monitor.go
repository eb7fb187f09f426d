package stages

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// MonitorConfig configures a [Monitor]. What it does decides nothing.
type MonitorConfig struct {
	Loss   loss.TripletMargin // the miner's: its margin and distance are what alarms go by; required
	Every  int64              // batches to a report; default 100
	Labels []int32            // class of each sample, for how many classes there are; nil: not known. Kept and only read
	Cache  *Cache             // whose statistics go into reports; may be nil
	Meter  *pipeline.Meter    // whose times and queues go into reports; may be nil
	Report func(h *Health)    // called with each report, in the order of the batches, before the next batch is mined; keeps it or not; may be nil
	Log    *slog.Logger       // alarms, as they begin and end; default slog.Default()
}

// A Monitor watches mining: it adds up the health of batches, hands out a report
// every so many, and raises alarms. Its methods may be called from any goroutine.
//
//	monitor, err := stages.NewMonitor(stages.MonitorConfig{Loss: triplet, Cache: cache})
//	miner, err := stages.NewMiner(stages.MinerConfig{Mine: mine, Observe: monitor.Observe})
type Monitor struct {
	cfg   MonitorConfig
	known int

	mu     sync.Mutex
	now    Health // since the last report
	last   Health // the last report
	total  Health // all reports
	norms  Sketch // of Snapshot's rows
	far    Sketch // how far apart some of them are
	failed int64  // refreshes that had failed at the last report
	raised map[AlarmKind]bool
}

// NewMonitor checks cfg.
func NewMonitor(cfg MonitorConfig) (*Monitor, error) {
	if cfg.Every == 0 {
		cfg.Every = 100
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	switch {
	case !(cfg.Loss.Margin > 0) || cfg.Loss.Distance > loss.Cosine:
		return nil, usage("MonitorConfig.Loss", "is %+v, want a margin > 0 in units of a distance", cfg.Loss)
	case cfg.Every < 0:
		return nil, usage("MonitorConfig.Every", "is %d, want 1 or more", cfg.Every)
	}
	var classes ClassSet
	for _, l := range cfg.Labels {
		classes.Add(l)
	}
	m := &Monitor{cfg: cfg, known: classes.Len(), raised: make(map[AlarmKind]bool)}
	m.now, m.last, m.total = m.empty(), m.empty(), m.empty()
	return m, nil
}

func (m *Monitor) empty() Health { return Health{First: -1, Last: -1, Known: m.known} }

// Observe counts a batch that was mined: what MinerConfig.Observe is for.
func (m *Monitor) Observe(b *pipeline.Batch, r MineReport) {
	m.mu.Lock()
	h := &m.now
	for _, t := range b.Triplets {
		if t.Negative >= 0 {
			h.triplet(t.AP, t.AN, t.Loss, b.Labels[t.Anchor])
		}
	}
	h.Mined.Add(&r)
	m.apart(b)
	done := m.batch(b.Number, b.Generation)
	m.mu.Unlock()
	m.hand(done)
}

// hand hands a report out, if there is one.
func (m *Monitor) hand(h *Health) {
	if h != nil && m.cfg.Report != nil {
		m.cfg.Report(h)
	}
}

// batch counts a batch, and ends the report when there have been enough. m.mu
// is held.
func (m *Monitor) batch(number int64, generation int32) *Health {
	h := &m.now
	if h.First < 0 || number < h.First {
		h.First = number
	}
	h.Last = max(h.Last, number)
	h.Generation = generation
	if h.Batches++; h.Batches < m.cfg.Every {
		return nil
	}
	return m.report()
}

// apart measures each image of b against the one a class further on.
func (m *Monitor) apart(b *pipeline.Batch) {
	n := b.Embeddings.Len() - b.Extra
	for i := range n {
		j := (i + max(1, b.K)) % n
		x, y := b.Labels[i], b.Labels[j]
		if x != y && x != pipeline.Unknown && y != pipeline.Unknown {
			m.now.Apart.Add(m.cfg.Loss.Distance.Mining(b.Embeddings.Row(i), b.Embeddings.Row(j)))
		}
	}
}

// Stretches is the stage that counts stretches as they go by: those of a [Scan],
// which Flush reports, or of a [Miner], batch by batch.
func (m *Monitor) Stretches() pipeline.Stage[Stretch, Stretch] { return monitorStretches{m} }

type monitorStretches struct{ *Monitor }

// Run implements [pipeline.Stage].
func (m monitorStretches) Run(ctx context.Context, in <-chan Stretch, out chan<- Stretch) error {
	for st, err := range pipeline.Values(ctx, in) {
		if err != nil {
			return err
		}
		m.stretch(&st)
		if err := pipeline.Send(ctx, out, st); err != nil {
			return err
		}
	}
	return nil
}

func (m *Monitor) stretch(st *Stretch) {
	m.mu.Lock()
	r := st.Report
	count := r.Triplets == 0 // a scan's are counted when they are settled
	number, generation := int64(-1), m.now.Generation
	for _, t := range st.Triplets {
		number, generation = t.Batch, t.Generation
		if t.Negative < 0 {
			continue
		}
		m.now.triplet(t.AP, t.AN, t.Loss, t.AnchorLabel)
		if count {
			r.triplet(t.AP, t.AN, t.Kind)
		}
	}
	m.now.Mined.Add(&r)
	m.now.Generation = generation
	var done *Health
	if number >= 0 {
		done = m.batch(number, generation)
	}
	m.mu.Unlock()
	m.hand(done)
}

// Snapshot notes the embeddings that are mined from where there is no cache, and
// measures how far apart some of different classes are.
func (m *Monitor) Snapshot(s *Snapshot) error {
	drift := DriftConfig{Labels: m.cfg.Labels, Loss: m.cfg.Loss}
	probes, err := drift.probes(s.Embeddings.Len())
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.far = Sketch{}
	for _, p := range probes {
		m.far.Add(m.cfg.Loss.Distance.Mining(s.Embeddings.Row(int(p.anchor)), s.Embeddings.Row(int(p.negative))))
	}
	m.norms, m.now.Generation = s.Norms, s.Generation
	return nil
}

// Settled takes the report of a whole scan in the place of the sum of its
// stretches: what [Scan.Settle] counts is in it too.
func (m *Monitor) Settled(r MineReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Mined = r
}

// Trained notes the loss of a training step, as the trainer has computed it
// from its own embeddings. One that is NaN or infinite is an alarm at once.
func (m *Monitor) Trained(loss float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Trained.Add(loss)
	if m.now.Trained.NaN > 0 {
		m.raise(Alarm{AlarmNaN, fmt.Sprintf("the training loss is %v", loss)})
	}
}

// Flush reports what was observed since the last report, if anything was.
func (m *Monitor) Flush() {
	m.mu.Lock()
	var done *Health
	if m.now.Batches > 0 || m.now.Mined.Pairs > 0 || m.now.Trained.Count+m.now.Trained.NaN > 0 {
		done = m.report()
	}
	m.mu.Unlock()
	m.hand(done)
}

// Health is that of all batches so far, with what is of this moment.
func (m *Monitor) Health() Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now
	m.moment(&now)
	now.Alarms = m.last.Alarms
	all := m.empty()
	all.Merge(&m.total)
	all.Merge(&now)
	return all
}

// moment fills in what is of this moment. m.mu is held.
func (m *Monitor) moment(h *Health) {
	h.Time, h.Norms = time.Now(), m.norms
	if h.Apart.Count == 0 {
		h.Apart = m.far
	}
	if m.cfg.Cache != nil {
		stats := m.cfg.Cache.Stats()
		h.Cache, h.Norms = &stats, stats.Norms
	}
	h.Stages, h.Queues = m.cfg.Meter.Timings(), m.cfg.Meter.Queues()
}

// report ends a report and begins the next. m.mu is held.
func (m *Monitor) report() *Health {
	m.moment(&m.now)
	m.now.Alarms = m.alarms(&m.now)
	on := make(map[AlarmKind]bool)
	for _, a := range m.now.Alarms {
		m.raise(a)
		on[a.Kind] = true
	}
	for _, kind := range alarmKinds {
		if m.raised[kind] && !on[kind] {
			delete(m.raised, kind)
			m.cfg.Log.Info("alarm is over", "alarm", kind, "batch", m.now.Last)
		}
	}
	m.last = m.now
	m.total.Merge(&m.now)
	m.now = m.empty()
	m.now.Generation = m.last.Generation
	h := m.last
	return &h
}

// raise logs an alarm that was not raised yet.
func (m *Monitor) raise(a Alarm) {
	if !m.raised[a.Kind] {
		m.raised[a.Kind] = true
		m.cfg.Log.Warn(a.Text, "alarm", a.Kind, "batch", m.now.Last, "generation", m.now.Generation)
	}
}

// nearMargin is how close to the margin losses are, as a share of it, when
// nothing but the margin is left in them.
const nearMargin = 0.05

// alarms are those that h gives cause for.
func (m *Monitor) alarms(h *Health) (alarms []Alarm) {
	alarm := func(kind AlarmKind, format string, args ...any) {
		alarms = append(alarms, Alarm{kind, fmt.Sprintf(format, args...)})
	}
	l := m.cfg.Loss
	switch apart := h.Apart.Quantile(0.5); {
	case h.Mined.Collapsed > 0:
		alarm(AlarmCollapse, "collapsed: the embeddings of %d of %d batches are all nearly equal", h.Mined.Collapsed, max(1, h.Batches))
	case h.Apart.Count > 0 && apart < nearMargin*l.Margin:
		alarm(AlarmCollapse, "collapsed: images of different classes are %.3g apart (%v), so every loss is nearly the margin of %v", apart, l.Distance, l.Margin)
	case h.Trained.Count > 0 && near(h.Trained.Quantile(0.1), l.Margin) && near(h.Trained.Quantile(0.9), l.Margin):
		alarm(AlarmCollapse, "collapsed: the training loss stays at the margin of %v, as if all distances were 0", l.Margin)
	}
	if h.Mined.Pairs > 0 && h.Mined.Triplets == 0 {
		alarm(AlarmNoTriplets, "no triplets left: none of %d pairs has a negative (%d: none in the band, %d: all guarded, %d: no other class)",
			h.Mined.Pairs, h.Mined.NoCandidate, h.Mined.AllGuarded, h.Mined.NoNegative)
	}
	if n := h.AP.NaN + h.AN.NaN + h.Loss.NaN + h.Apart.NaN; n > 0 {
		alarm(AlarmNaN, "%d distances or losses are NaN or infinite", n)
	} else if h.Trained.NaN > 0 {
		alarm(AlarmNaN, "the training loss was NaN or infinite %d times", h.Trained.NaN)
	}
	if h.Cache != nil {
		if h.Cache.Failed > m.failed {
			alarm(AlarmRefresh, "%d refreshes failed, so rows are %d batches old: %s", h.Cache.Failed-m.failed, h.Cache.Age, h.Cache.Error)
		}
		m.failed = h.Cache.Failed
	}
	return alarms
}

// near reports whether v is within a tenth of nearMargin of the margin.
func near(v, margin float64) bool {
	d := v - margin
	return max(d, -d) <= nearMargin/10*margin
}
