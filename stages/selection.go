package stages

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// SelectConfig says which rows of a data set are kept when it is prepared.
type SelectConfig struct {
	Labels  []int32    // class numbers by row; −1 unknown
	Pixels  [][16]byte // digests of the images, from [Recode]
	Classes int        // how many there are
	Bad     []bool     // rows that are left out whatever they are; nil for none

	DropDuplicates bool // of the rows with equal pixels and label, keep the first
	DropConflicts  bool // keep no row whose pixels come under another label too
	MinRows        int  // classes with fewer rows, after that, are left out
	Seed           uint64
	InOrder        bool // keep the order of the source, rather than shuffle
}

// A Selection is what [Select] found.
type Selection struct {
	Order   []int64 // the rows that are kept, in the order in which they are to be stored
	Classes []int32 // by class number: the new number, or −1 for a class that is left out

	Duplicates  int64      // rows with the pixels and label of an earlier one
	Conflicting int64      // rows whose pixels come under another label too
	Conflicts   []Conflict // some of these, at most MaxConflicts
	SmallClass  int64      // rows of classes that are left out
	LeftOut     int        // classes
}

// A Conflict is one image under two classes.
type Conflict struct {
	Rows   [2]int64
	Labels [2]int32
}

// MaxConflicts is how many conflicts are listed.
const MaxConflicts = 1000

// Select chooses the rows and their order: a permutation of those that are kept,
// by the seed alone. The same arguments give the same answer everywhere.
func Select(cfg SelectConfig) (*Selection, error) {
	if len(cfg.Labels) != len(cfg.Pixels) {
		return nil, fmt.Errorf("stages: %d labels and %d digests of images", len(cfg.Labels), len(cfg.Pixels))
	}
	s := &Selection{Classes: make([]int32, cfg.Classes)}
	drop := make([]bool, len(cfg.Labels))
	copy(drop, cfg.Bad)
	s.compare(cfg, drop)
	rows := make([]int, cfg.Classes)
	for i, l := range cfg.Labels {
		if !drop[i] && l != pipeline.Unknown {
			rows[l]++
		}
	}
	next := int32(0)
	for l := range s.Classes {
		if rows[l] < cfg.MinRows {
			s.Classes[l] = -1
			s.LeftOut++
			continue
		}
		s.Classes[l] = next
		next++
	}
	for i, l := range cfg.Labels {
		if !drop[i] && l != pipeline.Unknown && s.Classes[l] < 0 {
			drop[i] = true
			s.SmallClass++
		}
		if !drop[i] {
			s.Order = append(s.Order, int64(i))
		}
	}
	if !cfg.InOrder {
		d := newDice(newPlanKey("prep", cfg.Seed))
		for i := len(s.Order) - 1; i > 0; i-- { // Durstenfeld, as in shuffle
			j := d.below(uint64(i) + 1)
			s.Order[i], s.Order[j] = s.Order[j], s.Order[i]
		}
	}
	return s, nil
}

// compare finds the rows of equal pixels, side by side in the order of their
// digests.
func (s *Selection) compare(cfg SelectConfig, drop []bool) {
	order := make([]int64, 0, len(cfg.Pixels))
	for i := range cfg.Pixels {
		if !drop[i] {
			order = append(order, int64(i))
		}
	}
	slices.SortFunc(order, func(a, b int64) int {
		return cmp.Or(slices.Compare(cfg.Pixels[a][:], cfg.Pixels[b][:]), cmp.Compare(a, b))
	})
	for len(order) > 0 {
		n := 1
		for n < len(order) && cfg.Pixels[order[n]] == cfg.Pixels[order[0]] {
			n++
		}
		s.alike(cfg, order[:n], drop)
		order = order[n:]
	}
	slices.SortFunc(s.Conflicts, func(a, b Conflict) int { return cmp.Compare(a.Rows[0], b.Rows[0]) })
	s.Conflicts = s.Conflicts[:min(len(s.Conflicts), MaxConflicts)]
}

// alike judges rows of equal pixels, in the order of the source. Those of unknown
// class are nobody's conflict.
func (s *Selection) alike(cfg SelectConfig, rows []int64, drop []bool) {
	if len(rows) == 1 {
		return
	}
	first := make(map[int32]int64) // row by label
	known := -1                    // the first of known class
	other := -1                    // the first of another known class
	for k, i := range rows {
		l := cfg.Labels[i]
		if _, seen := first[l]; seen {
			s.Duplicates++
			drop[i] = cfg.DropDuplicates
		} else {
			first[l] = i
		}
		switch {
		case l == pipeline.Unknown:
		case known < 0:
			known = k
		case other < 0 && l != cfg.Labels[rows[known]]:
			other = k
		}
	}
	if other < 0 {
		return
	}
	a, b := rows[known], rows[other]
	s.Conflicts = append(s.Conflicts, Conflict{[2]int64{a, b}, [2]int32{cfg.Labels[a], cfg.Labels[b]}})
	for _, i := range rows {
		if cfg.Labels[i] != pipeline.Unknown {
			s.Conflicting++
			drop[i] = drop[i] || cfg.DropConflicts
		}
	}
}
