package loss

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

func TestDistanceNames(t *testing.T) {
	for _, d := range []Distance{SqEuclidean, Euclidean, Cosine} {
		if got, err := ParseDistance(d.String()); got != d || err != nil {
			t.Errorf("ParseDistance(%q) = %v, %v", d, got, err)
		}
	}
	if d, err := ParseDistance("manhattan"); err == nil {
		t.Errorf("ParseDistance(manhattan) = %v", d)
	}
}

func TestMining(t *testing.T) {
	x, y := []float32{3, 0, 0.5}, []float32{0, 4, 0.5}
	for d, want := range map[Distance]float64{SqEuclidean: 25, Euclidean: 5, Cosine: 0.75} {
		if got := d.Mining(x, y); got != want {
			t.Errorf("%v of %v and %v is %v, want %v", d, x, y, got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Mining took rows of 3 and 2 values")
		}
	}()
	Euclidean.Mining(x, y[:2])
}

// TestSameDistanceAsMining: on rows as given, a loss and a miner see one number.
func TestSameDistanceAsMining(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	for _, dim := range []int{1, 7, 128} {
		for b := range 10 {
			in := Input{Embeddings: pipeline.MakeEmbeddings(b, dim)}
			for k := range in.Embeddings.Data {
				in.Embeddings.Data[k] = float32(r.NormFloat64())
			}
			var ws Workspace
			if err := ws.load(pipeline.Embeddings{}, in); err != nil {
				t.Fatal(err)
			}
			for _, d := range []Distance{SqEuclidean, Euclidean} {
				for i := range b {
					ws.distances(d, i)
					for j, got := range ws.dist {
						want := d.Mining(in.Embeddings.Row(i), in.Embeddings.Row(j))
						if got != want || ws.distance(d, i, j) != want {
							t.Fatalf("%v, D=%d: %v and %v, the miner has %v", d, dim, got, ws.distance(d, i, j), want)
						}
					}
				}
			}
		}
	}
}

// TestBandOfAMargin: where a margin of 0.2 ends the band depends on the distance.
func TestBandOfAMargin(t *testing.T) {
	at := func(degrees float64) []float32 {
		sin, cos := math.Sincos(degrees * math.Pi / 180)
		return []float32{float32(cos), float32(sin)}
	}
	for d, end := range map[Distance]float64{SqEuclidean: 40.0, Euclidean: 42.1, Cosine: 48.2} {
		m := TripletMargin{Margin: 0.2, Distance: d}
		ap := d.Mining(at(0), at(30))
		if in, out := d.Mining(at(0), at(end-0.1)), d.Mining(at(0), at(end+0.1)); !m.SemiHard(ap, in) || m.SemiHard(ap, out) {
			t.Errorf("%v: the band does not end at %v°", d, end)
		}
	}
}

func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ap, an float64
		margin pipeline.Kind // with a margin of 0.5
		soft   pipeline.Kind
	}{
		{"hard", 1, 0.75, pipeline.Hard, pipeline.Hard},
		{"tie", 1, 1, pipeline.Hard, pipeline.Hard},
		{"semi-hard", 1, 1.25, pipeline.SemiHard, pipeline.Easy},
		{"on the margin", 1, 1.5, pipeline.Easy, pipeline.Easy},
		{"easy", 1, 2, pipeline.Easy, pipeline.Easy},
	} {
		m := TripletMargin{Margin: 0.5}
		if got := m.Kind(tt.ap, tt.an); got != tt.margin || m.SemiHard(tt.ap, tt.an) != (tt.margin == pipeline.SemiHard) {
			t.Errorf("%s: kind is %v, semi-hard %v", tt.name, got, m.SemiHard(tt.ap, tt.an))
		}
		if got := (TripletSoftMargin{}).Kind(tt.ap, tt.an); got != tt.soft {
			t.Errorf("%s: kind under the soft margin is %v, want %v", tt.name, got, tt.soft)
		}
		if positive := m.Of(tt.ap, tt.an) > 0; positive != (tt.margin != pipeline.Easy) || positive != (m.Slope(tt.ap, tt.an) == 1) {
			t.Errorf("%s: loss %v, slope %v", tt.name, m.Of(tt.ap, tt.an), m.Slope(tt.ap, tt.an))
		}
	}
}
