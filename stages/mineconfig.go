package stages

import (
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/loss"
)

// MineConfig says which triplets are mined: everything that decides their
// content, and nothing else, so that it can be compared, printed and digested.
type MineConfig struct {
	Loss        loss.TripletMargin // the trainer's loss: its margin (> 0) and distance define the bands, once
	Rule        Rule               // default SemiHard
	Pick        Pick               // default Random; BatchHard and TFA say themselves which negative they take
	PerPair     int                // negatives of a pair; default 1, under ByRank all its ranks, and every one for a listing rule in a batch
	Positives   int                // of an anchor; default 4 over a data set and all in a batch (1 for BatchHard); AllPositives for all
	PositivesBy PositivesBy        // which ones; default RandomPositives, for BatchHard always HardestPositives
	Candidates  int                // of a Scan: negatives are looked for among a sample of so many rows, as many of each class; default all
	Seed        uint64             // of the keyed hash, and of that sample
	Guards      Guards             // against false negatives
	Scope       Scope              // default ScopeBatch; a Scan is always ScopeDataSet
}

// A UsageError is a setting that makes no sense, or not with the others.
type UsageError struct {
	Field  string // such as "MineConfig.PerPair"
	Reason string // what it is and what is wanted
}

func (e *UsageError) Error() string { return "stages: " + e.Field + " " + e.Reason }

func usage(field, format string, args ...any) error {
	return &UsageError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Resolve checks c and fills its defaults in: what a header should record. The
// PerPair of a listing rule without one stays 0 and lists every triplet. An
// error is a [*UsageError].
func (c MineConfig) Resolve() (MineConfig, error) {
	if !(c.Loss.Margin > 0) || math.IsInf(c.Loss.Margin, 1) {
		return c, usage("MineConfig.Loss.Margin", "is %v, want > 0 in units of %v", c.Loss.Margin, c.Loss.Distance)
	}
	if c.Loss.Distance > loss.Cosine {
		return c, usage("MineConfig.Loss.Distance", "is %v", c.Loss.Distance)
	}
	if c.Rule > VGG {
		return c, usage("MineConfig.Rule", "is %v", c.Rule)
	}
	if c.Rule == VGG && c.Loss.Distance != loss.SqEuclidean {
		return c, usage("MineConfig.Loss.Distance", "is %v, but rule vgg is defined on squared distances: want sqeuclidean, or rule batch-all, whose band is the same, with a PerPair", c.Loss.Distance)
	}
	if c.Scope > ScopeDataSet {
		return c, usage("MineConfig.Scope", "is %v", c.Scope)
	}
	if c.Candidates < 0 || c.Candidates > math.MaxInt32 {
		return c, usage("MineConfig.Candidates", "is %d, want 1 or more, or 0 for all", c.Candidates)
	}
	if err := c.Guards.check(); err != nil {
		return c, err
	}
	if err := c.resolvePick(); err != nil {
		return c, err
	}
	return c, c.resolvePositives()
}

func (c *MineConfig) resolvePick() error {
	p := c.Pick
	switch {
	case p.By > ByRank:
		return usage("MineConfig.Pick", "is %v", p)
	case p.By == ByRank && (p.First < 0 || p.Last < p.First || p.Last >= math.MaxInt32):
		return usage("MineConfig.Pick", "is %v, want ranks 0 ≤ i ≤ j", p)
	case p.By != ByRank && (p.First != 0 || p.Last != 0):
		return usage("MineConfig.Pick", "is %v with ranks %d to %d, which only a window has", p, p.First, p.Last)
	case c.Rule.picksItself() && p.By != Random && p.By != Nearest:
		return usage("MineConfig.Pick", "is %v, but rule %v takes the nearest negative by its definition", p, c.Rule)
	case c.Rule.picksItself():
		c.Pick = Pick{By: Nearest}
	}
	switch {
	case c.PerPair < 0 || c.PerPair > math.MaxInt32:
		return usage("MineConfig.PerPair", "is %d, want 1 or more", c.PerPair)
	case c.PerPair > 0:
	case c.Pick.By == ByRank:
		c.PerPair = c.Pick.Last - c.Pick.First + 1
	case !c.Rule.Listing():
		c.PerPair = 1
	case c.Scope == ScopeDataSet:
		return usage("MineConfig.PerPair", "is not set, and rule %v would list every triplet of the data set: want 1 or more", c.Rule)
	}
	return nil
}

func (c *MineConfig) resolvePositives() error {
	if c.PositivesBy > EasiestPositives {
		return usage("MineConfig.PositivesBy", "is %v", c.PositivesBy)
	}
	if c.Positives < AllPositives || c.Positives > math.MaxInt32 {
		return usage("MineConfig.Positives", "is %d, want 1 or more, or AllPositives", c.Positives)
	}
	if c.Rule == BatchHard {
		if c.Positives > 1 || c.Positives == AllPositives || c.PositivesBy == EasiestPositives {
			return usage("MineConfig.Positives", "is set, but rule batch-hard takes the farthest positive by its definition")
		}
		c.Positives, c.PositivesBy = 1, HardestPositives
	}
	if c.Positives == 0 && c.Scope == ScopeDataSet {
		c.Positives = 4
	} else if c.Positives == 0 {
		c.Positives = AllPositives
	}
	return nil
}
