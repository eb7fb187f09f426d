package stages_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// execWire is the wire that the command tercet uses.
var execWire = stages.Wire{
	Images: func(w io.Writer, shape pipeline.Shape) stages.ImageWriter { return storage.NewTensorWriter(w, shape) },
	Embeddings: func(r io.Reader) (stages.EmbeddingReader, error) {
		v, err := storage.NewVectorReader(r)
		return v, err
	},
}

// A child is the other side: a program that embeds an image as its first three
// values, in the way that its mode says.
type child struct {
	mode string
	file string // where it notes that it has been started
	in   *ipc.Reader
	out  *ipc.Writer
}

const childEnv = "TERCET_TEST_CHILD"

// TestExecChild is no test: it is the program that the tests start.
func TestExecChild(t *testing.T) {
	mode := os.Getenv(childEnv)
	if mode == "" {
		t.Skip("it is started by other tests")
	}
	c := &child{mode: mode, file: os.Getenv(childEnv + "_FILE")}
	if err := c.run(); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(9)
	}
	os.Exit(0)
}

func (c *child) run() error {
	switch c.mode {
	case "fail":
		fmt.Fprintln(os.Stderr, "no module named net")
		os.Exit(3)
	case "text":
		fmt.Println("loading model …")
		time.Sleep(time.Minute)
	case "deaf":
		time.Sleep(time.Minute)
	case "mute":
		os.Stdout.Close()
		time.Sleep(time.Minute)
	case "columns":
		schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "vec", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32)}}, nil)
		return ipc.NewWriter(os.Stdout, ipc.WithSchema(schema)).Close()
	}
	var err error
	if c.in, err = ipc.NewReader(bufio.NewReader(os.Stdin)); err != nil {
		return err
	}
	before, _ := os.ReadFile(c.file)
	if c.file != "" {
		os.WriteFile(c.file, append(before, 'x'), 0o666)
	}
	for c.in.Next() {
		rec := c.in.Record()
		ids := rec.Column(0).(*array.Int64).Int64Values()
		list := rec.Column(1).(*array.FixedSizeList)
		values := list.ListValues().(*array.Float32).Float32Values()
		size := len(values) / len(ids)
		var rows [][]float32
		for i := range ids {
			rows = append(rows, values[i*size:][:3])
		}
		if ids[0] == 0 { // the grey image
			if err := c.send(ids, rows); err != nil {
				return err
			}
			continue
		}
		if c.mode == "dies once" && len(before) > 0 {
			if err := c.send(ids, rows); err != nil {
				return err
			}
			continue
		}
		switch c.mode {
		case "dies once", "dies":
			half := len(ids) / 2
			c.send(ids[:half], rows[:half])
			fmt.Fprintln(os.Stderr, "out of memory")
			os.Exit(7)
		case "dies in a message":
			os.Stdout.Write([]byte{0xff, 0xff, 0xff, 0xff, 200, 0, 0, 0, 1, 2, 3})
			os.Exit(7)
		case "hangs":
			time.Sleep(time.Minute)
		case "hangs with a child":
			p, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
			if err != nil {
				return err
			}
			p.Release()
			os.Exit(0)
		case "garbage":
			os.Stdout.Write([]byte("\xff\xff\xff\xff\x10\x00\x00\x00 this is no arrow message at all"))
			time.Sleep(time.Minute)
		case "huge":
			os.Stdout.Write([]byte("\xff\xff\xff\xff\xff\xff\xff\x7f"))
			time.Sleep(time.Minute)
		case "unknown":
			ids = slices.Clone(ids)
			ids[0] = 1 << 40
		case "twice":
			ids = slices.Clone(ids)
			ids[1] = ids[0]
		case "nan":
			rows[1] = []float32{1, float32(math.NaN()), 1}
		case "wide":
			for i := range rows {
				rows[i] = rows[i][:2]
			}
		case "reversed":
			slices.Reverse(rows)
			ids = slices.Clone(ids)
			slices.Reverse(ids)
			for i := range ids { // and one at a time
				if err := c.send(ids[i:i+1], rows[i:i+1]); err != nil {
					return err
				}
			}
			continue
		}
		if err := c.send(ids, rows); err != nil {
			return err
		}
	}
	if c.mode == "stays" {
		time.Sleep(time.Minute)
	}
	return c.in.Err()
}

func (c *child) send(ids []int64, rows [][]float32) error {
	typ := arrow.DataType(arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Float32))
	if c.mode == "wide" {
		typ = arrow.ListOf(arrow.PrimitiveTypes.Float32)
	}
	meta := arrow.NewMetadata([]string{"fingerprint"}, []string{os.Getenv(childEnv + "_WEIGHTS")})
	schema := arrow.NewSchema([]arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "embedding", Type: typ}}, &meta)
	if c.out == nil {
		c.out = ipc.NewWriter(os.Stdout, ipc.WithSchema(schema))
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Int64Builder).AppendValues(ids, nil)
	for _, row := range rows {
		switch list := b.Field(1).(type) {
		case *array.FixedSizeListBuilder:
			list.Append(true)
			list.ValueBuilder().(*array.Float32Builder).AppendValues(row, nil)
		case *array.ListBuilder:
			list.Append(true)
			list.ValueBuilder().(*array.Float32Builder).AppendValues(row, nil)
		}
	}
	return c.out.Write(b.NewRecord())
}

// execLog collects what a program writes to its standard error.
type execLog struct {
	sync.Mutex
	lines []string
}

func (l *execLog) line(s string) {
	l.Lock()
	defer l.Unlock()
	l.lines = append(l.lines, s)
}

func (l *execLog) String() string {
	l.Lock()
	defer l.Unlock()
	return strings.Join(l.lines, "\n")
}

// execConfig starts the child above in a mode.
func execConfig(t *testing.T, mode, env string) (stages.ExecConfig, *execLog) {
	t.Helper()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("needs a POSIX shell")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := new(execLog)
	return stages.ExecConfig{
		Command: fmt.Sprintf("%s='%s' %s exec '%s' -test.run '^TestExecChild$'", childEnv, mode, env, self),
		Shape:   pipeline.Shape{C: 1, H: 2, W: 2}, Wire: execWire, Timeout: time.Minute, Log: log.line,
	}, log
}

// execEmbed embeds n images and checks the rows.
func execEmbed(t *testing.T, e *stages.Exec, n int) error {
	t.Helper()
	pixels := make([]float32, 4*n)
	for i := range pixels {
		pixels[i] = float32(i)
	}
	dst := pipeline.MakeEmbeddings(n, 3)
	if err := e.Embed(t.Context(), dst, pixels); err != nil {
		return err
	}
	for i := range n {
		if got, want := dst.Row(i), pixels[4*i:][:3]; !slices.Equal(got, want) {
			t.Fatalf("row %d of %d is %v, want %v", i, n, got, want)
		}
	}
	return nil
}

func TestExec(t *testing.T) {
	for _, mode := range []string{"good", "reversed"} {
		cfg, _ := execConfig(t, mode, "")
		e, err := stages.NewExec(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if e.Dim() != 3 {
			t.Errorf("Dim is %d, want 3", e.Dim())
		}
		for _, n := range []int{1, 255, 256, 257, 1000, 0} {
			if err := execEmbed(t, e, n); err != nil {
				t.Errorf("%s, %d images: %v", mode, n, err)
			}
		}
		if err := e.Close(); err != nil {
			t.Errorf("%s: Close: %v", mode, err)
		}
	}
}

func TestExecIsStartedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "starts")
	cfg, log := execConfig(t, "dies once", childEnv+"_FILE="+file)
	e, err := stages.NewExec(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := execEmbed(t, e, 700); err == nil {
		if starts, _ := os.ReadFile(file); len(starts) < 2 {
			t.Errorf("it was started %d times", len(starts))
		}
	} else {
		t.Error(err)
	}
	for _, want := range []string{"out of memory", "starting it again: it ended: exit status 7", "images to go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log is %q, want it to say %q", log, want)
		}
	}
}

func TestExecFaults(t *testing.T) {
	for _, tt := range []struct {
		mode    string
		timeout time.Duration // where the test waits for it
		want    []string
	}{
		{"fail", 0, []string{"it ended: exit status 3: no module named net", "1 of 1 images", "started once"}},
		{"text", 0, []string{"read schema", "load", "not an Arrow IPC stream"}},
		{"deaf", time.Second, []string{"gave no embedding for 1s", "started once"}},
		{"mute", 0, []string{"closed its output"}},
		{"columns", 0, []string{"columns are", "vec", "want id: int64 and embedding"}},
		{"dies", 0, []string{"it ended: exit status 7: out of memory", "images to go", "started 3 times"}},
		{"dies in a message", 0, []string{"it ended: exit status 7", "started 2 times"}},
		{"hangs", time.Second, []string{"gave no embedding for 1s", "images to go"}},
		{"hangs with a child", time.Second, []string{"gave no embedding for 1s"}}, // which holds the output open
		{"garbage", 0, []string{"read batch 1", "corrupt"}},
		{"huge", 0, []string{"read batch 1", "2147483647 bytes"}},
		{"unknown", 0, []string{"id 1099511627776", "not asked for", "1 to 300 are"}},
		{"twice", 0, []string{"two embeddings for id 1"}},
		{"wide", 0, []string{"embeddings of 2 values, and of 3 before"}},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			cfg, _ := execConfig(t, tt.mode, "")
			if tt.timeout > 0 {
				cfg.Timeout = tt.timeout
			}
			cfg.Restarts = 2
			e, err := stages.NewExec(t.Context(), cfg)
			if err == nil {
				err = execEmbed(t, e, 300)
				e.Close()
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(tt.want, "run \"") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want it to say %q", err, want)
				}
			}
		})
	}
}

// A row that is not finite is the builder's to refuse: it knows where the image is.
func TestExecNaNNamesTheRow(t *testing.T) {
	cfg, _ := execConfig(t, "nan", "")
	e, err := stages.NewExec(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	images := func(ctx context.Context, out chan<- stages.Image) error {
		for i := range int64(4) {
			img := stages.Image{ID: i, Pixels: []float32{1, 2, 3, 4}, Where: pipeline.Location{File: "a.parquet", RowGroup: 2, Row: i}}
			if err := pipeline.Send(ctx, out, img); err != nil {
				return err
			}
		}
		return nil
	}
	build := stages.Builder{Images: pipeline.From(sourceOf[stages.Image](images)), Samples: 4}
	_, _, err = build.Build(t.Context(), e)
	var row *pipeline.RowError
	if !errors.As(err, &row) || row.Row != 1 || row.File != "a.parquet" || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("error is %v, want one that names row 1 of a.parquet and NaN", err)
	}
}

type sourceOf[T any] func(context.Context, chan<- T) error

func (f sourceOf[T]) Run(ctx context.Context, out chan<- T) error { return f(ctx, out) }

// Cancelling ends the program and the call at once, and is the error.
func TestExecCancel(t *testing.T) {
	cfg, _ := execConfig(t, "hangs", "")
	e, err := stages.NewExec(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(reason) })
	err = e.Embed(ctx, pipeline.MakeEmbeddings(5, 3), make([]float32, 20))
	if !errors.Is(err, reason) {
		t.Errorf("error is %v, want the cause of the cancellation", err)
	}
}

func TestExecFingerprint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weights")
	prints := map[string]bool{}
	for _, v := range []struct{ command, weights, file string }{
		{"true " + file + " && ", "", "1"},
		{"true && ", "", "1"},
		{"true " + file + " && ", "", "2"}, // the same command, and another file
		{"true " + file + " && ", "v1", "2"},
		{"true " + file + " && ", "v2", "2"}, // what the program says of itself, alone
	} {
		if err := os.WriteFile(file, []byte(v.file), 0o666); err != nil {
			t.Fatal(err)
		}
		t.Setenv(childEnv+"_WEIGHTS", v.weights)
		cfg, _ := execConfig(t, "good", "")
		cfg.Command = v.command + cfg.Command
		e, err := stages.NewExec(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if prints[e.Fingerprint()] {
			t.Errorf("%v: the fingerprint is another's", v)
		}
		prints[e.Fingerprint()] = true
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestExecConfig(t *testing.T) {
	good := stages.ExecConfig{Command: "true", Shape: pipeline.Shape{C: 1, H: 2, W: 2}, Wire: execWire}
	for want, spoil := range map[string]func(*stages.ExecConfig){
		"Command": func(c *stages.ExecConfig) { c.Command = " " },
		"Shape":   func(c *stages.ExecConfig) { c.Shape.H = 0 },
		"Wire":    func(c *stages.ExecConfig) { c.Wire.Images = nil },
		"Timeout": func(c *stages.ExecConfig) { c.Timeout = -1 },
		"Restart": func(c *stages.ExecConfig) { c.Restarts = -2 },
		"ended":   func(c *stages.ExecConfig) {}, // true is a program that reads nothing
	} {
		cfg := good
		spoil(&cfg)
		if _, err := stages.NewExec(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want it to say %q", err, want)
		}
	}
}
