package stages

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// A small reader of the text format: by the grammar of its version 0.0.4, every
// sample behind the HELP and TYPE of its family, no series twice.
var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*"(?:,[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*")*\})? (\S+)$`)

func readMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	series, families := map[string]float64{}, map[string]string{}
	var family, kind string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch f := strings.Fields(line); {
		case strings.HasPrefix(line, "# HELP "):
			if family = f[2]; families[family] != "" || len(f) < 4 {
				t.Errorf("%q: once more, or without a text", line)
			}
			kind = ""
		case strings.HasPrefix(line, "# TYPE "):
			if kind = f[3]; f[2] != family || !strings.Contains("counter gauge summary", kind) {
				t.Errorf("%q behind HELP of %s", line, family)
			}
			families[family] = kind
		default:
			m := sampleLine.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%q is no sample", line)
				continue
			}
			name := m[1]
			if kind == "summary" {
				name = strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
			}
			if name != family || kind == "" || (kind == "counter") != strings.HasSuffix(family, "_total") {
				t.Errorf("%q in the %s %s", line, kind, family)
			}
			v, err := strconv.ParseFloat(m[3], 64)
			if _, twice := series[m[1]+m[2]]; err != nil || twice {
				t.Errorf("%q: %v, or twice", line, err)
			}
			series[m[1]+m[2]] = v
		}
	}
	return series
}

func TestMetrics(t *testing.T) {
	var meter pipeline.Meter
	meter.Timer("a \"stage\"\n\\").Add(5, time.Now())
	m, _ := newMonitor(t, MonitorConfig{Every: 2, Labels: []int32{0, 1, 2, 3}, Cache: newCache(t, 4, 0, nil), Meter: &meter})
	var out bytes.Buffer
	if err := m.WriteMetrics(&out); err != nil { // before anything was mined
		t.Fatal(err)
	}
	readMetrics(t, out.String())
	mineWith(t, m, All, healthy(0, 4, 3, 8), healthy(1, 4, 3, 8), healthy(2, 4, 3, 8))
	m.Trained(0.25)
	out.Reset()
	if err := m.WriteMetrics(&out); err != nil {
		t.Fatal(err)
	}
	got, h := readMetrics(t, out.String()), m.Health()
	for name, want := range map[string]float64{
		"tercet_batches_total":                              3,
		"tercet_pairs_total":                                72,
		`tercet_triplets_total{kind="semi-hard"}`:           float64(h.Mined.SemiHard),
		`tercet_triplets_total{kind="easy"}`:                float64(h.Mined.Easy),
		"tercet_triplets_active_total":                      float64(h.Active),
		`tercet_distance_count{of="anchor_positive"}`:       float64(h.AP.Count),
		`tercet_distance{of="apart",quantile="0.5"}`:        m.last.Apart.Quantile(0.5),
		"tercet_trained_loss_sum":                           0.25,
		"tercet_classes":                                    4,
		"tercet_classes_known":                              4,
		"tercet_cache_held":                                 1,
		`tercet_stage_items_total{stage="a \"stage\"\n\\"}`: 5,
		`tercet_alarm{kind="collapse"}`:                     0,
		`tercet_pairs_empty_total{reason="no_candidate"}`:   float64(h.Mined.NoCandidate),
		`tercet_guarded_total{guard="same_image"}`:          0,
		`tercet_embedding_norm{quantile="0.99"}`:            h.Norms.Quantile(0.99),
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, want)
		}
	}
	if err := m.WriteMetrics(brokenWriter{}); !errors.Is(err, errBroken) {
		t.Errorf("error is %v, want %v", err, errBroken)
	}
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
