package stages

import (
	"encoding/json"
	"math/bits"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// Health is how mining goes, over some batches or a whole data set. Two healths
// over different batches merge into that over both; what is of a moment and not
// of batches (Time, Norms, Cache, Stages, Queues, Alarms) is then the later one's.
type Health struct {
	Batches     int64      // that were observed; 0 for a data set mined as a whole
	First, Last int64      // their lowest and highest number; −1 without any
	Generation  int32      // of the cache, for the last of them
	Mined       MineReport // pairs, triplets, kinds, what guards kept out
	Active      int64      // triplets with a positive loss
	AP, AN      Sketch     // distances of the triplets
	Loss        Sketch     // of each triplet
	Apart       Sketch     // distances between images of different classes, whether mined or not: small next to the margin, all has collapsed
	Trained     Sketch     // what the trainer said its loss was: see Monitor.Trained
	Classes     ClassSet   // of the anchors that were given a triplet
	Known       int        // classes there are; 0 where that is not known

	Time   time.Time
	Norms  Sketch // lengths of the newest embeddings before they were scaled
	Cache  *CacheStats
	Stages []pipeline.Timing
	Queues []pipeline.Queue
	Alarms []Alarm
}

// An Alarm says that training is likely to go wrong, and why.
type Alarm struct {
	Kind AlarmKind `json:"kind"`
	Text string    `json:"text"`
}

// AlarmKind is what an [Alarm] is about.
type AlarmKind string

// The kinds of alarms.
const (
	AlarmCollapse   AlarmKind = "collapse"       // distances go to 0 and losses to the margin
	AlarmNoTriplets AlarmKind = "no-triplets"    // no pair has a negative any more
	AlarmNaN        AlarmKind = "nan"            // a loss or a distance is NaN or infinite
	AlarmRefresh    AlarmKind = "refresh-failed" // the cache goes on with old rows
)

var alarmKinds = []AlarmKind{AlarmCollapse, AlarmNoTriplets, AlarmNaN, AlarmRefresh}

// A ClassSet is a set of class numbers.
type ClassSet struct{ words []uint64 }

// Add adds a class; an unknown one is in no set.
func (s *ClassSet) Add(class int32) {
	if class < 0 {
		return
	}
	for int(class)/64 >= len(s.words) {
		s.words = append(s.words, 0)
	}
	s.words[class/64] |= 1 << (class % 64)
}

// Merge adds the classes of o.
func (s *ClassSet) Merge(o *ClassSet) {
	for len(s.words) < len(o.words) {
		s.words = append(s.words, 0)
	}
	for i, w := range o.words {
		s.words[i] |= w
	}
}

// Len is the number of classes.
func (s *ClassSet) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// triplet counts a triplet that was given to an anchor of a class.
func (h *Health) triplet(ap, an, loss float32, class int32) {
	h.AP.Add(float64(ap))
	h.AN.Add(float64(an))
	h.Loss.Add(float64(loss))
	if loss > 0 {
		h.Active++
	}
	h.Classes.Add(class)
}

// ActiveShare is the share of the triplets with a positive loss; 0 without any.
func (h *Health) ActiveShare() float64 {
	return float64(h.Active) / float64(max(1, h.Loss.Count+h.Loss.NaN))
}

// Merge counts what o, which is later, has counted.
func (h *Health) Merge(o *Health) {
	if h.Batches == 0 {
		h.First, h.Last = o.First, o.Last
	} else if o.Batches > 0 {
		h.First, h.Last = min(h.First, o.First), max(h.Last, o.Last)
	}
	h.Batches += o.Batches
	h.Generation, h.Known = o.Generation, o.Known
	h.Mined.Add(&o.Mined)
	h.Active += o.Active
	for _, s := range []struct{ to, from *Sketch }{
		{&h.AP, &o.AP}, {&h.AN, &o.AN}, {&h.Loss, &o.Loss}, {&h.Apart, &o.Apart}, {&h.Trained, &o.Trained},
	} {
		s.to.Merge(s.from)
	}
	h.Classes.Merge(&o.Classes)
	h.Time, h.Norms, h.Cache, h.Stages, h.Queues, h.Alarms = o.Time, o.Norms, o.Cache, o.Stages, o.Queues, o.Alarms
}

// MarshalJSON writes h as an object of numbers and quantiles, the same members
// in the same order whatever there was to count.
func (h *Health) MarshalJSON() ([]byte, error) {
	type stage struct {
		Name    string  `json:"name"`
		Items   int64   `json:"items"`
		Seconds float64 `json:"seconds"` // of work, summed over workers
	}
	stages := make([]stage, len(h.Stages))
	for i, t := range h.Stages {
		stages[i] = stage{t.Name, t.Items, t.Busy.Seconds()}
	}
	return json.Marshal(struct {
		Time        time.Time        `json:"time"`
		Batches     int64            `json:"batches"`
		First       int64            `json:"first"`
		Last        int64            `json:"last"`
		Generation  int32            `json:"generation"`
		ActiveShare float64          `json:"active_share"`
		Active      int64            `json:"active"`
		Counts      map[string]int64 `json:"counts"` // as in a triplet file
		AP          *Sketch          `json:"d_ap"`
		AN          *Sketch          `json:"d_an"`
		Loss        *Sketch          `json:"loss"`
		Apart       *Sketch          `json:"d_apart"`
		Trained     *Sketch          `json:"trained_loss"`
		Norms       *Sketch          `json:"norms"`
		Classes     int              `json:"classes"`
		Known       int              `json:"classes_known"`
		Cache       *CacheStats      `json:"cache,omitempty"`
		Stages      []stage          `json:"stages"`
		Queues      []pipeline.Queue `json:"queues"`
		Alarms      []Alarm          `json:"alarms"`
	}{
		h.Time, h.Batches, h.First, h.Last, h.Generation, h.ActiveShare(), h.Active, h.Mined.Counts(),
		&h.AP, &h.AN, &h.Loss, &h.Apart, &h.Trained, &h.Norms, h.Classes.Len(), h.Known, h.Cache,
		stages, append([]pipeline.Queue{}, h.Queues...), append([]Alarm{}, h.Alarms...),
	})
}
