package stages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tercet-ml/tercet/loss/f32"
	"github.com/tercet-ml/tercet/pipeline"
	"gonum.org/v1/gonum/mat"
)

var update = flag.Bool("update", false, "rewrite golden files")

// rawImages is a Reader of grey images of random waves: pixels with a spectrum
// that falls, as that of pictures does.
type rawImages struct {
	n, side int
	seed    uint64
}

func (r rawImages) Read(_ context.Context, ids []int64, dst []pipeline.Record) error {
	for i, id := range ids {
		if id < 0 || id >= int64(r.n) {
			return fmt.Errorf("no sample %d", id)
		}
		rng := rand.New(rand.NewPCG(r.seed, uint64(id)))
		var phase, height [12]float64
		for k := range phase {
			phase[k], height[k] = rng.Float64()*2*math.Pi, rng.NormFloat64()/float64(k+1)
		}
		image := make([]byte, r.side*r.side)
		for p := range image {
			x, y := float64(p%r.side)/float64(r.side), float64(p/r.side)/float64(r.side)
			v := 127.5 + 8*rng.NormFloat64()
			for k := range phase {
				v += 40 * height[k] * math.Sin(phase[k]+float64(k+1)*(x+y*float64(k%3-1)))
			}
			image[p] = byte(min(max(v, 0), 255))
		}
		dst[i] = pipeline.Record{ID: id, Image: image, Raw: pipeline.Raw{Shape: pipeline.Shape{C: 1, H: r.side, W: r.side}}}
	}
	return nil
}

func (r rawImages) pixels(t testing.TB, d *Decode, n int) []float32 {
	t.Helper()
	ids, all := make([]int64, n), make([]pipeline.Record, n)
	for i := range ids {
		ids[i] = int64(i)
	}
	if err := r.Read(t.Context(), ids, all); err != nil {
		t.Fatal(err)
	}
	_, pixels, err := d.Images(t.Context(), nil, all)
	if err != nil {
		t.Fatal(err)
	}
	return pixels
}

func fitPCA(t testing.TB, cfg PCAConfig, r rawImages) (*PCA, *Decode) {
	t.Helper()
	d := newDecode(t, DecodeConfig{Channels: 1})
	p, err := FitPCA(t.Context(), cfg, r, d, int64(r.n))
	if err != nil {
		t.Fatal(err)
	}
	return p, d
}

// The definition: the eigenvectors of the covariance of all pixels, in float64.
func TestPCAIsThatOfTheCovariance(t *testing.T) {
	const n, side, dim = 150, 10, 6
	r := rawImages{n, side, 1}
	p, d := fitPCA(t, PCAConfig{Dim: dim}, r) // fewer images than the sample: all of them
	pixels := r.pixels(t, d, n)
	const size = side * side
	mean := make([]float64, size)
	for i, v := range pixels {
		mean[i%size] += float64(v) / n
	}
	cov := mat.NewSymDense(size, nil)
	for i := range n {
		x := make([]float64, size)
		for j := range x {
			x[j] = float64(pixels[i*size+j]) - mean[j]
		}
		cov.SymRankOne(cov, 1.0/(n-1), mat.NewVecDense(size, x))
	}
	var e mat.EigenSym
	if !e.Factorize(cov, true) {
		t.Fatal("no eigenvalues")
	}
	values := e.Values(nil)
	var vectors mat.Dense
	e.VectorsTo(&vectors)
	for k := range dim {
		if want := values[size-1-k]; math.Abs(float64(p.Variance()[k])-want) > 1e-5*values[size-1] {
			t.Errorf("variance %d is %v, want %v", k, p.Variance()[k], want)
		}
		var along float64
		top := 0
		for j, v := range p.components[k*size : (k+1)*size] {
			along += float64(v) * vectors.At(j, size-1-k)
			if math.Abs(float64(v)) > math.Abs(float64(p.components[k*size+top])) {
				top = j
			}
		}
		if math.Abs(math.Abs(along)-1) > 1e-4 {
			t.Errorf("component %d is at cosine %v to the eigenvector", k, along)
		}
		if p.components[k*size+top] <= 0 {
			t.Errorf("component %d: its greatest value is %v", k, p.components[k*size+top])
		}
	}
	dst := pipeline.MakeEmbeddings(n, dim)
	if err := p.Embed(t.Context(), dst, pixels); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		for k := range dim {
			var want float64
			for j := range size {
				want += (float64(pixels[i*size+j]) - mean[j]) * float64(p.components[k*size+j])
			}
			if got := dst.Row(i)[k]; math.Abs(float64(got)-want) > 1e-5 {
				t.Fatalf("embedding %d of image %d is %v, want %v", k, i, got, want)
			}
		}
	}
}

func TestPCAIsTheSameForAnyWorkers(t *testing.T) {
	r := rawImages{700, 16, 2}
	var fingerprint string
	var rows []float32
	for _, procs := range []int{1, 2, 5} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			for _, workers := range []int{1, 2, 7} {
				p, d := fitPCA(t, PCAConfig{Dim: 32, Sample: 400, Seed: 9, Workers: workers}, r)
				dst := pipeline.MakeEmbeddings(100, 32)
				if err := p.Embed(t.Context(), dst, r.pixels(t, d, 100)); err != nil {
					t.Fatal(err)
				}
				if fingerprint == "" {
					fingerprint, rows = p.Fingerprint(), dst.Data
				}
				if p.Fingerprint() != fingerprint || !slices.Equal(dst.Data, rows) {
					t.Errorf("%d processors, %d workers: another fit or other embeddings", procs, workers)
				}
			}
		}()
	}
	if p, _ := fitPCA(t, PCAConfig{Dim: 32, Sample: 400, Seed: 10}, r); p.Fingerprint() == fingerprint {
		t.Error("another seed gives the same fit")
	}
}

func TestPCAOfTooLittle(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    rawImages
		cfg  PCAConfig
		want string
	}{
		{"images", rawImages{20, 10, 3}, PCAConfig{Dim: 20}, "give at most 19 dimensions"},
		{"images, by default", rawImages{20, 10, 3}, PCAConfig{}, "give at most 19 dimensions"},
		{"pixels", rawImages{50, 2, 3}, PCAConfig{Dim: 5}, "vary in 4 directions, want 5: give at most 4 dimensions"},
		{"rows", rawImages{0, 2, 3}, PCAConfig{Dim: 5}, "the data set is empty"},
		{"dimensions", rawImages{20, 2, 3}, PCAConfig{Dim: -1}, "PCAConfig.Dim is -1"},
	} {
		_, err := FitPCA(t.Context(), tt.cfg, tt.r, newDecode(t, DecodeConfig{Channels: 1}), int64(tt.r.n))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("too few %s: error is %v, want one with %q", tt.name, err, tt.want)
		}
	}
	same := readerFunc(func(ids []int64, dst []pipeline.Record) error {
		for i := range ids {
			dst[i] = pipeline.Record{ID: ids[i], Image: encodePNG(picture(4, 4))}
		}
		return nil
	})
	_, err := FitPCA(t.Context(), PCAConfig{Dim: 2}, same, newDecode(t, DecodeConfig{}), 50)
	if err == nil || !strings.Contains(err.Error(), "vary in 0 directions") {
		t.Errorf("images that are all the same: error is %v", err)
	}
}

type readerFunc func(ids []int64, dst []pipeline.Record) error

func (f readerFunc) Read(_ context.Context, ids []int64, dst []pipeline.Record) error {
	return f(ids, dst)
}

func TestPCASampleFitsItsMemory(t *testing.T) {
	read := 0
	one := encodePNG(greyPicture(1024)) // 4 MiB of float32
	r := readerFunc(func(ids []int64, dst []pipeline.Record) error {
		read += len(ids)
		for i := range ids {
			dst[i] = pipeline.Record{ID: ids[i], Image: one}
		}
		if read > 65 {
			return errors.New("enough")
		}
		return nil
	})
	_, err := FitPCA(t.Context(), PCAConfig{Dim: 64}, r, newDecode(t, DecodeConfig{Channels: 1}), 1000)
	if err == nil || !strings.Contains(err.Error(), "64 images of 1048576 values can be looked at, and 64 dimensions take 65: give at most 63 dimensions") {
		t.Errorf("error is %v", err)
	}
}

func TestDrawIDs(t *testing.T) {
	for _, tt := range []struct {
		m int
		n int64
	}{{1, 1}, {5, 5}, {7, 1000}, {2048, 1 << 40}} {
		ids := drawIDs(4, tt.m, tt.n)
		if len(ids) != tt.m || !slices.IsSorted(ids) || ids[0] < 0 || ids[tt.m-1] >= tt.n || len(slices.Compact(slices.Clone(ids))) != tt.m {
			t.Errorf("%d of %d: got %v", tt.m, tt.n, ids)
		}
	}
	if got, want := drawIDs(1, 6, 1000), []int64{374, 397, 572, 914, 918, 949}; !slices.Equal(got, want) { // part of what a seed means
		t.Errorf("drew %v, want %v", got, want)
	}
	counts := make([]int, 10)
	for seed := range uint64(20_000) {
		for _, id := range drawIDs(seed, 3, 10) {
			counts[id]++
		}
	}
	for id, c := range counts {
		if math.Abs(float64(c)-6000) > 5*math.Sqrt(6000*0.7) {
			t.Errorf("sample %d was drawn %d times, want about 6000", id, c)
		}
	}
}

// The fit in testdata was made once; what it gives must be the same on every
// machine. The golden digest is of the embeddings of 200 images.
func TestPCAGolden(t *testing.T) {
	file := filepath.Join("testdata", "pca-8x8-d5.fit")
	r := rawImages{300, 8, 5}
	if *update {
		p, _ := fitPCA(t, PCAConfig{Dim: 5}, r)
		data, err := p.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := UnmarshalPCA(data)
	if err != nil {
		t.Fatal(err)
	}
	pixels := make([]float32, 200*64) // no floating-point function stands behind these
	for i := range pixels {
		pixels[i] = float32(uint32(i)*2654435761>>20) / 4096
	}
	dst := pipeline.MakeEmbeddings(200, 5)
	if err := p.Embed(t.Context(), dst, pixels); err != nil {
		t.Fatal(err)
	}
	if got, want := pixelDigest(dst.Data), "a7b8480beba8273b"; got != want {
		t.Errorf("embeddings have digest %s, want %s", got, want)
	}
}

func TestPCAIsStored(t *testing.T) {
	p, d := fitPCA(t, PCAConfig{Dim: 4}, rawImages{60, 6, 6})
	data, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	q, err := UnmarshalPCA(data)
	if err != nil {
		t.Fatal(err)
	}
	if q.Fingerprint() != p.Fingerprint() || q.Shape() != p.Shape() || q.Preprocessing() != d.Fingerprint() || !slices.Equal(q.components, p.components) ||
		!slices.Equal(q.mean, p.mean) || !slices.Equal(q.variance, p.variance) {
		t.Error("what was read is not what was stored")
	}
	if b, err := hex.DecodeString(p.Fingerprint()); err != nil || len(b) != 32 {
		t.Errorf("fingerprint is %q", p.Fingerprint())
	}
	for i := range data {
		if _, err := UnmarshalPCA(data[:i]); !errors.Is(err, ErrPCA) {
			t.Fatalf("the first %d bytes: error is %v", i, err)
		}
		flipped := slices.Clone(data)
		flipped[i] ^= 1 << (i % 8)
		if _, err := UnmarshalPCA(flipped); !errors.Is(err, ErrPCA) {
			t.Fatalf("bit %d of byte %d flipped: error is %v", i%8, i, err)
		}
	}
	lie := *p // a checksum proves nothing about what it covers
	lie.shape.W = 7
	for name, hostile := range map[string]PCA{
		"other sizes": lie,
		"NaN":         {shape: p.shape, mean: slices.Repeat([]float32{float32(math.NaN())}, 36), components: p.components, variance: p.variance},
	} {
		data, _ := hostile.MarshalBinary()
		if _, err := UnmarshalPCA(data); !errors.Is(err, ErrPCA) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestPCAEmbedChecksLengths(t *testing.T) {
	p, _ := fitPCA(t, PCAConfig{Dim: 4}, rawImages{60, 6, 6})
	for _, tt := range []struct {
		dst    pipeline.Embeddings
		pixels int
	}{{pipeline.MakeEmbeddings(2, 5), 72}, {pipeline.MakeEmbeddings(2, 4), 71}, {pipeline.MakeEmbeddings(1, 4), 72}} {
		if err := p.Embed(t.Context(), tt.dst, make([]float32, tt.pixels)); err == nil {
			t.Errorf("%d values to %d rows of %d: no error", tt.pixels, tt.dst.Len(), tt.dst.Dim)
		}
	}
}

func FuzzUnmarshalPCA(f *testing.F) {
	p := &PCA{decode: "d", shape: pipeline.Shape{C: 1, H: 1, W: 2}, mean: []float32{0, 1}, components: []float32{1, 0}, variance: []float32{2}}
	data, _ := p.MarshalBinary()
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte(pcaMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksum would refuse nearly everything: make it right.
		for _, data := range [][]byte{data, reseal(data)} {
			p, err := UnmarshalPCA(data)
			if err != nil {
				if !errors.Is(err, ErrPCA) {
					t.Fatalf("error is %v", err)
				}
				continue
			}
			if again, _ := p.MarshalBinary(); !slices.Equal(again, data) {
				t.Fatal("reading and storing it changes it")
			}
		}
	})
}

func BenchmarkPCAFit(b *testing.B) {
	for _, bb := range []struct{ side, sample int }{{28, 2048}, {64, 2048}} {
		r := rawImages{bb.sample, bb.side, 8}
		d := newDecode(b, DecodeConfig{Channels: 1})
		x := r.pixels(b, d, bb.sample)
		b.Run(fmt.Sprintf("rows=%d/pixels=%d", bb.sample, bb.side*bb.side), func(b *testing.B) {
			for b.Loop() {
				p := &PCA{shape: d.Shape()}
				if err := p.fit(b.Context(), PCAConfig{Dim: 64}, slices.Clone(x), bb.sample); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPCAEmbed(b *testing.B) {
	const n = 256
	for _, size := range []int{784, 12288} {
		p := &PCA{shape: pipeline.Shape{C: 1, H: 1, W: size}, mean: make([]float32, size), components: make([]float32, 64*size), variance: make([]float32, 64)}
		f32.Scale(p.components, 2)
		dst, pixels := pipeline.MakeEmbeddings(n, 64), make([]float32, n*size)
		b.Run(fmt.Sprintf("dim=64/pixels=%d", size), func(b *testing.B) {
			b.SetBytes(int64(4 * n * size))
			for b.Loop() {
				if err := p.Embed(b.Context(), dst, pixels); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}

// reseal replaces the last bytes of data by the checksum of those before.
func reseal(data []byte) []byte {
	if len(data) < sha256.Size {
		return data
	}
	text := slices.Clone(data[:len(data)-sha256.Size])
	sum := sha256.Sum256(text)
	return append(text, sum[:]...)
}

// With AtMost a data set that is small, or varies little, has fewer dimensions.
func TestPCAAtMost(t *testing.T) {
	for _, tt := range []struct {
		images rawImages
		want   int
	}{
		{rawImages{20, 10, 3}, 19}, // 20 images vary in 19 directions
		{rawImages{50, 2, 3}, 4},   // 4 pixels
		{rawImages{200, 10, 3}, 64},
	} {
		p, d := fitPCA(t, PCAConfig{AtMost: true}, tt.images)
		if p.Dim() > tt.want || p.Dim() < tt.want-2 { // noise may leave the last directions empty
			t.Errorf("%+v: %d dimensions, want about %d", tt.images, p.Dim(), tt.want)
		}
		exact, _ := fitPCA(t, PCAConfig{Dim: p.Dim()}, tt.images)
		if exact.Dim() != p.Dim() || p.Preprocessing() != d.Fingerprint() {
			t.Errorf("%+v: %d dimensions when that many are asked for, want %d", tt.images, exact.Dim(), p.Dim())
		}
	}
}
