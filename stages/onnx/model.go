//go:build (linux || darwin || windows) && (amd64 || arm64)

package onnx

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/tercet-ml/tercet/pipeline"
)

// A Model is an opened model whose input and output are known to be usable.
type Model struct {
	cfg      Config
	settings Settings
	session  *session
	digest   string // of the file
	in, out  port
	shape    pipeline.Shape // of an image; 0 for what the model leaves open
}

// A PortError says that an input or output is not there or not to be used.
type PortError struct {
	Kind   string // "input" or "output"
	Reason string
}

func (e *PortError) Error() string { return e.Reason }

// Open loads the runtime and the model and checks what the model says of its
// input and output. The caller closes it.
func Open(cfg Config) (*Model, error) {
	settings, err := ReadSettings(cfg.Model)
	if err != nil {
		return nil, fmt.Errorf("read settings of %s: %w", cfg.Model, err)
	}
	for _, f := range []struct {
		dst  *string
		from string
	}{{&cfg.Input, settings.Input}, {&cfg.Output, settings.Output}, {&cfg.Layout, settings.Layout}} {
		if *f.dst == "" {
			*f.dst = f.from
		}
	}
	if cfg.Layout != "" && cfg.Layout != nchw && cfg.Layout != nhwc {
		return nil, fmt.Errorf("onnx: Config.Layout is %q, want %s or %s", cfg.Layout, nchw, nhwc)
	}
	text, err := os.ReadFile(cfg.Model)
	if err != nil {
		return nil, err
	}
	api, err := library(cfg.Library)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m := &Model{cfg: cfg, settings: settings, digest: hex.EncodeToString(sum[:])}
	if m.session, err = newSession(api, text); err != nil {
		return nil, fmt.Errorf("load %s: %w", cfg.Model, err)
	}
	if err := m.check(); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", cfg.Model, err)
	}
	return m, nil
}

// Close releases the model. Its embedders are not used any more.
func (m *Model) Close() { m.session.close() }

// Settings are those of the file beside the model.
func (m *Model) Settings() Settings { return m.settings }

// Shape is that of the images the model takes, by itself or its settings; 0 for
// what it leaves open.
func (m *Model) Shape() pipeline.Shape { return m.shape }

// Runtime is the version of ONNX Runtime.
func (m *Model) Runtime() string { return m.session.version }

func (m *Model) check() error {
	inputs, outputs, err := m.session.ports()
	if err != nil {
		return err
	}
	if m.in, err = find(inputs, m.cfg.Input, "input"); err != nil {
		return err
	}
	if len(inputs) > 1 {
		return &PortError{"input", fmt.Sprintf("the model has %d inputs, want one: images", len(inputs))}
	}
	if m.out, err = find(outputs, m.cfg.Output, "output"); err != nil {
		return err
	}
	switch {
	case m.in.typ != typeFloat:
		return &PortError{"input", fmt.Sprintf("input %q takes %s, want float32", m.in.name, typeName(m.in.typ))}
	case len(m.in.dims) != 4:
		return &PortError{"input", fmt.Sprintf("input %q has the dimensions %v, want 4: images, channels, height and width", m.in.name, m.in.dims)}
	case m.out.typ != typeFloat:
		return &PortError{"output", fmt.Sprintf("output %q gives %s, want float32", m.out.name, typeName(m.out.typ))}
	}
	if m.cfg.Layout == "" {
		m.cfg.Layout = layoutOf(m.in.dims)
	}
	m.shape = imageShape(m.in.dims, m.cfg.Layout)
	if m.shape.C > 0 && m.shape.C != 1 && m.shape.C != 3 {
		return &PortError{"input", fmt.Sprintf("input %q has the dimensions %v, which as %s are %d channels, want 1 or 3", m.in.name, m.in.dims, m.cfg.Layout, m.shape.C)}
	}
	if s := m.settings; s.Height > 0 {
		if m.shape.H > 0 && m.shape.H != s.Height || m.shape.W > 0 && m.shape.W != s.Width {
			return fmt.Errorf("its settings say images of %d×%d, and the model takes %d×%d", s.Height, s.Width, m.shape.H, m.shape.W)
		}
		m.shape.H, m.shape.W = s.Height, s.Width
	}
	return nil
}

// Embedder is the model for images of one shape, which the model has to take.
// It runs a grey image to learn D. Any number may be had of one model.
func (m *Model) Embedder(ctx context.Context, shape pipeline.Shape) (*Embedder, error) {
	for _, d := range []struct {
		name       string
		have, want int
	}{{"channels", shape.C, m.shape.C}, {"height", shape.H, m.shape.H}, {"width", shape.W, m.shape.W}} {
		if d.have < 1 || d.want > 0 && d.have != d.want {
			return nil, &PortError{"input", fmt.Sprintf("%s: input %q has the dimensions %v in %s, and the images have %s %d",
				m.cfg.Model, m.in.name, m.in.dims, m.cfg.Layout, d.name, d.have)}
		}
	}
	e := &Embedder{Model: m, image: shape, batch: imagesAtOnce}
	if n := m.in.dims[0]; n > 0 {
		e.batch = int(n)
	}
	grey := make([]float32, shape.Len())
	for i := range grey {
		grey[i] = 0.5
	}
	err := e.part(new(scratch), 1, grey, func(values []float32) error {
		e.dim = len(values)
		return nil
	})
	if err == nil && e.dim == 0 {
		err = errors.New("its output is empty")
	}
	if err := errors.Join(err, ctx.Err()); err != nil {
		return nil, fmt.Errorf("%s: run one image: %w", m.cfg.Model, err)
	}
	return e, nil
}

// Fingerprint implements [stages.Embedder]: of the file, of what it is given and
// of the runtime.
func (e *Embedder) Fingerprint() string {
	return pipeline.Digest("onnx 1", []any{e.digest, e.in.name, e.out.name, e.cfg.Layout, e.image, e.session.version})
}
