package stages

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"

	"github.com/tercet-ml/tercet/pipeline"
)

// Damaged and forged images give pixels or an error that says where, within the
// memory that was given; never a panic. A sample, 1,500 of each with TERCET_LONG=1.
func TestImageMutations(t *testing.T) {
	n := 150
	if os.Getenv("TERCET_LONG") != "" {
		n = 1500
	}
	img := picture(40, 31)
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"PNG", encodePNG(img)}, {"JPEG", encodeJPEG(img)}, {"GIF", encodeGIF(img)},
		{"progressive JPEG", jpegOfSize(40, 31, true)},
		{"WebP", encodeWebP(40, 31, 1, 200, func(x, y int) bool { return x > y })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, uint64(len(tt.data))))
			refused := 0
			for i := range n {
				b := bytes.Clone(tt.data)
				for range 1 + rng.IntN(4) {
					at := rng.IntN(len(b))
					if rng.IntN(2) == 0 {
						at = rng.IntN(min(len(b), 64))
					}
					switch rng.IntN(4) {
					case 0:
						b[at] ^= 1 << rng.IntN(8)
					case 1:
						b[at] = [...]byte{0, 1, 0x7f, 0xff}[rng.IntN(4)]
					case 2:
						b = append(b[:at:at], b[min(len(b), at+1+rng.IntN(20)):]...)
					case 3:
						b = append(b[:at:at], append(bytes.Clone(b[at:min(len(b), at+1+rng.IntN(20))]), b[at:]...)...)
					}
					if len(b) == 0 {
						b = []byte{0}
					}
				}
				d := newDecode(t, DecodeConfig{Height: 5, Width: 6, Memory: 32 << 20, Workers: 1})
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _, err := decodeOne(d, b)
				runtime.ReadMemStats(&after)
				if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
					t.Fatalf("mutation %d took %d MiB: %x", i, took>>20, b)
				}
				if err == nil {
					continue
				}
				refused++
				wantRowError(t, err, "")
				if p, ok := errors.AsType[*pipeline.PanicError](err); ok {
					t.Logf("mutation %d: a decoder panicked behind the guard: %v", i, p)
				}
			}
			t.Logf("%d of %d were refused", refused, n)
		})
	}
}
