package stages

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

var monitored = loss.TripletMargin{Margin: 0.2, Distance: loss.SqEuclidean}

// healthy is a batch of p classes × k images around well separated points.
func healthy(number int64, p, k, dim int) *pipeline.Batch {
	rng := rand.New(rand.NewPCG(uint64(number), 3))
	b := &pipeline.Batch{Number: number, P: p, K: k, Embeddings: pipeline.MakeEmbeddings(p*k, dim)}
	for i := range p * k {
		b.IDs = append(b.IDs, int64(i))
		b.Labels = append(b.Labels, int32(i/k))
		row := b.Embeddings.Row(i)
		for d := range row {
			row[d] = float32(0.25 * rng.NormFloat64() / math.Sqrt(float64(dim)))
		}
		row[i/k%dim]++
		finish(row, true)
	}
	return b
}

// mineWith mines batches with a monitor's eyes on them.
func mineWith(t *testing.T, m *Monitor, rule Rule, batches ...*pipeline.Batch) {
	t.Helper()
	miner, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: m.cfg.Loss, Rule: rule}, Observe: m.Observe})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		if err := miner.Mine(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func newMonitor(t *testing.T, cfg MonitorConfig) (m *Monitor, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	cfg.Loss, cfg.Log = monitored, slog.New(slog.NewTextHandler(log, nil))
	m, err := NewMonitor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m, log
}

// Reports come every so many batches and hold what those batches hold.
func TestMonitorReportsWhatItSaw(t *testing.T) {
	var reports []*Health
	m, log := newMonitor(t, MonitorConfig{Every: 3, Labels: []int32{0, 1, 2, 3, 3, 7, pipeline.Unknown}, Report: func(h *Health) { reports = append(reports, h) }})
	var batches []*pipeline.Batch
	for i := range int64(7) {
		batches = append(batches, healthy(i, 4, 3, 8))
	}
	mineWith(t, m, All, batches...)
	m.Flush()
	m.Flush() // nothing new
	if len(reports) != 3 {
		t.Fatalf("%d reports, want 3", len(reports))
	}
	whole := m.empty()
	for i, want := range [][2]int64{{0, 2}, {3, 5}, {6, 6}} {
		h := reports[i]
		var triplets, active int64
		var ap float64
		for _, b := range batches[want[0] : want[1]+1] {
			for _, tr := range b.Triplets {
				triplets++
				ap += float64(tr.AP)
				if tr.Loss > 0 {
					active++
				}
			}
		}
		if h.First != want[0] || h.Last != want[1] || h.Batches != want[1]-want[0]+1 {
			t.Errorf("report %d is of %d batches, %d to %d", i, h.Batches, h.First, h.Last)
		}
		if h.Mined.Triplets != triplets || h.AP.Count != triplets || h.AN.Count != triplets || h.Loss.Count != triplets || h.Active != active || active == triplets {
			t.Errorf("report %d has %+v, want %d triplets, %d active", i, h.Mined, triplets, active)
		}
		if math.Abs(h.AP.Sum-ap) > 1e-9*ap || h.Classes.Len() != 4 || h.Known != 5 {
			t.Errorf("report %d: sum of d_ap %v, want %v; %d classes of %d", i, h.AP.Sum, ap, h.Classes.Len(), h.Known)
		}
		if h.Apart.Count != 12*h.Batches || h.Apart.Quantile(0.5) < 1 {
			t.Errorf("report %d: apart is %+v", i, h.Apart)
		}
		whole.Merge(h)
	}
	if all := m.Health(); !reflect.DeepEqual(all.Mined, whole.Mined) || all.Batches != 7 || all.Last != 6 || all.AN.Quantile(0.9) != whole.AN.Quantile(0.9) {
		t.Errorf("all is %+v, want %+v", all, whole)
	}
	if log.Len() > 0 {
		t.Errorf("healthy batches are logged: %s", log)
	}
}

// What a batch is, and what the alarm says of it.
func TestAlarms(t *testing.T) {
	collapsed := healthy(2, 4, 3, 8)
	for i := range collapsed.Embeddings.Len() {
		copy(collapsed.Embeddings.Row(i), collapsed.Embeddings.Row(0))
	}
	shrunk := healthy(2, 4, 3, 8) // all within a hundredth of the margin of each other
	for i := range shrunk.Embeddings.Len() {
		row := shrunk.Embeddings.Row(i)
		for d := range row {
			row[d] *= 0.02
		}
		row[0]++
		finish(row, true)
	}
	for _, tt := range []struct {
		name    string
		batch   *pipeline.Batch
		rule    Rule
		trained []float64
		want    map[AlarmKind]string
	}{
		{"healthy", healthy(2, 4, 3, 8), All, []float64{0.12, 0.19}, nil},
		{"collapsed", collapsed, SemiHard, nil, map[AlarmKind]string{AlarmCollapse: "all nearly equal", AlarmNoTriplets: "none of 24 pairs"}},
		{"nearly collapsed", shrunk, BatchHard, nil, map[AlarmKind]string{AlarmCollapse: "so every loss is nearly the margin of 0.2"}},
		{"one class", healthy(2, 1, 6, 8), SemiHard, nil, map[AlarmKind]string{AlarmNoTriplets: "30: no other class"}},
		{"loss at the margin", healthy(2, 4, 3, 8), All, []float64{0.2, 0.2001, 0.1999}, map[AlarmKind]string{AlarmCollapse: "training loss stays at the margin"}},
		{"loss around the margin", healthy(2, 4, 3, 8), All, []float64{0.1, 0.2, 0.3}, nil},
		{"NaN", healthy(2, 4, 3, 8), All, []float64{0.1, math.NaN()}, map[AlarmKind]string{AlarmNaN: "NaN or infinite 1 times"}},
	} {
		m, log := newMonitor(t, MonitorConfig{Every: 1})
		for _, l := range tt.trained {
			m.Trained(l)
		}
		mineWith(t, m, tt.rule, tt.batch)
		got := m.Health().Alarms
		for _, a := range got {
			if text, ok := tt.want[a.Kind]; !ok || !strings.Contains(a.Text, text) {
				t.Errorf("%s: alarm %v", tt.name, a)
			}
			if !strings.Contains(log.String(), "alarm="+string(a.Kind)) {
				t.Errorf("%s: log %q does not name %s", tt.name, log, a.Kind)
			}
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: alarms %v, want %v", tt.name, got, tt.want)
		}
		n := strings.Count(log.String(), "WARN")
		mineWith(t, m, All, healthy(3, 4, 3, 8), healthy(4, 4, 3, 8))
		if left := m.Health().Alarms; len(left) != 0 {
			t.Errorf("%s: alarms %v are still on", tt.name, left)
		}
		if over := strings.Count(log.String(), "alarm is over"); n != len(tt.want) || over != n {
			t.Errorf("%s: %d alarms and %d ends in the log, want %d each:\n%s", tt.name, n, over, len(tt.want), log)
		}
	}
}

// A refresh that failed is an alarm once, and the cache's statistics are in the report.
func TestMonitorWatchesTheCache(t *testing.T) {
	c := newCache(t, 4, 0, nil)
	m, log := newMonitor(t, MonitorConfig{Every: 1, Cache: c})
	mineWith(t, m, All, healthy(0, 4, 3, 8))
	c.counters.failed, c.counters.lastError = 1, errNoDirection
	mineWith(t, m, All, healthy(1, 4, 3, 8))
	if h := m.Health(); len(h.Alarms) != 1 || h.Alarms[0].Kind != AlarmRefresh || h.Cache.Failed != 1 || h.Norms.Count != 3 {
		t.Errorf("health is %+v", h)
	}
	mineWith(t, m, All, healthy(2, 4, 3, 8))
	if h := m.Health(); len(h.Alarms) != 0 || !strings.Contains(log.String(), "no direction") {
		t.Errorf("alarms %v, log %s", h.Alarms, log)
	}
}

// Over a scan there is one report: what its stretches hold, before they are settled.
func TestMonitorOfAScan(t *testing.T) {
	p := healthy(5, 6, 10, 8)
	scan, err := NewScan(ScanConfig{Mine: MineConfig{Loss: monitored, Rule: All, PerPair: 3}, Embeddings: p.Embeddings, Labels: p.Labels, Block: 7})
	if err != nil {
		t.Fatal(err)
	}
	var reports []*Health
	m, _ := newMonitor(t, MonitorConfig{Every: 2, Labels: p.Labels, Report: func(h *Health) { reports = append(reports, h) }})
	if err := m.Snapshot(&Snapshot{Embeddings: p.Embeddings, Generation: 4}); err != nil {
		t.Fatal(err)
	}
	var triplets []pipeline.MinedTriplet
	var sum MineReport
	for st, err := range pipeline.From(scan.Stretches(0)).Then(m.Stretches()).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		triplets = append(triplets, st.Triplets...)
		sum.Add(&st.Report)
	}
	if h := m.Health(); h.Mined.Triplets != int64(len(triplets)) || h.Mined.Easy == 0 {
		t.Errorf("before it is settled, %+v", h.Mined)
	}
	for _, err := range pipeline.From(pipeline.Slice(triplets)).Then(scan.Settle(sum)).All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.Settled(scan.Report())
	m.Flush()
	if len(reports) != 1 || len(triplets) == 0 {
		t.Fatalf("%d reports of %d triplets", len(reports), len(triplets))
	}
	h := reports[0]
	if n := int64(len(triplets)); h.Mined.Triplets != n || h.Mined.Hard+h.Mined.SemiHard+h.Mined.Easy != n || h.AP.Count != n || h.Mined.Pairs != sum.Pairs || h.Mined.Samples != 60 {
		t.Errorf("report is %+v, want %d triplets of %d pairs", h.Mined, n, sum.Pairs)
	}
	if h.Batches != 0 || h.First != -1 || h.Apart.Count == 0 || h.Known == 0 {
		t.Errorf("report is %+v", h)
	}
}

// A report is one line of JSON whose members are always there.
func TestHealthAsJSON(t *testing.T) {
	m, _ := newMonitor(t, MonitorConfig{Every: 1, Cache: newCache(t, 4, 0, nil), Meter: new(pipeline.Meter)})
	members := func() (names map[string]json.RawMessage) {
		h := m.Health()
		text, err := json.Marshal(&h)
		if err != nil || bytes.ContainsRune(text, '\n') {
			t.Fatalf("%s: %v", text, err)
		}
		if err := json.Unmarshal(text, &names); err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := members()
	mineWith(t, m, All, healthy(0, 4, 3, 8))
	after := members()
	for _, name := range []string{"batches", "first", "last", "generation", "active_share", "counts", "d_ap", "d_an", "loss", "d_apart", "norms", "classes", "cache", "stages", "queues", "alarms"} {
		if before[name] == nil || after[name] == nil {
			t.Errorf("there is no %q in %v", name, after)
		}
	}
	var ap struct{ P50 float64 }
	if err := json.Unmarshal(after["d_ap"], &ap); err != nil || !(ap.P50 > 0) {
		t.Errorf("d_ap is %s", after["d_ap"])
	}
}

func TestMonitorConfigIsChecked(t *testing.T) {
	for _, cfg := range []MonitorConfig{{}, {Loss: monitored, Every: -1}, {Loss: loss.TripletMargin{Margin: 1, Distance: 99}}} {
		if _, err := NewMonitor(cfg); err == nil {
			t.Errorf("%+v gave no error", cfg)
		}
	}
}
