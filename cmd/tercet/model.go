package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// modelFlags are what a model needs to know beside its name.
type modelFlags struct {
	mean, std             string
	input, output, layout string // onnx
	runtime               string
	timeout               time.Duration // exec
	restarts              int
	means, stds           []float32 // of mean and std
}

func (f *modelFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.mean, "mean", "", "mean of each channel, for onnx: and exec:, like 0.5 or 0.485,0.456,0.406: they are given (pixel−mean)/std, with pixels from 0 to 1")
	flags.StringVar(&f.std, "std", "", "standard deviation of each channel, as --mean")
	flags.StringVar(&f.runtime, "onnxruntime", "", "shared library of ONNX Runtime, or its folder (default: where the system looks)")
	flags.StringVar(&f.input, "onnx-input", "", "input that takes the images (default: the only one)")
	flags.StringVar(&f.output, "onnx-output", "", "output that gives the embeddings (default: the only one)")
	flags.StringVar(&f.layout, "onnx-layout", "", "layout of the input: NCHW or NHWC (default: the model's, by where it has 1 or 3 channels)")
	flags.DurationVar(&f.timeout, "exec-timeout", 5*time.Minute, "how long the program may give no embedding")
	flags.IntVar(&f.restarts, "exec-restarts", 3, "how often the program is started again when it ends or gives nothing; 0 for never")
}

// A named embedder is one of these with a name behind it.
const (
	onnxPrefix = "onnx:"
	execPrefix = "exec:"
)

// check checks the flags for an embedder, and that they are for it.
func (f *modelFlags) check(embedder string, given *pflag.FlagSet) (err error) {
	file, onnx := strings.CutPrefix(embedder, onnxPrefix)
	command, exec := strings.CutPrefix(embedder, execPrefix)
	for _, flag := range []struct {
		name string
		ok   bool
		who  string
	}{
		{"mean", onnx || exec, "onnx: and exec:"}, {"std", onnx || exec, "onnx: and exec:"},
		{"onnx-input", onnx, "onnx:"}, {"onnx-output", onnx, "onnx:"}, {"onnx-layout", onnx, "onnx:"},
		{"exec-timeout", exec, "exec:"}, {"exec-restarts", exec, "exec:"},
	} {
		if given.Changed(flag.name) && !flag.ok {
			return usagef("--%s is for --embedder %s", flag.name, flag.who)
		}
	}
	if f.means, err = parseFloats("--mean", f.mean); err != nil {
		return err
	}
	if f.stds, err = parseFloats("--std", f.std); err != nil {
		return err
	}
	switch {
	case onnx && errNoONNX != nil:
		return errNoONNX
	case len(f.means) != len(f.stds):
		return usagef("--mean has %d numbers and --std %d, want one of each a channel", len(f.means), len(f.stds))
	case onnx && file == "":
		return usagef("--embedder is %q, want a file, as in onnx:model.onnx", embedder)
	case exec && strings.TrimSpace(command) == "":
		return usagef("--embedder is %q, want a command, as in exec:'python3 embed.py'", embedder)
	case f.layout != "" && f.layout != "NCHW" && f.layout != "NHWC":
		return usagef("--onnx-layout is %q, want NCHW or NHWC", f.layout)
	case f.timeout <= 0:
		return usagef("--exec-timeout is %v, want more than 0", f.timeout)
	case f.restarts < 0:
		return usagef("--exec-restarts is %d, want 0 or more", f.restarts)
	}
	return nil
}

// parseFloats reads up to three numbers between commas.
func parseFloats(flag, s string) ([]float32, error) {
	if s == "" {
		return nil, nil
	}
	var list []float32
	for part := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(part), 32)
		if err != nil || len(list) == 3 {
			return nil, usagef("%s is %q, want a number for each channel, like 0.5 or 0.485,0.456,0.406", flag, s)
		}
		list = append(list, float32(v))
	}
	return list, nil
}

// A model is an embedder from outside the data.
type model struct {
	name      string
	shape     pipeline.Shape // of the images it takes; 0 for what it leaves open
	mean, std []float32      // per channel; nil: it is given pixels from 0 to 1
	embedder  func(ctx context.Context, shape pipeline.Shape) (stages.Embedder, error)
	close     func()
}

// openModel opens the model that --embedder names, which the caller closes; nil
// where it names none.
func (e *embedJob) openModel() (*model, error) {
	f := e.flags
	var m *model
	if file, ok := strings.CutPrefix(f.embedder, onnxPrefix); ok {
		var err error
		if m, err = openONNX(file, &f.modelFlags, e.data.workers); err != nil {
			return nil, err
		}
		m.name = onnxPrefix + filepath.Base(file)
	} else if command, ok := strings.CutPrefix(f.embedder, execPrefix); ok {
		m = execModel(command, &f.modelFlags)
		m.name = f.embedder
	} else {
		return nil, nil
	}
	if f.means != nil {
		m.mean, m.std = f.means, f.stds
	}
	if s := f.shape; s.C > 0 && m.shape.C > 0 && s.C != m.shape.C || s.H > 0 && (m.shape.H > 0 && s.H != m.shape.H || m.shape.W > 0 && s.W != m.shape.W) {
		m.close()
		return nil, usagef("--size is %s, and %s takes images of %s", f.size, m.name, sizeName(m.shape))
	}
	return m, nil
}

// sizeName is a shape as --size takes it, with ? for what may be anything.
func sizeName(s pipeline.Shape) string {
	name := func(n int) string {
		if n == 0 {
			return "?"
		}
		return strconv.Itoa(n)
	}
	return name(s.H) + "x" + name(s.W) + "x" + name(s.C)
}

// execModel is a program that embeds, started when the images' shape is known.
func execModel(command string, f *modelFlags) *model {
	m := &model{close: func() {}}
	m.embedder = func(ctx context.Context, shape pipeline.Shape) (stages.Embedder, error) {
		restarts := f.restarts
		if restarts == 0 {
			restarts = -1
		}
		e, err := stages.NewExec(ctx, stages.ExecConfig{
			Command: command, Shape: shape, Wire: arrowWire, Timeout: f.timeout, Restarts: restarts,
			Log: func(line string) { slog.Info(line, "from", "embedder") },
		})
		if err != nil {
			return nil, err
		}
		m.close = func() {
			if err := e.Close(); err != nil { // all that was asked for is there
				slog.Warn(err.Error())
			}
		}
		return e, nil
	}
	return m
}

// arrowWire is Arrow IPC, both ways.
var arrowWire = stages.Wire{
	Images: func(w io.Writer, shape pipeline.Shape) stages.ImageWriter { return storage.NewTensorWriter(w, shape) },
	Embeddings: func(r io.Reader) (stages.EmbeddingReader, error) {
		v, err := storage.NewVectorReader(r)
		if err != nil {
			return nil, err
		}
		return v, nil
	},
}

// embedModel embeds every image with a model.
func (e *embedJob) embedModel(ctx context.Context, set *storage.Dataset, m *model) (*embedded, error) {
	defer func() { m.close() }() // which opening an embedder may change
	decode, size, err := e.decoder(ctx, set, m)
	if err != nil {
		return nil, err
	}
	embedder, err := m.embedder(ctx, size)
	if err != nil {
		return nil, err
	}
	emb, err := e.build(ctx, set, decode, embedder)
	if err != nil {
		return nil, err
	}
	emb.name, emb.size = m.name, size
	return emb, nil
}
