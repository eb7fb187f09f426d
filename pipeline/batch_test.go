package pipeline

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// fill gives every field of v, unexported ones but for functions included, a
// value other than zero, and every slice three elements and room for more.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(t, v.Field(i), path+"."+f.Name)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 8))
		for i := range 3 {
			fill(t, v.Index(i), path+"[]")
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Interface:
		v.Set(reflect.ValueOf(io.EOF)) // an error, which is never changed
	default:
		t.Fatalf("%s is a %s: teach fill and Batch.Clone about it", path, v.Type())
	}
}

// slicesOf calls f with every slice in v, its place in words included.
func slicesOf(v reflect.Value, path string, f func(path string, s reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				slicesOf(v.Field(i), path+"."+field.Name, f)
			}
		}
	case reflect.Slice:
		f(path, v)
		for i := range v.Len() {
			slicesOf(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	}
}

// A field added to Batch and forgotten in Clone fails this test.
func TestBatchCloneSharesNothing(t *testing.T) {
	b := new(Batch)
	fill(t, reflect.ValueOf(b).Elem(), "Batch")
	b.Stamp(State{Next: 8})
	b.OnReturn(func() {})
	c := b.Clone()

	at := make(map[uintptr]string)
	slicesOf(reflect.ValueOf(b).Elem(), "Batch", func(path string, s reflect.Value) { at[s.Pointer()] = path })
	if len(at) < 9 {
		t.Fatalf("only %d slices in a batch: %v", len(at), at)
	}
	slicesOf(reflect.ValueOf(c).Elem(), "Batch", func(path string, s reflect.Value) {
		if s.Len() != 3 {
			t.Errorf("the clone's %s has %d elements, want 3", path, s.Len())
		}
		if p, ok := at[s.Pointer()]; ok {
			t.Errorf("the clone's %s is the memory of the original's %s", path, p)
		}
	})

	slicesOf(reflect.ValueOf(b).Elem(), "Batch", func(_ string, s reflect.Value) { s.Slice(0, s.Cap()).Clear() })
	fresh := new(Batch)
	fill(t, reflect.ValueOf(fresh).Elem(), "Batch")
	fresh.Stamp(State{Next: 8})
	if !reflect.DeepEqual(c, fresh) {
		t.Errorf("after the original was cleared the clone is\n%+v, want\n%+v", c, fresh)
	}
}

func TestBatchCloneOfNothing(t *testing.T) {
	if c := new(Batch).Clone(); !reflect.DeepEqual(c, new(Batch)) {
		t.Errorf("the clone of an empty batch is %+v", c)
	}
}

// A field added to Batch and forgotten in reset would turn up in a later batch.
func TestBatchReset(t *testing.T) {
	b := new(Batch)
	fill(t, reflect.ValueOf(b).Elem(), "Batch")
	b.Stamp(State{Next: 8})
	b.OnReturn(func() {})
	b.Records = b.Records[:1] // as a stage that drops its records
	records := b.Records[:3]
	b.reset()
	if records[0].Image != nil || records[2].Image != nil {
		t.Error("images of dropped records are still held")
	}
	slicesOf(reflect.ValueOf(b).Elem(), "Batch", func(path string, s reflect.Value) {
		if s.Len() != 0 || s.Cap() != 8 {
			t.Errorf("after reset %s has length %d and capacity %d, want 0 and its old 8", path, s.Len(), s.Cap())
		}
		s.SetZero()
	})
	b.onReturn = nil
	if !reflect.DeepEqual(b, new(Batch)) {
		t.Errorf("after reset the batch is %+v, want it empty", b)
	}
}

// numbered is a source of n batches that log what becomes of them.
func numbered(n int, log *[]string) Source[*Batch] {
	return sourceFunc[*Batch](func(ctx context.Context, out chan<- *Batch) error {
		for i := range n {
			b := NewBatch()
			b.Number = int64(i)
			b.IDs = append(b.IDs, int64(i))
			b.Stamp(State{Next: int64(i) + 1})
			b.OnReturn(func() { *log = append(*log, fmt.Sprint("first ", i)) })
			b.OnReturn(func() { *log = append(*log, fmt.Sprint("second ", i)) })
			if err := Send(ctx, out, b); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestBatchOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string // without a lock: the race detector sees that all is on the loop's goroutine
		for b, err := range From(numbered(3, &log)).Prefetch(2).Then(sameBatch).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, fmt.Sprint("body ", b.Number))
		}
		want := "body 0, first 0, second 0, body 1, first 1, second 1, body 2, first 2, second 2"
		if got := strings.Join(log, ", "); got != want {
			t.Errorf("with a loop to the end: %s, want %s", got, want)
		}

		log = nil
		for b, err := range From(numbered(3, &log)).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, fmt.Sprint("body ", b.Number))
			if b.Number == 1 {
				break
			}
		}
		if got, want := strings.Join(log, ", "), "body 0, first 0, second 0, body 1"; got != want {
			t.Errorf("with a break: %s, want %s", got, want)
		}
	})
}

var sameBatch = each(func(b *Batch) (*Batch, error) { return b, nil })

func TestBatchState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		var next []int64
		for b, err := range From(numbered(4, &log)).Prefetch(3).Then(sameBatch, sameBatch).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			next = append(next, b.State().Next) // of the batch in hand, however many are on their way
		}
		if want := []int64{1, 2, 3, 4}; !slices.Equal(next, want) {
			t.Errorf("the states go on at %v, want %v", next, want)
		}
	})
}

func TestErrorComesWithoutABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := sourceFunc[*Batch](func(context.Context, chan<- *Batch) error { return errAbsent })
		n := 0
		for b, err := range From(source).All(t.Context()) {
			if n++; b != nil || err != errAbsent {
				t.Errorf("got %v, %v, want no batch and %v", b, err, errAbsent)
			}
		}
		if n != 1 {
			t.Errorf("%d yields, want 1", n)
		}
	})
}

func TestEmptyString(t *testing.T) {
	for e, want := range map[Empty]string{NotEmpty: "", NoPositive: "no positive pair", NoNegative: "only one class", NoTriplet: "no triplet selected"} {
		if got := e.String(); got != want {
			t.Errorf("Empty(%d) is %q, want %q", e, got, want)
		}
	}
}
