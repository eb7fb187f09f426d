package stages_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// long asks for the counts that take minutes.
var long = os.Getenv("TERCET_LONG") != ""

// A setup is a way to use the library whose stream must not depend on workers,
// processors, prefetch or where it was stopped. begin describes the flow that
// goes on at a state, and what the trainer does with each batch.
type setup struct {
	name  string
	steps int // batches in an epoch
	begin func(t *testing.T, at pipeline.State, workers, ahead int) (flow pipeline.Flow[*pipeline.Batch], train func(*pipeline.Batch))
}

// run collects the digests and states of at most most batches; all for −1.
func (s setup) run(t *testing.T, at pipeline.State, workers, ahead, most int) (digests [][32]byte, states []pipeline.State) {
	t.Helper()
	if most == 0 {
		return nil, nil
	}
	flow, train := s.begin(t, at, workers, ahead)
	for b, err := range flow.All(t.Context()) {
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		digests, states = append(digests, digest(b)), append(states, b.State())
		if train != nil {
			train(b)
		}
		if len(digests) == most {
			break
		}
	}
	return digests, states
}

// setups are the ones that the matrix goes through.
func setups(t *testing.T, steps int) []setup {
	return []setup{
		plain(t, "batch", steps, storage.Config{Paths: []string{"../testdata/glyphs"}}, stages.ScopeBatch, 0, 1),
		windowed(t, steps),
		plain(t, "data set", steps, storage.Config{Paths: []string{"../testdata/glyphs"}}, stages.ScopeDataSet, 0, 1),
		plain(t, "mapped Arrow file, no row group kept", steps, storage.Config{Paths: []string{"../testdata/formats/file.arrow"}, Memory: 1}, stages.ScopeBatch, 0, 1),
		plain(t, "rank 1 of 2", 2*steps, storage.Config{Paths: []string{"../testdata/glyphs"}}, stages.ScopeBatch, 1, 2),
		refreshed(t, steps),
		fromTriplets(t, steps),
	}
}

// plain is a flow with a cache that stays.
func plain(t *testing.T, name string, steps int, data storage.Config, scope stages.Scope, rank, world int) setup {
	s := openStream(t, data)
	s.steps, s.scope, s.rank, s.world = int64(steps), scope, rank, world
	return setup{name, steps / world, func(t *testing.T, at pipeline.State, workers, ahead int) (pipeline.Flow[*pipeline.Batch], func(*pipeline.Batch)) {
		return s.flow(t, at, workers, ahead), nil
	}}
}

// windowed is a flow whose images do not fit its budget.
func windowed(t *testing.T, steps int) setup {
	s := openStream(t, storage.Config{Paths: []string{"../testdata/glyphs"}})
	s.steps, s.scope, s.window = int64(steps), stages.ScopeBatch, 0.5
	if _, has := s.plan(t, pipeline.State{}).Windows(0); !has {
		t.Fatal("the plan has no windows")
	}
	return setup{"windowed", steps, func(t *testing.T, at pipeline.State, workers, ahead int) (pipeline.Flow[*pipeline.Batch], func(*pipeline.Batch)) {
		return s.flow(t, at, workers, ahead), nil
	}}
}

// A trainee is an embedder that learns: its weight is the number of steps taken.
// It takes the rows of another snapshot for pixels and turns them by its weight.
type trainee struct{ weight int64 }

func (e *trainee) Dim() int            { return 16 }
func (e *trainee) Fingerprint() string { return fmt.Sprint("trainee ", e.weight) }

func (e *trainee) Embed(_ context.Context, dst pipeline.Embeddings, pixels []float32) error {
	sin, cos := math.Sincos(float64(e.weight) / 50)
	for i := range dst.Data {
		dst.Data[i] = float32(float64(pixels[i])*cos) + float32(sin*float64(i%16)/64)
	}
	return nil
}

func (e *trainee) Freeze() (stages.Embedder, error) {
	frozen := *e
	return &frozen, nil
}

// refreshed is a flow with a cache that is refreshed while a model learns. After
// each batch the trainer keeps what it takes to go on there: the weights, which
// are the state's Next here, and the cache's generations.
func refreshed(t *testing.T, steps int) setup {
	s := openStream(t, storage.Config{Paths: []string{"../testdata/glyphs"}})
	s.steps, s.scope = int64(steps), stages.ScopeDataSet
	images := make([]stages.Image, s.set.Len())
	for i := range images {
		images[i] = stages.Image{ID: int64(i), Pixels: s.first.Embeddings.Row(i)}
	}
	var mu sync.Mutex
	kept := map[int64][]*stages.Snapshot{0: {s.first}}
	return setup{"refreshed", steps, func(t *testing.T, at pipeline.State, workers, ahead int) (pipeline.Flow[*pipeline.Batch], func(*pipeline.Batch)) {
		model := &trainee{at.Next}
		mu.Lock()
		held := kept[at.Next]
		mu.Unlock()
		cache, err := stages.NewCache(stages.CacheConfig{
			First: held[0], Every: 20, Lag: 1, Embedder: model, Log: slog.New(slog.DiscardHandler),
			Builder: &stages.Builder{Images: pipeline.From(pipeline.Slice(images)), Samples: len(images), Preprocessing: "none"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range held[1:] {
			if err := cache.Restore(snap); err != nil {
				t.Fatal(err)
			}
		}
		return s.over(t, cache, at, workers, ahead), func(b *pipeline.Batch) {
			model.weight = b.State().Next
			held, err := cache.Settled(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			kept[b.State().Next] = held
		}
	}}
}

// fromTriplets trains from a file of what was mined before.
func fromTriplets(t *testing.T, steps int) setup {
	s := openStream(t, storage.Config{Paths: []string{"../testdata/glyphs"}})
	s.steps, s.scope = int64(steps), stages.ScopeBatch
	path := filepath.Join(t.TempDir(), "mined.parquet")
	w, err := storage.NewTripletWriter(storage.TripletConfig{Path: path, Meta: pipeline.TripletMeta{
		FormatVersion: storage.TripletFormat, Content: "triplets", Scope: "dataset", DataDigest: s.set.Digest(), Rows: int64(s.set.Len()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	labels := s.set.Labels()
	// another is the nth id from a on whose label is a's, or is not.
	another := func(a, n int, same bool) (int64, bool) {
		for i := 1; i < len(labels); i++ {
			if id := (a + i) % len(labels); (labels[id] == labels[a]) == same {
				if n--; n < 0 {
					return int64(id), true
				}
			}
		}
		return 0, false
	}
	var triplets []pipeline.MinedTriplet
	each := 8*steps/(len(labels)-8) + 1
	for a := 0; len(triplets) < 8*steps; a++ {
		positive, ok := another(a, 0, true)
		for n := 0; ok && n < each && len(triplets) < 8*steps; n++ {
			negative, _ := another(a, n, false)
			triplets = append(triplets, pipeline.MinedTriplet{
				Anchor: int64(a), Positive: positive, Negative: negative, AP: 1, AN: float32(n) + 1, Rank: int32(n), Batch: -1,
				AnchorLabel: labels[a], PositiveLabel: labels[positive], NegativeLabel: labels[negative],
			})
		}
	}
	if err := w.Write(triplets); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(nil); err != nil {
		t.Fatal(err)
	}
	return setup{"triplet file", steps, func(t *testing.T, at pipeline.State, workers, ahead int) (pipeline.Flow[*pipeline.Batch], func(*pipeline.Batch)) {
		file, err := storage.OpenTriplets(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		source, err := file.Batches(storage.TripletBatches{PerBatch: 8, Data: s.set.Digest(), Shuffle: true, Seed: 3})
		if err == nil {
			source, err = source.At(at)
		}
		if err != nil {
			t.Fatal(err)
		}
		return pipeline.From(source).Prefetch(ahead).Then(&stages.Fetch{Reader: s.set}, s.decoder(t, workers)), nil
	}}
}

// Goal D1: a run that is stopped after any batch goes on with the batches that
// it would have seen, whatever the workers, processors and prefetch were and are.
func TestMatrixResume(t *testing.T) {
	steps, stride, random := 60, 13, 10
	switch {
	case long:
		steps, stride, random = 500, 1, 2000
	case raceEnabled:
		steps, stride, random = 20, 9, 3
	}
	all := setups(t, steps)
	want, next, states := make([][][32]byte, len(all)), make([][][32]byte, len(all)), make([][]pipeline.State, len(all))
	for i, s := range all {
		want[i], states[i] = s.run(t, pipeline.State{}, 2, 1, -1)
		if len(want[i]) != s.steps {
			t.Fatalf("%s: an epoch of %d batches, want %d", s.name, len(want[i]), s.steps)
		}
		next[i], _ = s.run(t, states[i][s.steps-1], 1, 0, -1)
	}
	// rest is what comes after k batches.
	rest := func(i, k int) [][32]byte {
		if k == all[i].steps {
			return next[i] // the whole next epoch
		}
		return want[i][k:]
	}
	at := func(i, k int) pipeline.State {
		if k == 0 {
			return pipeline.State{}
		}
		return states[i][k-1]
	}
	workers, ahead, processors := []int{1, 2, 3, 7, 16}, []int{1, 8, 64}, []int{1, 2, 8}
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	n := 0
	for i, s := range all {
		for k := 0; k <= s.steps; k += stride {
			runtime.GOMAXPROCS(processors[k%3])
			if got, _ := s.run(t, at(i, k), workers[k%5], ahead[k%3], -1); !slices.Equal(got, rest(i, k)) {
				t.Fatalf("%s: after %d batches the stream goes on differently", s.name, k)
			}
			n++
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range random {
		i := rng.IntN(len(all))
		s, k := all[i], rng.IntN(all[i].steps+1)
		runtime.GOMAXPROCS(processors[rng.IntN(3)])
		w1, a1, w2, a2 := workers[rng.IntN(5)], ahead[rng.IntN(3)], workers[rng.IntN(5)], ahead[rng.IntN(3)]
		head, stopped := s.run(t, pipeline.State{}, w1, a1, k)
		if !slices.Equal(head, want[i][:k]) || k > 0 && stopped[k-1] != states[i][k-1] {
			t.Fatalf("%s: the first %d batches differ with %d workers, %d ahead", s.name, k, w1, a1)
		}
		if tail, _ := s.run(t, at(i, k), w2, a2, -1); !slices.Equal(tail, rest(i, k)) {
			t.Fatalf("%s: stopped after %d batches with %d workers, %d ahead, and resumed with %d workers, %d ahead, the stream differs", s.name, k, w1, a1, w2, a2)
		}
	}
	t.Logf("%d set-ups of %d batches: %d places to stop at, %d random combinations", len(all), steps, n, random)
}

// Goal D2: stopped and resumed again and again, with any number of workers, an
// epoch has every batch once.
func TestMatrixStopAndResume(t *testing.T) {
	cycles, each := 40, 2
	switch {
	case long:
		cycles = 1000
	case raceEnabled:
		cycles = 8
	}
	for _, s := range []setup{
		plain(t, "batch", cycles*each, storage.Config{Paths: []string{"../testdata/glyphs"}}, stages.ScopeBatch, 0, 1),
		refreshed(t, cycles*each),
	} {
		want, _ := s.run(t, pipeline.State{}, 2, 1, -1)
		rng := rand.New(rand.NewPCG(2, 2))
		var got [][32]byte
		at, stops := pipeline.State{}, 0
		for len(got) < len(want) {
			most := rng.IntN(2*each + 1) // also none at all
			part, states := s.run(t, at, 1+rng.IntN(16), rng.IntN(9), min(most, len(want)-len(got)))
			if got = append(got, part...); len(states) > 0 {
				at = states[len(states)-1]
			}
			stops++
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d batches with %d stops differ from the %d without", s.name, len(got), stops, len(want))
		}
		t.Logf("%s: %d batches, %d stops", s.name, len(got), stops)
	}
}

// Goal D3: states taken at the last batch, when there were no more, and after
// the first of the next epoch lead to epochs of full length in the right order.
func TestMatrixEpochEnds(t *testing.T) {
	steps := 21
	if raceEnabled {
		steps = 5
	}
	for _, s := range setups(t, steps) {
		first, states := s.run(t, pipeline.State{}, 2, 8, -1)   // there were no more
		_, left := s.run(t, pipeline.State{}, 2, 8, len(first)) // left at the last batch
		if end := states[len(states)-1]; left[len(left)-1] != end {
			t.Errorf("%s: states %+v and %+v", s.name, left[len(left)-1], end)
		}
		second, after := s.run(t, states[len(states)-1], 3, 1, -1)
		if len(second) != s.steps || slices.Equal(first, second) {
			t.Errorf("%s: the next epoch has %d batches, want %d of its own", s.name, len(second), s.steps)
		}
		rest, _ := s.run(t, after[0], 1, 1, -1)
		if !slices.Equal(rest, second[1:]) {
			t.Errorf("%s: after the first batch of the next epoch come %d batches, not its rest", s.name, len(rest))
		}
		third, _ := s.run(t, after[len(after)-1], 7, 8, -1)
		if len(third) != s.steps || slices.Equal(third, second) {
			t.Errorf("%s: the third epoch has %d batches, want %d of its own", s.name, len(third), s.steps)
		}
	}
}

// Goal D9, through the whole pipeline: the ranks' batches are together the
// stream of one, for a run that begins with 4 ranks and goes on with 2 and 8.
func TestMatrixRanks(t *testing.T) {
	steps, worlds := int64(64), [][]int{{1}, {2}, {4}, {8}, {4, 2, 8}, {3, 8, 1}}
	if raceEnabled {
		steps, worlds = 24, worlds[4:5]
	}
	s := openStream(t, storage.Config{Paths: []string{"../testdata/glyphs"}})
	s.steps, s.scope = steps, stages.ScopeDataSet
	// content leaves out the state, which is that of a step.
	stream := func(at pipeline.State, rank, world, most int) (batches map[int64][32]byte, after pipeline.State) {
		batches = map[int64][32]byte{}
		one := *s
		one.rank, one.world = rank, world
		for b, err := range one.flow(t, at, 1+rank%3, rank%4).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			after = b.State()
			b.Stamp(pipeline.State{})
			batches[b.Number] = digest(b)
			if len(batches) == most {
				break
			}
		}
		return batches, after
	}
	want, _ := stream(pipeline.State{}, 0, 1, -1)
	for _, worlds := range worlds {
		got, at := map[int64][32]byte{}, pipeline.State{}
		for i, world := range worlds {
			most := 1
			if i == len(worlds)-1 {
				most = -1
			}
			var after pipeline.State
			count := 0
			for rank := range world {
				part, a := stream(at, rank, world, most)
				if rank > 0 && (a != after || len(part) != count) {
					t.Fatalf("worlds %v: rank %d of %d has %d batches and ends at %+v, rank 0 %d and %+v", worlds, rank, world, len(part), a, count, after)
				}
				after, count = a, len(part)
				for number, d := range part {
					if _, twice := got[number]; twice {
						t.Fatalf("worlds %v: batch %d has two ranks", worlds, number)
					}
					got[number] = d
				}
			}
			at = after
		}
		for number, d := range got {
			if want[number] != d {
				t.Errorf("worlds %v: batch %d differs from that of one rank", worlds, number)
			}
		}
		if missing := int(steps) - len(got); missing < 0 || missing >= worlds[len(worlds)-1] {
			t.Errorf("worlds %v: %d of %d batches", worlds, len(got), steps)
		}
	}
}
