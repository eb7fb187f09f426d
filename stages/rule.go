package stages

import (
	"fmt"
	"strings"
)

// A Rule says which negatives an anchor-positive pair may be given: an interval
// of distances from the anchor. Distances are those of the loss, d_ap that of
// the pair and hi = d_ap + margin.
type Rule uint8

const (
	SemiHard  Rule = iota // d_ap < d_an < hi: Schroff et al. 2015
	Hard                  // d_an ≤ d_ap
	BatchHard             // the farthest positive of an anchor with its nearest negative: Hermans et al. 2017
	BatchAll              // d_an < hi: every triplet with positive loss
	All                   // every valid triplet
	TFA                   // TensorFlow Addons: the nearest negative with d_an > d_ap, or else the farthest of all
	PML                   // pytorch-metric-learning's "semihard": d_ap < d_an ≤ hi
	VGG                   // VGG-Face: d_an < hi, on squared distances
)

var ruleNames = [...]string{"semi-hard", "hard", "batch-hard", "batch-all", "all", "tfa", "pml", "vgg"}

// String is the name that flags and file headers use.
func (r Rule) String() string {
	if int(r) < len(ruleNames) {
		return ruleNames[r]
	}
	return fmt.Sprintf("Rule(%d)", uint8(r))
}

// ParseRule is the inverse of [Rule.String].
func ParseRule(s string) (Rule, error) {
	for r, name := range ruleNames {
		if s == name {
			return Rule(r), nil
		}
	}
	return 0, fmt.Errorf("unknown rule %q, want one of %s", s, strings.Join(ruleNames[:], ", "))
}

// MarshalText implements [encoding.TextMarshaler]: the name, for digests and headers.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Listing reports whether r selects triplets rather than negatives for a pair:
// without a PerPair it lists all of them.
func (r Rule) Listing() bool { return r == All || r == BatchAll || r == PML }

// picksItself reports whether r says which of its negatives is taken.
func (r Rule) picksItself() bool { return r == BatchHard || r == TFA }

// A Scope says where negatives are looked for.
type Scope uint8

const (
	ScopeBatch   Scope = iota // among the images of the batch
	ScopeDataSet              // among all embeddings of the cache
)

// String is "batch" or "dataset".
func (s Scope) String() string {
	switch s {
	case ScopeBatch:
		return "batch"
	case ScopeDataSet:
		return "dataset"
	}
	return fmt.Sprintf("Scope(%d)", uint8(s))
}

// ParseScope is the inverse of [Scope.String].
func ParseScope(s string) (Scope, error) {
	for _, scope := range []Scope{ScopeBatch, ScopeDataSet} {
		if s == scope.String() {
			return scope, nil
		}
	}
	return 0, fmt.Errorf("unknown scope %q, want batch or dataset", s)
}

// MarshalText implements [encoding.TextMarshaler].
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
