package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tercet-ml/tercet/loss"
	"github.com/tercet-ml/tercet/pipeline"
)

// badOf is a list of bad rows.
func badOf(t testing.TB, samples int, ids ...int64) *BadRows {
	t.Helper()
	bad, err := NewBadRows(samples, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		where := pipeline.Location{File: "a.parquet", Row: id}
		if err := bad.Add(id, where, [16]byte{}, &pipeline.RowError{Location: where, Err: errors.New("spoilt")}); err != nil {
			t.Fatal(err)
		}
	}
	return bad
}

func batchesThrough(t testing.TB, f pipeline.Flow[*pipeline.Batch]) (out []*pipeline.Batch) {
	t.Helper()
	for b, err := range f.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Clone())
	}
	return out
}

// With 1 % of the rows bad, every good row keeps its batch and slot, and no bad
// one takes part: its slot is empty, or holds another image of its class.
func TestMendKeepsPlaces(t *testing.T) {
	labels := labelsOf(1, 40, 40, 7, 3, 2, 60, 40, 40, 40, 40)
	plan := newTestPlan(t, PlanConfig{Labels: labels, P: 4, K: 4, Seed: 3, Steps: 400})
	dice := newDice(newPlanKey("bad", 1))
	var ids []int64
	for len(ids) < 12 {
		ids = append(ids, int64(dice.below(uint64(len(labels)))))
	}
	ids = append(ids, int64(slices.Index(labels, 4))) // one of a class of two
	bad := badOf(t, len(labels), ids...)
	want := batchesThrough(t, pipeline.From(plan))
	for _, on := range []OnBad{SkipBad, SubstituteBad} {
		left, replaced := 0, 0
		for i, b := range batchesThrough(t, pipeline.From(plan).Then(Mend{Plan: plan, Bad: bad, On: on})) {
			for k, id := range b.IDs {
				planned := want[i].IDs[k]
				switch {
				case !bad.Has(planned):
					if id != planned || b.Labels[k] != want[i].Labels[k] {
						t.Fatalf("%v: batch %d, slot %d holds sample %d of class %d, want %d of %d", on, i, k, id, b.Labels[k], planned, want[i].Labels[k])
					}
				case b.Labels[k] == pipeline.Unknown:
					left++
				case on == SkipBad || bad.Has(id) || labels[id] != labels[planned]:
					t.Fatalf("%v: batch %d, slot %d holds sample %d in place of %d", on, i, k, id, planned)
				default:
					replaced++
					own := b.IDs[k/b.K*b.K : (k/b.K+1)*b.K]
					if n := count(own, id); n > 1 && len(plan.membersOf(uint32(labels[id]))) > b.K {
						t.Fatalf("batch %d: sample %d comes %d times", i, id, n)
					}
				}
			}
		}
		t.Logf("%v: %d slots left empty, %d filled", on, left, replaced)
		if on == SkipBad && (left == 0 || replaced > 0) || on == SubstituteBad && (replaced == 0 || left > 0) {
			t.Errorf("%v: %d slots left empty, %d filled", on, left, replaced)
		}
	}
	for _, err := range pipeline.From(plan).Then(Mend{Plan: plan, Bad: bad}).All(t.Context()) {
		if err != nil {
			if at, ok := errors.AsType[*pipeline.RowError](err); !ok || at.Err.Error() != "spoilt" || !bad.Has(at.Row) {
				t.Errorf("%v, want the fault of the first bad row", err)
			}
			return
		}
	}
	t.Error("a bad row in a batch is no error by default")
}

func count(ids []int64, id int64) (n int) {
	for _, v := range ids {
		if v == id {
			n++
		}
	}
	return n
}

// What a batch becomes is a function of its number and the list.
func TestMendIsPure(t *testing.T) {
	labels := labelsOf(1, 9, 9, 9, 9)
	plan := newTestPlan(t, PlanConfig{Labels: labels, P: 2, K: 3, Seed: 5, Steps: 60})
	mend := Mend{Plan: plan, Bad: badOf(t, len(labels), 1, 4, 20), On: SubstituteBad}
	want := batchesThrough(t, pipeline.From(plan).Then(mend))
	for k := range int64(60) {
		state := plan.State()
		state.Next = k
		rest, err := plan.At(state)
		if err != nil {
			t.Fatal(err)
		}
		mend.Plan = rest
		for i, b := range batchesThrough(t, pipeline.From(rest).Then(mend)) {
			if w := want[k+int64(i)]; !slices.Equal(b.IDs, w.IDs) || !slices.Equal(b.Labels, w.Labels) {
				t.Fatalf("resumed at %d: batch %d is %v, want %v", k, b.Number, b.IDs, w.IDs)
			}
		}
	}
}

func TestBadRows(t *testing.T) {
	bad, err := NewBadRows(200, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	fault := func(row int64) error {
		return &pipeline.RowError{Location: pipeline.Location{File: "f", RowGroup: 1, Row: row, Column: "image"}, Err: errors.New("no image")}
	}
	for _, id := range []int64{7, 3, 7} { // 2 of 200 are 1 %
		if err := bad.Add(id, pipeline.Location{File: "f", RowGroup: 1, Row: id}, [16]byte{1}, fault(id)); err != nil {
			t.Fatal(err)
		}
	}
	rows := bad.Rows()
	if len(rows) != 2 || rows[0].ID != 3 || rows[0].Reason != "no image" || rows[0].Column != "image" || rows[0].Digest[:2] != "01" {
		t.Errorf("rows %+v", rows)
	}
	if got := fmt.Sprint(bad.Labels([]int32{0, 1, 2, 3, 4, 5, 6, 7, 8})); got != "[0 1 2 -1 4 5 6 -1 8]" {
		t.Errorf("labels %v", got)
	}
	if err := bad.Add(8, pipeline.Location{}, [16]byte{}, fault(8)); !errors.Is(err, ErrBadRate) || bad.Len() != 3 {
		t.Errorf("the third row of 200: %v, want ErrBadRate; %d rows", err, bad.Len())
	}
	memory := &pipeline.RowError{Err: fmt.Errorf("%w is small", errDecodeMemory)}
	if err := bad.Add(9, pipeline.Location{}, [16]byte{}, memory); err != memory || bad.Has(9) {
		t.Errorf("too little memory is no fault of the row: %v", err)
	}
	if _, err := NewBadRows(1, 1.5); err == nil {
		t.Error("a rate of 1.5 is taken")
	}
	for _, o := range []OnBad{FailOnBad, SkipBad, SubstituteBad} {
		if got, err := ParseOnBad(o.String()); got != o || err != nil {
			t.Errorf("ParseOnBad(%q) is %v, %v", o, got, err)
		}
	}
}

// spoiled is a data set of which one row cannot be read and one not be decoded.
type spoiled struct {
	labelled
	unread, broken int64
}

func (d spoiled) Read(ctx context.Context, ids []int64, dst []pipeline.Record) error {
	if err := d.labelled.Read(ctx, ids, dst); err != nil {
		return err
	}
	for i, id := range ids {
		dst[i].Where = pipeline.Location{File: "a.parquet", Row: id}
		switch id {
		case d.unread:
			dst[i].Image, dst[i].Err = nil, &pipeline.RowError{Location: dst[i].Where, Err: errors.New("page is torn")}
		case d.broken:
			dst[i].Image, dst[i].Raw = []byte("no image"), pipeline.Raw{}
		}
	}
	return nil
}

func (d spoiled) Run(ctx context.Context, out chan<- pipeline.Record) error {
	for id := range int64(d.n) {
		var rec [1]pipeline.Record
		if err := d.Read(ctx, []int64{id}, rec[:]); err != nil {
			return err
		}
		if err := pipeline.Send(ctx, out, rec[0]); err != nil {
			return err
		}
	}
	return nil
}

// From records to embedded batches past bad rows, for any number of workers; the
// embeddings of the good rows are those of a data set that never had the others.
func TestBadRowsTheWholeWay(t *testing.T) {
	data := spoiled{labelled{rawImages{n: 90, side: 12, seed: 4}, make([]int32, 90)}, 0, 41}
	for i := range data.labels {
		data.labels[i] = int32(i % 6)
	}
	run := func(workers int) string {
		bad, err := NewBadRows(90, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		decode := newDecode(t, DecodeConfig{Height: 8, Width: 9, Channels: 1, Workers: workers, KeepBad: true, Bad: bad})
		pca, err := FitPCA(t.Context(), PCAConfig{Dim: 7, Sample: 90, Workers: workers}, data, decode, 90)
		if err != nil {
			t.Fatal(err)
		}
		flow := pipeline.From[pipeline.Record](data)
		builder := &Builder{Images: pipeline.Via(flow, decode.Records()), Samples: 90, Preprocessing: decode.Fingerprint(), Bad: bad}
		first, _, err := builder.Build(t.Context(), pca)
		if err != nil {
			t.Fatal(err)
		}
		rows := bad.Rows()
		if len(rows) != 2 || rows[0].ID != 0 || rows[0].Digest != "" || rows[0].Reason != "page is torn" || rows[1].ID != 41 || rows[1].Digest == "" {
			t.Fatalf("bad rows are %+v", rows)
		}
		screened := badOf(t, 90)
		if err := Screen(t.Context(), flow, decode, screened); err != nil || screened.Digest() != bad.Digest() {
			t.Fatalf("Screen found %+v, %v", screened.Rows(), err)
		}
		for i := range first.Embeddings.Len() {
			if zero := slices.Max(first.Embeddings.Row(i)) == 0 && slices.Min(first.Embeddings.Row(i)) == 0; zero != bad.Has(int64(i)) {
				t.Errorf("row %d is %v", i, first.Embeddings.Row(i))
			}
		}
		cache, err := NewCache(CacheConfig{First: first})
		if err != nil {
			t.Fatal(err)
		}
		plan := newTestPlan(t, PlanConfig{Labels: data.labels, P: 3, K: 4, Seed: 1, Steps: 30})
		text := first.Digest
		for _, on := range []OnBad{SkipBad, SubstituteBad} {
			miner, err := NewMiner(MinerConfig{Mine: MineConfig{Loss: loss.TripletMargin{Margin: 0.2}, Scope: ScopeBatch}})
			if err != nil {
				t.Fatal(err)
			}
			empty := 0
			for _, b := range batchesThrough(t, pipeline.From(plan).Then(Mend{plan, bad, on}, &Embed{Cache: cache}, miner, &Fetch{Reader: data}, decode)) {
				for i, id := range b.IDs {
					if bad.Has(id) != (b.Labels[i] == pipeline.Unknown) {
						t.Fatalf("%v: batch %d, slot %d: sample %d has label %d", on, b.Number, i, id, b.Labels[i])
					}
					if bad.Has(id) {
						empty++
					}
				}
				for _, tr := range b.Triplets {
					if bad.Has(b.IDs[tr.Anchor]) || bad.Has(b.IDs[tr.Positive]) || bad.Has(b.IDs[tr.Negative]) {
						t.Fatalf("%v: a bad row was mined", on)
					}
				}
				text += fmt.Sprint(b.IDs, b.Labels, b.Triplets) + pixelDigest(b.Pixels)
			}
			if (empty > 0) != (on == SkipBad) {
				t.Errorf("%v: %d slots are empty", on, empty)
			}
		}
		return text
	}
	one := run(1)
	if many := run(7); many != one {
		t.Error("7 workers make other batches than 1")
	}
	decode := newDecode(t, DecodeConfig{Height: 8, Width: 9, Channels: 1})
	builder := &Builder{Images: pipeline.Via(pipeline.From[pipeline.Record](data), decode.Records()), Samples: 90}
	_, _, err := builder.Build(t.Context(), &meanEmbedder{})
	if at, ok := errors.AsType[*pipeline.RowError](err); !ok || at.Err.Error() != "page is torn" {
		t.Errorf("building without a list of bad rows: %v", err)
	}
}

// meanEmbedder is never asked.
type meanEmbedder struct{}

func (*meanEmbedder) Embed(context.Context, pipeline.Embeddings, []float32) error { return nil }
func (*meanEmbedder) Dim() int                                                    { return 1 }
func (*meanEmbedder) Fingerprint() string                                         { return "mean" }
