package stages

import (
	"fmt"
	"strconv"
	"strings"
)

// A Pick says which of the negatives inside its rule's interval a pair is
// given, and in which order. Ties go to the lower sample id.
type Pick struct {
	By          Order // default Random
	First, Last int   // ByRank only: ranks by distance, from 0 for the nearest, both included
}

// An Order ranks the negatives of a pair.
type Order uint8

const (
	Random   Order = iota // smallest keyed hash first: uniform, and whatever order the data is read in
	Nearest               // smallest distance first
	Farthest              // greatest distance first
	ByRank                // Pick.First to Pick.Last by distance, nearest first
)

// String is the name that flags and file headers use: "random", "nearest",
// "farthest" or "window:2-5".
func (p Pick) String() string {
	switch p.By {
	case Random:
		return "random"
	case Nearest:
		return "nearest"
	case Farthest:
		return "farthest"
	case ByRank:
		return fmt.Sprintf("window:%d-%d", p.First, p.Last)
	}
	return fmt.Sprintf("Order(%d)", uint8(p.By))
}

// ParsePick is the inverse of [Pick.String].
func ParsePick(s string) (Pick, error) {
	switch s {
	case "random":
		return Pick{}, nil
	case "nearest":
		return Pick{By: Nearest}, nil
	case "farthest":
		return Pick{By: Farthest}, nil
	}
	if ranks, ok := strings.CutPrefix(s, "window:"); ok {
		first, last, _ := strings.Cut(ranks, "-")
		i, err1 := strconv.ParseUint(first, 10, 31)
		j, err2 := strconv.ParseUint(last, 10, 31)
		if err1 != nil || err2 != nil || i > j {
			return Pick{}, fmt.Errorf("pick %q: want window:i-j with ranks 0 ≤ i ≤ j, both included", s)
		}
		return Pick{By: ByRank, First: int(i), Last: int(j)}, nil
	}
	return Pick{}, fmt.Errorf("unknown pick %q, want random, nearest, farthest or window:i-j", s)
}

// MarshalText implements [encoding.TextMarshaler].
func (p Pick) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// AllPositives pairs an anchor with every positive.
const AllPositives = -1

// PositivesBy says which of its positives an anchor is paired with when it has
// more than it is to have. Ties go to the lower sample id.
type PositivesBy uint8

const (
	RandomPositives  PositivesBy = iota // smallest keyed hash of (seed, generation, anchor, positive) first
	HardestPositives                    // farthest from the anchor first
	EasiestPositives                    // nearest first
)

var positivesNames = [...]string{"random", "hardest", "easiest"}

// String is "random", "hardest" or "easiest".
func (p PositivesBy) String() string {
	if int(p) < len(positivesNames) {
		return positivesNames[p]
	}
	return fmt.Sprintf("PositivesBy(%d)", uint8(p))
}

// MarshalText implements [encoding.TextMarshaler].
func (p PositivesBy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// ParsePositives reads what a flag says of positives: a number, "all" (or 0),
// "hardest" or "easiest" for one, "hardest:3" or "easiest:3" for more.
func ParsePositives(s string) (n int, by PositivesBy, err error) {
	if s == "all" || s == "0" {
		return AllPositives, RandomPositives, nil
	}
	count := s
	for _, p := range []PositivesBy{HardestPositives, EasiestPositives} {
		if s == p.String() {
			return 1, p, nil
		}
		if c, ok := strings.CutPrefix(s, p.String()+":"); ok {
			count, by = c, p
		}
	}
	v, err := strconv.ParseUint(count, 10, 31)
	if err != nil || v == 0 {
		return 0, 0, fmt.Errorf("positives %q: want a number from 1, all, hardest, easiest, hardest:n or easiest:n", s)
	}
	return int(v), by, nil
}

// chain is one step of the keyed hash: h is that of the words before w. It is
// SplitMix64 over a counter that starts at h, so no two w of one h collide.
func chain(h, w uint64) uint64 { return scramble(h + (w+1)*0x9e3779b97f4a7c15) }

// mineKey is what all hashes of one generation start from.
func mineKey(seed uint64, generation int32) uint64 {
	return chain(chain(0, seed), uint64(int64(generation)))
}

// pairKey is the hash of an anchor and a positive, by sample ids. The negatives
// of the pair are taken in the order of their ids' [f32.Hash] under it. Both are
// part of what a file mined at random is.
func pairKey(mineKey uint64, anchor, positive int64) uint64 {
	return chain(chain(mineKey, uint64(anchor)), uint64(positive))
}
