package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestSoak(t *testing.T) {
	code, stdout, stderr := tercet(t, "soak", data+"glyphs", "--size", "12x12", "--dim", "8", "--p", "4", "--k", "2",
		"--for", "300ms", "--every", "5", "--refreshes", "3", "--scope", "batch", "--json", "--log-level", "warn")
	if code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r soakReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Refreshes < 3 || r.Batches < 16 || r.Prefix != 16 || r.Epochs < 1 || len(r.PrefixHash) != 64 || r.PrefixHash != r.Again || r.After > r.Before || r.Peak < 1 {
		t.Errorf("%+v", r)
	}
	for _, flag := range []string{"--for=0s", "--every=0", "--max-slope=0", "--prefix=-1", "--scope=class", "--p=1000"} {
		if code, _, stderr := tercet(t, "soak", data+"glyphs", flag); code != exitUsage || !strings.Contains(stderr, strings.Split(flag, "=")[0]) {
			t.Errorf("%s: exit code %d: %s", flag, code, stderr)
		}
	}
}

func TestSoakVerdict(t *testing.T) {
	good := soakReport{PrefixHash: "a", Again: "a", Before: 3, After: 3, Slope: 0.5, Minutes: 8}
	for name, tt := range map[string]struct {
		change func(*soakReport)
		want   string
	}{
		"good":                   {func(*soakReport) {}, ""},
		"another stream":         {func(r *soakReport) { r.Again = "b" }, "not those of a short run"},
		"a goroutine more":       {func(r *soakReport) { r.After = 4 }, "1 goroutines were left behind"},
		"it grows":               {func(r *soakReport) { r.Slope = 1.1 }, "grew by 1.10 MiB/min"},
		"too short a time":       {func(r *soakReport) { r.Slope, r.Minutes = 20, 0.3 }, ""},
		"too fast for that time": {func(r *soakReport) { r.Slope, r.Minutes = 40, 0.3 }, "grew by 40.00 MiB/min"},
	} {
		r := good
		tt.change(&r)
		if err := r.verdict(1); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestGaugeFitsALine(t *testing.T) {
	var g gauge
	for i := range 40 {
		mib := 50 + 2*float64(i)/10 // 2 MiB/min
		if i < 10 {
			mib = 5 * float64(i) // warming up
		}
		g.at, g.mib = append(g.at, float64(i)/10), append(g.mib, mib)
	}
	var r soakReport
	g.report(&r)
	if math.Abs(r.Slope-2) > 1e-9 || math.Abs(r.Minutes-2.9) > 1e-9 {
		t.Errorf("slope %v over %v min, want 2 over 2.9", r.Slope, r.Minutes)
	}
	g.read(time.Minute)
	if g.mib[40] < 0.5 || g.goroutines < 1 {
		t.Errorf("read %v MiB and %d goroutines", g.mib[40], g.goroutines)
	}
}
