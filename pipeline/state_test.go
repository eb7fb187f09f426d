package pipeline

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

var worst = State{
	Format: math.MinInt64, Data: strings.Repeat("f", 64), Config: strings.Repeat("f", 64), Seed: math.MaxUint64,
	Next: math.MinInt64, Generation: math.MinInt32, Snapshot: strings.Repeat("f", 64),
}

func TestStateIsSmall(t *testing.T) {
	text, err := json.Marshal(worst)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 1024 {
		t.Errorf("a state takes %d bytes, want at most 1024: %s", len(text), text)
	}
	var back State
	if err := json.Unmarshal(text, &back); err != nil || back != worst {
		t.Errorf("came back as %+v, %v", back, err)
	}
}

// A field added to State fails this test until it is said whether it has to match.
func TestStateCheck(t *testing.T) {
	mayDiffer := map[string]bool{"next": true, "generation": true, "snapshot": true}
	run := State{Format: StateFormat, Data: "d", Config: "c", Seed: 1, Next: 5, Generation: 2, Snapshot: "s"}
	if err := run.Check(run); err != nil {
		t.Errorf("the same state is refused: %v", err)
	}
	typ := reflect.TypeFor[State]()
	for i := range typ.NumField() {
		field := typ.Field(i).Tag.Get("json")
		s := run
		switch v := reflect.ValueOf(&s).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Uint64:
			v.SetUint(v.Uint() + 1)
		default:
			v.SetInt(v.Int() + 1)
		}
		err := s.Check(run)
		if mayDiffer[field] {
			if err != nil {
				t.Errorf("another %s is refused: %v", field, err)
			}
			continue
		}
		var refused *StateError
		if !errors.As(err, &refused) || refused.Field != field || refused.Have == refused.Want {
			t.Errorf("another %s gives %v, want a StateError that names it", field, err)
		} else if !strings.Contains(err.Error(), field+" is "+refused.Have+", want "+refused.Want) {
			t.Errorf("message %q does not say what differs", err)
		}
	}
}

func TestStateCaptureAllocatesNothing(t *testing.T) {
	b := new(Batch)
	b.Stamp(worst)
	var s State
	if n := testing.AllocsPerRun(100, func() { s = b.State() }); n != 0 {
		t.Errorf("State allocates %v times, want 0", n)
	}
	if s != worst {
		t.Errorf("State() = %+v, want %+v", s, worst)
	}
}

func TestDigest(t *testing.T) {
	type config struct{ P, K int }
	// Pinned, as computed outside Go: digests are part of states and files that outlive a release.
	const want = "8559ad4f"
	seen := map[string]string{}
	for name, d := range map[string]string{
		"plan 4×2":    Digest("plan", config{4, 2}),
		"plan 2×4":    Digest("plan", config{2, 4}),
		"miner 4×2":   Digest("miner", config{4, 2}),
		"label shift": Digest("plan{", config{4, 2}),
	} {
		if len(d) != 64 || strings.Trim(d, "0123456789abcdef") != "" {
			t.Errorf("%s: digest is %q, want 64 hex digits", name, d)
		}
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[d] = name
	}
	if got := Digest("plan", config{4, 2})[:8]; got != want {
		t.Errorf("digest begins %s, want %s", got, want)
	}
}

func BenchmarkStateCapture(b *testing.B) {
	batch := new(Batch)
	batch.Stamp(worst)
	var s State
	b.ReportAllocs()
	for b.Loop() {
		s = batch.State()
	}
	if s != worst {
		b.Fatal("not the state that was stamped")
	}
}
