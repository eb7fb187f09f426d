package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A summary is what tercet mine says of a finished job.
type summary struct {
	Output   string               `json:"output"`
	Emit     string               `json:"emit"`
	Rows     int64                `json:"rows"`
	Meta     pipeline.TripletMeta `json:"meta"`
	MeanAP   float64              `json:"mean_d_ap"`
	MeanAN   float64              `json:"mean_d_an"`
	Size     pipeline.Shape       `json:"image_size"`
	Stages   []stageTime          `json:"stages"`
	Stream   *stages.PoolsReport  `json:"stream,omitempty"`
	report   stages.MineReport
	shards   int
	warnings []string
	windows  *stages.WindowReport // nil where batches are made of all rows
	before   bool                 // all of it was there already
}

type stageTime struct {
	Name    string  `json:"name"`
	Items   int64   `json:"items"`
	Seconds float64 `json:"seconds"` // of work, summed over workers
}

func (j *mineJob) summarise(set *storage.Dataset, emb *embedded, report stages.MineReport, meta pipeline.TripletMeta, rows int64) *summary {
	s := &summary{
		Output: j.flags.out, Emit: j.flags.emit, Rows: rows, Meta: meta, Size: emb.size,
		report: report, shards: len(set.Info().Shards),
	}
	if j.plan != nil {
		if w, ok := j.plan.Windows(0); ok {
			s.windows = &w
		}
	}
	return j.completed(s)
}

// completed is s with what follows from its report.
func (j *mineJob) completed(s *summary) *summary {
	s.Meta.Counts = s.report.Counts()
	s.MeanAP, s.MeanAN = s.report.MeanAP(), s.report.MeanAN()
	for _, t := range j.meter.Timings() {
		s.Stages = append(s.Stages, stageTime{t.Name, t.Items, t.Busy.Seconds()})
	}
	if s.report.Collapsed > 0 {
		s.warnings = append(s.warnings, "collapsed: the embeddings are all nearly equal, so nothing can be mined from them")
	}
	if s.Stream != nil && s.Stream.Batches == 0 {
		s.warnings = append(s.warnings, fmt.Sprintf("no batch: never were there %d classes of which %d rows waited", s.Meta.P, s.Meta.K))
	}
	if s.report.Pairs > 0 && s.report.Triplets == 0 {
		s.warnings = append(s.warnings, "no triplets: no pair has a negative under this rule and margin")
	}
	return s
}

// foundThere is the summary of a job whose output was there already.
func (j *mineJob) foundThere(meta pipeline.TripletMeta, rows int64, counts map[string]int64) *summary {
	meta.Counts = counts
	return &summary{Output: j.flags.out, Emit: j.flags.emit, Rows: rows, Meta: meta, before: true}
}

func (j *mineJob) print(s *summary) error {
	if j.flags.json {
		return printJSON(j.stdout, s)
	}
	return s.print(j.stdout)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (s *summary) print(out io.Writer) error {
	if s.before {
		_, err := fmt.Fprintf(out, "%s is complete already: %s %s\n", s.Output, count(s.Rows), s.Emit)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	r, m := s.report, s.Meta
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }

	if s.Stream == nil {
		line("data", "%s rows, %s classes, %s; digest %.12s", count(m.Rows), count(int64(m.Classes)), plural(s.shards, "file"), m.DataDigest)
	}
	embedder := fmt.Sprintf("%s, %d dimensions", m.Embedder, m.Dim)
	if s.Size.Len() > 0 {
		embedder += fmt.Sprintf(" of %d×%d %s pixels", s.Size.H, s.Size.W, colours(s.Size.C))
	}
	line("embeddings", "%s; fingerprint %.12s", embedder, m.Fingerprint)
	scope := "the whole data set"
	if m.Batches > 0 {
		scope = fmt.Sprintf("%s of %d classes × %d images", plural(int(m.Batches), "batch"), m.P, m.K)
		if m.World > 1 {
			scope += fmt.Sprintf(", rank %d of %d", m.Rank, m.World)
		}
	}
	line("rule", "%s, pick %s, margin %v %s, seed %d, over %s", m.Rule, m.Pick, m.Margin, m.Distance, m.Seed, scope)
	if p := s.Stream; p != nil {
		line("stream", "%s rows came, %s are in batches; dropped: %s of unknown class, %s waited in vain for other classes, %s of classes with fewer than %d, %s at the end", count(p.Rows), count(p.Images), count(p.Unknown), count(p.Surplus), count(p.Short), m.K, count(p.End))
	}
	if w := s.windows; w != nil {
		left := w.Few + w.Rest + w.Over
		line("windows", "%s of up to %s of images; %s rows (%.2f %%) left out of an epoch (tercet inspect --window %d says why)", count(int64(w.Windows)), bytesOf(w.Bytes), count(left), percent(left, m.Rows), w.Budget)
	}
	if r.Candidates > 0 {
		line("candidates", "%s of %s rows; in the bands of some pairs they are %s of %s negatives (%.2f %%)", count(r.Candidates), count(m.Rows), count(r.BandSeen), count(r.BandWhole), percent(r.BandSeen, r.BandWhole))
	}
	line("pairs", "%s", count(r.Pairs))
	line("triplets", "%s: %s hard, %s semi-hard, %s easy", count(r.Triplets), count(r.Hard), count(r.SemiHard), count(r.Easy))
	line("pairs without", "%s (%.2f %%): %s nothing in the band, %s all guarded, %s no other class", count(r.Empty()), percent(r.Empty(), r.Pairs), count(r.NoCandidate), count(r.AllGuarded), count(r.NoNegative))
	line("distances", "mean d_ap %.4f, mean d_an %.4f (%s)", s.MeanAP, s.MeanAN, m.Distance)
	if g := r.Guarded; g != (stages.GuardCounts{}) {
		line("kept out", "%s same image, %s same group, %s below the floor, %s near the nearest positive, %s first ranks, %s over a cap", count(g.SameImage), count(g.SameGroup), count(g.Floor), count(g.Relative), count(g.SkipRanks), count(g.AnchorCap+g.NegativeCap+g.ClassCap))
	}
	if r.Unknown+r.Singles+r.Conflicting > 0 {
		line("not mined", "%s rows of unknown class; %s classes of one image (negatives only); %s images under two classes", count(r.Unknown), count(r.Singles), count(r.Conflicting))
	}
	if m.BadRows > 0 {
		line("bad rows", "%s of %s (--on-bad-row %s)", count(m.BadRows), count(m.Rows), m.OnBadRow)
	}
	var times []string
	for _, t := range s.Stages {
		times = append(times, fmt.Sprintf("%s %s", t.Name, seconds(t.Seconds)))
	}
	line("work", "%s", strings.Join(times, ", "))
	for _, warning := range s.warnings {
		line("warning", "%s", warning)
	}
	wrote := ""
	if again := r.Triplets - s.Rows; s.Emit == "triplets" && again > 0 {
		wrote = fmt.Sprintf(" (%s said the same thing of an image that a batch repeats)", count(again))
	}
	line("wrote", "%s %s to %s%s", count(s.Rows), s.Emit, s.Output, wrote)
	return w.Flush()
}

func percent(n, of int64) float64 { return 100 * float64(n) / max(1, float64(of)) }

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func colours(channels int) string {
	if channels == 1 {
		return "grey"
	}
	return "RGB"
}

func plural(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ch"):
		noun += "es"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%s %s", count(int64(n)), noun)
}

// count writes n with its thousands apart: 10,000.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
