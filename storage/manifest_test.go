package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// sound is a manifest of 5 rows in two shards, whose files are not there.
func sound() *Manifest {
	sum := strings.Repeat("0123456789abcdef", 4)
	return &Manifest{
		Version: ManifestVersion, Format: FormatParquet, Split: "train", Rows: 5, Unknown: 1, Encoding: "keep",
		Classes:  []ManifestClass{{"a", 3}, {"b", 1}},
		Images:   []ManifestImage{{"PNG", 1, 28, 28, 4}},
		Other:    1,
		Settings: map[string]string{"seed": "1"}, Counts: map[string]int64{"read": 5},
		Sources: []ManifestSource{{"folder", "images", 5}},
		Labels:  ManifestFile{Path: "labels.bin", Size: 20, SHA256: sum},
		Shards: []ManifestShard{
			{Path: "data/train-00000-of-00002.parquet", Size: 300, Rows: 3, Tail: sum, Groups: []ManifestGroup{{2, 100, sum}, {1, 200, sum}}},
			{Path: "data/train-00001-of-00002.parquet", Size: 200, Rows: 2, Tail: sum, Groups: []ManifestGroup{{2, 150, sum}}},
		},
	}
}

func encode(tb testing.TB, m *Manifest) []byte {
	tb.Helper()
	b, err := m.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestManifestRoundTrip(t *testing.T) {
	want := sound()
	b := encode(t, want)
	got, err := ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest || !bytes.Equal(encode(t, got), b) {
		t.Errorf("read back %+v, want %+v", got, want)
	}
	if !json.Valid(b) {
		t.Error("not JSON")
	}
}

// No byte of a manifest can be changed, removed or added without an error.
func TestManifestDamage(t *testing.T) {
	good := encode(t, sound())
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := ParseManifest(b); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
		}
		if _, err := ParseManifest(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := ParseManifest(append(bytes.Clone(good), '\n')); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a line added: %v", err)
	}
	if _, err := ParseManifest(bytes.Replace(good, []byte(`"tercet_manifest":1`), []byte(`"tercet_manifest":2`), 1)); !errors.Is(err, ErrVersion) {
		t.Errorf("another version: %v", err)
	}
}

// What does not add up is refused, with a digest that is right as well.
func TestManifestThatDoesNotAddUp(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*Manifest)
	}{
		{"format", func(m *Manifest) { m.Format = "csv" }},
		{"rows", func(m *Manifest) { m.Rows = 6 }},
		{"negative rows", func(m *Manifest) { m.Rows = -1 }},
		{"unknown", func(m *Manifest) { m.Unknown = 2 }},
		{"class rows", func(m *Manifest) { m.Classes[0].Rows = 4 }},
		{"class twice", func(m *Manifest) { m.Classes[1].Name = "a" }},
		{"images", func(m *Manifest) { m.Other = 2 }},
		{"labels", func(m *Manifest) { m.Labels.Size = 24 }},
		{"labels path", func(m *Manifest) { m.Labels.Path = "../labels.bin" }},
		{"shard rows", func(m *Manifest) { m.Shards[0].Rows = 4 }},
		{"group rows", func(m *Manifest) { m.Shards[0].Groups[0].Rows = 3 }},
		{"group end", func(m *Manifest) { m.Shards[0].Groups[1].End = 90 }},
		{"group past its file", func(m *Manifest) { m.Shards[0].Groups[1].End = 300 }},
		{"no groups", func(m *Manifest) { m.Shards[0].Groups = nil }},
		{"digest", func(m *Manifest) { m.Shards[0].Tail = "x" }},
		{"order", func(m *Manifest) { m.Shards[1].Path = m.Shards[0].Path }},
		{"a shard less", func(m *Manifest) { m.Shards = m.Shards[:1] }},
	} {
		m := sound()
		tt.spoil(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(reseal(b)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", tt.name, err)
		}
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: can be written", tt.name)
		}
	}
	extra := append(bytes.TrimSuffix(bytes.TrimSpace(encodeBody(t, sound())), []byte("}")), `,"plugin":"x"}`...)
	if _, err := ParseManifest(reseal(extra)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an unknown member: %v", err)
	}
}

func encodeBody(tb testing.TB, m *Manifest) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func FuzzManifest(f *testing.F) {
	good := encode(f, sound())
	f.Add(good, false)
	f.Add(bytes.TrimSuffix(encodeBody(f, sound()), []byte("}")), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal {
			b = reseal(b)
		}
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("read and not written: %v", err)
		}
		if _, err := ParseManifest(again); err != nil {
			t.Fatalf("written and not read: %v", err)
		}
	})
}

// reseal ends the JSON object b with its right digest.
func reseal(b []byte) []byte {
	b = bytes.TrimSuffix(bytes.TrimSpace(b), []byte("}"))
	sum := sha256.Sum256(b)
	return fmt.Appendf(bytes.Clone(b), `,"sha256":"%x"}`+"\n", sum)
}
