//go:build race

package pipeline

import (
	"math"
	"reflect"
	"testing"
)

// A batch kept past its loan is seen to be spoiled, in race builds.
func TestPoison(t *testing.T) {
	for _, leave := range []bool{false, true} {
		var log []string
		var ids []int64
		var kept Batch
		for b, err := range From(numbered(1, &log)).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			state := b.onReturn
			fill(t, reflect.ValueOf(b).Elem(), "Batch")
			b.onReturn = state
			kept, ids = *b, b.IDs
			if leave {
				break
			}
		}
		for i, f := range [][]float32{kept.Pixels, kept.Embeddings.Data, kept.Gradients.Data} {
			for _, v := range f {
				if !math.IsNaN(float64(v)) {
					t.Errorf("break=%v: float slice %d still holds %v", leave, i, v)
				}
			}
		}
		if ids[0] >= 0 || kept.Labels[0] >= Unknown || kept.Triplets[0].Anchor >= 0 || kept.Records[0].Image != nil {
			t.Errorf("break=%v: a returned batch can still be used: %+v", leave, kept)
		}
	}
}
