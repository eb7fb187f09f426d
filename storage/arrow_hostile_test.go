package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/tercet-ml/tercet/pipeline"
)

// What a compressed buffer says of its size is held against the budget first.
func TestArrowMemory(t *testing.T) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "image", Type: arrow.BinaryTypes.Binary}}, nil))
	for _, opt := range []ipc.Option{ipc.WithZstd(), ipc.WithLZ4()} {
		b.Field(0).(*array.BinaryBuilder).Append(make([]byte, 8<<20))
		data := arrowBytes(t, FormatArrow, []arrow.Record{b.NewRecord()}, opt)
		_, err := tryArrow(data)
		var at *RowError
		if !errors.Is(err, ErrMemory) || !errors.As(err, &at) || at.Column != "image" || at.RowGroup != 0 {
			t.Errorf("%d bytes that hold 8 MiB, read with a budget of 1 MiB: %v, want ErrMemory at row group 0, column image", len(data), err)
		}
	}
}

// A batch that is larger than the cache can be read all the same.
func TestArrowLargerThanCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.arrow")
	rec := recordOf(t, fmt.Sprintf(`[{"image":%q,"label":1}]`, strings.Repeat("AAAA", 1<<10)),
		nullable("image", arrow.BinaryTypes.Binary), int64Label)
	if err := os.WriteFile(path, arrowBytes(t, FormatArrow, []arrow.Record{rec}, ipc.WithZstd()), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, Config{Paths: []string{path}, Memory: 1 << 10})
	if recs := make([]pipeline.Record, 1); d.Read(t.Context(), []int64{0}, recs) != nil || len(recs[0].Image) != 3<<10 {
		t.Errorf("record is %v", recs[0])
	}
}

// small are a file and a stream with every kind of buffer, and few bytes.
func small(t testing.TB) map[string][]byte {
	rec := recordOf(t, `[{"image":{"bytes":"AQIDBA==","path":"a"},"label":"x","e":[1,2]},{"image":{"bytes":"BQ==","path":null},"label":null,"e":[3,4]}]`,
		arrow.Field{Name: "image", Type: arrow.StructOf(arrow.Field{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true}, arrow.Field{Name: "path", Type: arrow.BinaryTypes.String, Nullable: true})},
		arrow.Field{Name: "label", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
		arrow.Field{Name: "e", Type: arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)})
	return map[string][]byte{
		"file":         arrowBytes(t, FormatArrow, []arrow.Record{rec, rec}),
		"stream":       arrowBytes(t, FormatArrowStream, []arrow.Record{rec, rec}),
		"zstd file":    arrowBytes(t, FormatArrow, []arrow.Record{rec}, ipc.WithZstd()),
		"lz4 stream":   arrowBytes(t, FormatArrowStream, []arrow.Record{rec}, ipc.WithLZ4()),
		"delta stream": arrowBytes(t, FormatArrowStream, []arrow.Record{rec, rec}, ipc.WithDictionaryDeltas(true)),
	}
}

// tryArrow opens and reads bytes from memory. It returns an error or the rows.
func tryArrow(data []byte) ([]string, error) {
	s := &arrowShard{src: &source{path: "data.arrow", data: data}, limit: 1 << 20}
	if err := guarded(s.open); err != nil {
		return nil, err
	}
	return readAll(s, readable(s))
}

func TestArrowPrefixes(t *testing.T) {
	for name, data := range small(t) {
		if _, err := tryArrow(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range data {
			if _, err := tryArrow(data[:n:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, %d of %d bytes: %v, want ErrCorrupt", name, n, len(data), err)
			}
		}
	}
}

// A flipped bit gives an error with a known cause or other values; never a panic.
func TestArrowBitFlips(t *testing.T) {
	for name, data := range small(t) {
		for i := range len(data) * 8 {
			flipped := bytes.Clone(data)
			flipped[i/8] ^= 1 << (i % 8)
			checkHostile(t, fmt.Sprintf("%s, bit %d", name, i), flipped)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 2000 {
			spoilt := bytes.Clone(data)
			for range 1 + rng.IntN(4) {
				at := rng.IntN(len(spoilt) - 8)
				v := [...]uint64{0, 1, math.MaxUint64, math.MaxInt64, math.MaxInt32, 1 << 40, rng.Uint64(), uint64(len(data))}[rng.IntN(8)]
				for k := range 1 << rng.IntN(4) {
					spoilt[at+k] = byte(v >> (8 * k))
				}
			}
			checkHostile(t, name, spoilt)
		}
	}
}

// checkHostile fails unless bytes give rows, or an error that says what it is about.
func checkHostile(t *testing.T, name string, data []byte) {
	t.Helper()
	rows, err := tryArrow(data)
	for _, cause := range []error{nil, ErrCorrupt, ErrUnsupported, ErrMemory, ErrNull, ErrValue} {
		if cause == nil && err == nil || cause != nil && errors.Is(err, cause) {
			if len(rows) > 8*len(data) {
				t.Errorf("%s: %d rows from %d bytes", name, len(rows), len(data))
			}
			return
		}
	}
	t.Errorf("%s: %v, an error without a cause", name, err)
}

func FuzzOpenArrow(f *testing.F) {
	for name, data := range small(f) {
		if strings.Contains(name, "file") {
			f.Add(data[len(arrowMagic) : len(data)-len(arrowMagic)])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { // between the magic numbers, which would stop it short
		checkHostile(t, "input", slices.Concat([]byte(arrowMagic), data, []byte(arrowMagic)))
	})
}

func FuzzOpenArrowStream(f *testing.F) {
	for name, data := range small(f) {
		if strings.Contains(name, "stream") {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkHostile(t, "input", data) })
}

// A mapped file that somebody cuts short is an error and not the end of the process.
func TestArrowShrinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files are not mapped here")
	}
	data, err := os.ReadFile("../testdata/formats/file.arrow")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "shrinks.arrow")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openArrow(t.Context(), path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(s, readable(s)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("reading a file that was cut short: %v, want ErrCorrupt at %s", err, path)
	}
}

// The first message of a stream can be any; it has to be a schema's. What came
// before Arrow 0.15 has no continuation marker.
func TestArrowOldStream(t *testing.T) {
	stream := small(t)["stream"]
	old := bytes.ReplaceAll(stream, []byte{0xff, 0xff, 0xff, 0xff}, nil)
	want, err := tryArrow(stream)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tryArrow(old); err != nil || !slices.Equal(got, want) {
		t.Errorf("stream without continuation markers: %q, %v, want %q", got, err, want)
	}
	if _, err := tryArrow(stream[8+int(stream[4])+int(stream[5])<<8:]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("stream without its schema: %v, want ErrCorrupt", err)
	}
	if _, err := tryArrow(append(bytes.Clone(stream), stream...)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("two streams in a row: %v, want ErrCorrupt", err)
	}
}
