package stages

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// Short is what a [Plan] does with classes of 2 to K−1 images.
type Short uint8

const (
	// Repeat shows every image of a short class before it shows one again, in
	// each batch that holds the class, and all of them equally often over time.
	Repeat Short = iota
	// Drop leaves short classes out of the batches. Over a whole data set their
	// images still serve as negatives.
	Drop
)

// String is "repeat" or "drop".
func (s Short) String() string {
	switch s {
	case Repeat:
		return "repeat"
	case Drop:
		return "drop"
	}
	return fmt.Sprintf("Short(%d)", uint8(s))
}

// ParseShort is the inverse of [Short.String].
func ParseShort(name string) (Short, error) {
	for _, s := range []Short{Repeat, Drop} {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("stages: short classes: %q is not repeat or drop", name)
}

// A PlanReport counts what a [Plan] is made of, and what it leaves out.
type PlanReport struct {
	Rows    int64 // of the data set
	Unknown int64 // rows without a class: never planned
	Classes int   // with one row or more
	Single  int   // classes with one row: never planned under any policy
	Short   int   // classes with 2 to K−1 rows: repeated or dropped, as Short says
	Planned int   // classes that batches are made of
	Images  int64 // rows of those
	Largest int64 // rows of the largest of those
}

// Report counts the classes and rows that are planned and those that are not.
func (p *Plan) Report() PlanReport { return p.report }

// Classes are the numbers of the planned classes, ascending. They are shared
// and not to be changed.
func (p *Plan) Classes() []int32 { return p.numbers }

// enough says whether there are P classes to make a batch of.
func (r PlanReport) enough(cfg PlanConfig) error {
	if cfg.P <= r.Planned {
		return nil
	}
	least, left := 2, ""
	if cfg.Short == Drop {
		least = cfg.K
		if r.Short > 0 {
			left = fmt.Sprintf(" (Short is Drop, and %s from 2 to %d)", classesHave(r.Short), cfg.K-1)
		}
	}
	what := "no class has"
	if r.Planned > 0 {
		what = "only " + classesHave(r.Planned)
	}
	return usage("PlanConfig.P", "is %d, but %s %d images or more%s: lower P or add classes", cfg.P, what, least, left)
}

func classesHave(n int) string {
	if n == 1 {
		return "1 class has"
	}
	return fmt.Sprintf("%d classes have", n)
}

// planClasses are the planned classes and their rows.
type planClasses struct {
	numbers []int32  // class number of planned class j, ascending
	starts  []uint32 // of the rows of class j in members, and the end of the last
	members []uint32 // sample ids, by class, ascending in each
}

// membersOf are the sample ids of planned class j.
func (c *planClasses) membersOf(j uint32) []uint32 { return c.members[c.starts[j]:c.starts[j+1]] }

// sortClasses decides which classes of cfg.Labels are planned, and sorts their rows.
func sortClasses(cfg PlanConfig) (planClasses, PlanReport, error) {
	var c planClasses
	r := PlanReport{Rows: int64(len(cfg.Labels))}
	if r.Rows > math.MaxUint32 {
		return c, r, usage("PlanConfig.Labels", "has %d rows, want at most %d", r.Rows, uint32(math.MaxUint32))
	}
	rows := make(map[int32]uint32) // a class's count first, then where its next row goes
	for id, l := range cfg.Labels {
		switch {
		case l == pipeline.Unknown:
			r.Unknown++
		case l < 0:
			return c, r, usage(fmt.Sprintf("PlanConfig.Labels[%d]", id), "is %d, want 0 or more, or %d for unknown", l, pipeline.Unknown)
		default:
			rows[l]++
		}
	}
	r.Classes = len(rows)
	least := uint32(2)
	if cfg.Short == Drop {
		least = uint32(cfg.K)
	}
	c.starts = []uint32{0}
	for _, l := range slices.Sorted(maps.Keys(rows)) {
		n := rows[l]
		switch {
		case n == 1:
			r.Single++
		case n < uint32(cfg.K):
			r.Short++
		}
		if n < least {
			delete(rows, l)
			continue
		}
		start := c.starts[len(c.starts)-1]
		rows[l] = start
		c.numbers = append(c.numbers, l)
		c.starts = append(c.starts, start+n)
		r.Largest = max(r.Largest, int64(n))
	}
	r.Planned = len(c.numbers)
	r.Images = int64(c.starts[r.Planned])
	c.members = make([]uint32, r.Images)
	for id, l := range cfg.Labels {
		if at, ok := rows[l]; ok {
			c.members[at] = uint32(id)
			rows[l] = at + 1
		}
	}
	return c, r, nil
}
