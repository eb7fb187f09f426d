package stages

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteMetrics writes the health of all batches so far, and quantiles of the
// last report's, in the text format of Prometheus (version 0.0.4), as in
//
//	http.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { monitor.WriteMetrics(w) })
func (m *Monitor) WriteMetrics(w io.Writer) error {
	h := m.Health()
	m.mu.Lock()
	recent := m.last
	if recent.Batches == 0 && recent.Mined.Pairs == 0 {
		recent = m.empty() // there was no report yet
		recent.Merge(&m.now)
	}
	m.mu.Unlock()

	p := &metrics{w: bufio.NewWriter(w)}
	r, g := &h.Mined, &h.Mined.Guarded
	p.family("tercet_batches_total", "counter", "Batches that were mined.")
	p.sample("", float64(h.Batches))
	p.family("tercet_pairs_total", "counter", "Anchor-positive pairs that were looked at.")
	p.sample("", float64(r.Pairs))
	p.family("tercet_pairs_empty_total", "counter", "Pairs without a triplet, by reason.")
	p.sample("", float64(r.NoCandidate), "reason", "no_candidate")
	p.sample("", float64(r.AllGuarded), "reason", "all_guarded")
	p.sample("", float64(r.NoNegative), "reason", "no_negative")
	p.family("tercet_triplets_total", "counter", "Triplets, by kind.")
	p.sample("", float64(r.Hard), "kind", "hard")
	p.sample("", float64(r.SemiHard), "kind", "semi-hard")
	p.sample("", float64(r.Easy), "kind", "easy")
	p.family("tercet_triplets_active_total", "counter", "Triplets with a positive loss.")
	p.sample("", float64(h.Active))
	p.family("tercet_guarded_total", "counter", "What guards kept out.")
	for _, c := range []struct {
		name string
		n    int64
	}{
		{"same_image", g.SameImage}, {"same_group", g.SameGroup}, {"floor", g.Floor},
		{"relative", g.Relative}, {"skip_ranks", g.SkipRanks},
		{"anchor_cap", g.AnchorCap}, {"negative_cap", g.NegativeCap}, {"class_cap", g.ClassCap},
	} {
		p.sample("", float64(c.n), "guard", c.name)
	}
	p.family("tercet_collapsed_total", "counter", "Batches whose embeddings are all nearly equal.")
	p.sample("", float64(r.Collapsed))
	p.family("tercet_distance", "summary", "Distances of triplets, and of images of different classes (apart).")
	p.summary(&recent.AP, &h.AP, "of", "anchor_positive")
	p.summary(&recent.AN, &h.AN, "of", "anchor_negative")
	p.summary(&recent.Apart, &h.Apart, "of", "apart")
	p.family("tercet_triplet_loss", "summary", "Loss of each triplet.")
	p.summary(&recent.Loss, &h.Loss)
	p.family("tercet_trained_loss", "summary", "Loss of each training step, as the trainer gave it.")
	p.summary(&recent.Trained, &h.Trained)
	p.family("tercet_embedding_norm", "summary", "Lengths of the newest embeddings before they were scaled.")
	p.summary(&h.Norms, &h.Norms)
	p.family("tercet_classes", "gauge", "Classes of anchors that were given a triplet.")
	p.sample("", float64(h.Classes.Len()))
	p.family("tercet_classes_known", "gauge", "Classes there are.")
	p.sample("", float64(h.Known))
	p.family("tercet_generation", "gauge", "Generation of the cache that the last batch used.")
	p.sample("", float64(h.Generation))
	p.cache(h.Cache)
	p.family("tercet_stage_items_total", "counter", "Items that a stage has worked on.")
	for _, t := range h.Stages {
		p.sample("", float64(t.Items), "stage", t.Name)
	}
	p.family("tercet_stage_busy_seconds_total", "counter", "Working time of a stage, summed over workers.")
	for _, t := range h.Stages {
		p.sample("", t.Busy.Seconds(), "stage", t.Name)
	}
	p.family("tercet_queue_depth", "gauge", "Values that a stage has ready for the next.")
	for _, q := range h.Queues {
		p.sample("", float64(q.Depth), "stage", q.Stage)
	}
	p.family("tercet_queue_room", "gauge", "Values that it may have ready.")
	for _, q := range h.Queues {
		p.sample("", float64(q.Room), "stage", q.Stage)
	}
	p.family("tercet_alarm", "gauge", "1 while an alarm is on.")
	for _, kind := range alarmKinds {
		on := 0.0
		for _, a := range h.Alarms {
			if a.Kind == kind {
				on = 1
			}
		}
		p.sample("", on, "kind", string(kind))
	}
	return p.w.Flush()
}

// metrics writes families of samples.
type metrics struct {
	w    *bufio.Writer // remembers the first error
	name string
}

func (p *metrics) family(name, kind, help string) {
	p.name = name
	fmt.Fprintf(p.w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one value of the family, with labels as names and values in turn.
func (p *metrics) sample(suffix string, v float64, labels ...string) {
	p.w.WriteString(p.name + suffix)
	for i := 0; i < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(p.w, `%s%s="%s"`, sep, labels[i], labelEscape.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		p.w.WriteByte('}')
	}
	p.w.WriteByte(' ')
	p.w.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	p.w.WriteByte('\n')
}

var labelEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// summary writes quantiles of what is recent, and sum and count of all.
func (p *metrics) summary(recent, all *Sketch, labels ...string) {
	if recent.Count > 0 {
		for _, q := range []float64{0.01, 0.1, 0.5, 0.9, 0.99} {
			p.sample("", recent.Quantile(q), append(labels[:len(labels):len(labels)], "quantile", strconv.FormatFloat(q, 'g', -1, 64))...)
		}
	}
	p.sample("_sum", all.Sum, labels...)
	p.sample("_count", float64(all.Count), labels...)
}

func (p *metrics) cache(s *CacheStats) {
	if s == nil {
		return
	}
	for _, f := range []struct {
		name, kind, help string
		v                float64
	}{
		{"generation", "gauge", "Newest generation there is.", float64(s.Generation)},
		{"held", "gauge", "Generations in memory.", float64(s.Held)},
		{"age_batches", "gauge", "Batches since the rows in use were made.", float64(s.Age)},
		{"refreshed_total", "counter", "Generations with new rows.", float64(s.Refreshed)},
		{"unchanged_total", "counter", "Generations for which there was nothing new.", float64(s.Unchanged)},
		{"failed_total", "counter", "Refreshes that failed.", float64(s.Failed)},
		{"pending_rows", "gauge", "Rows given to Update for a generation to come.", float64(s.Pending)},
		{"waited_seconds_total", "counter", "Time that batches have waited for a generation.", s.Waited},
		{"refresh_seconds", "gauge", "Time that the last refresh took.", s.Took},
		{"drift_mean_cosine", "gauge", "Mean cosine between old and new rows of the last refresh.", s.Drift.MeanCosine},
		{"drift_kind_changed", "gauge", "Share of watched triplets whose kind the last refresh changed.", s.Drift.KindChanged},
		{"building_done", "gauge", "Samples that the refresh under way has embedded.", float64(s.Done)},
		{"building_samples", "gauge", "Samples that it has to embed; 0 while there is none.", float64(s.Total)},
	} {
		p.family("tercet_cache_"+f.name, f.kind, f.help)
		p.sample("", f.v)
	}
}
