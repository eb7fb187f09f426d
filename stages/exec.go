package stages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// ExecConfig configures an [Exec].
type ExecConfig struct {
	Command  string            // of the shell; required
	Shape    pipeline.Shape    // of the images; required
	Wire     Wire              // required
	Timeout  time.Duration     // how long the program may owe embeddings and give none; default 5 minutes
	Restarts int               // how often it is started again; default 3, −1 for never
	Log      func(line string) // takes a line of its standard error; default: nobody does
}

// A Wire is the format in which images go to a program and embeddings come back.
// [github.com/tercet-ml/tercet/storage.TensorWriter] and VectorReader are Arrow's.
type Wire struct {
	Images     func(w io.Writer, shape pipeline.Shape) ImageWriter
	Embeddings func(r io.Reader) (EmbeddingReader, error) // returns when it has read what the stream says of itself
}

// An ImageWriter writes images with their numbers: len(ids)×C×H×W pixels at a
// time. Close writes the end.
type ImageWriter interface {
	Write(ids []int64, pixels []float32) error
	Close() error
}

// An EmbeddingReader reads embeddings with the numbers of their images. Its
// error is io.EOF at the end, or wraps io.ErrUnexpectedEOF before it.
type EmbeddingReader interface {
	Read() (ids []int64, rows pipeline.Embeddings, err error)
	Metadata(key string) string // what the stream says of itself; the key "fingerprint" is that of the weights
}

// Exec is the [Embedder] that is another program. It gets images on its
// standard input and gives an embedding for each on its standard output, in any
// order and in batches of any size, and stops when its input ends. The number of
// an image comes back with its embedding; it is no sample id.
//
// A program that ends or owes embeddings for longer than Timeout, but has
// answered before, is started again, and asked for what is missing. What it
// makes must not depend on that. Output that makes no sense is an error at once:
// another start would not mend it. Nothing hangs: a program that is waited for too
// long, or while the context of Embed is cancelled, is killed with all that it
// started.
type Exec struct {
	cfg     ExecConfig
	digest  string // of the command and the files it names
	self    string // what the program says of its weights
	dim     int
	next    int64 // number of the next image
	starts  int
	program *program // nil when none runs
}

// imagesPerBatch is how many images go to a program together.
const imagesPerBatch = 256

// NewExec starts the program and has it embed a grey image, to learn D. The
// program runs until [Exec.Close].
func NewExec(ctx context.Context, cfg ExecConfig) (*Exec, error) {
	switch {
	case strings.TrimSpace(cfg.Command) == "":
		return nil, errors.New("stages: ExecConfig.Command is empty")
	case cfg.Shape.Len() < 1:
		return nil, fmt.Errorf("stages: ExecConfig.Shape is %v, want a size", cfg.Shape)
	case cfg.Wire.Images == nil || cfg.Wire.Embeddings == nil:
		return nil, errors.New("stages: ExecConfig.Wire is not set")
	case cfg.Timeout < 0 || cfg.Restarts < -1:
		return nil, fmt.Errorf("stages: ExecConfig.Timeout is %v and Restarts %d, want 0 or more, and −1 or more", cfg.Timeout, cfg.Restarts)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Minute
	}
	if cfg.Restarts == 0 {
		cfg.Restarts = 3
	}
	if cfg.Log == nil {
		cfg.Log = func(string) {}
	}
	e := &Exec{cfg: cfg}
	var err error
	if e.digest, err = digestCommand(cfg.Command); err != nil {
		return nil, err
	}
	grey := make([]float32, cfg.Shape.Len())
	for i := range grey {
		grey[i] = 0.5
	}
	if err := e.Embed(ctx, pipeline.Embeddings{}, grey); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Dim implements [Embedder].
func (e *Exec) Dim() int { return e.dim }

// Fingerprint implements [Embedder]: of the command, of the files that are words
// of it, and of what the program says of its weights, if it does.
func (e *Exec) Fingerprint() string {
	return pipeline.Digest("exec 1", []any{e.digest, e.self, e.cfg.Shape})
}

// Embed implements [Embedder].
func (e *Exec) Embed(ctx context.Context, dst pipeline.Embeddings, pixels []float32) error {
	size := e.cfg.Shape.Len()
	n := len(pixels) / size
	if len(pixels)%size != 0 || e.dim != 0 && (dst.Dim != e.dim || dst.Len() != n) {
		return fmt.Errorf("embed %d values to %d rows of %d: want rows of %d, and %v values an image", len(pixels), dst.Len(), dst.Dim, e.dim, e.cfg.Shape)
	}
	owed := &order{first: e.next, pixels: pixels, dst: dst, given: make([]bool, n), left: n}
	e.next += int64(n)
	for owed.left > 0 {
		if err := e.ask(ctx, owed); err != nil {
			return fmt.Errorf("run %q: %w", e.cfg.Command, err)
		}
	}
	return nil
}

// ask has the program answer what is owed. Where it fails and may be started
// again, ask returns nil with something left.
func (e *Exec) ask(ctx context.Context, owed *order) error {
	if e.program == nil {
		p, err := start(ctx, e.cfg)
		if err != nil {
			return err
		}
		e.program = p
		e.starts++
	}
	p := e.program
	failed := p.answer(ctx, e, owed)
	if failed == nil {
		return nil
	}
	e.program = nil
	err := p.end(failed, e.cfg.Timeout)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var broken *brokenError
	if errors.As(err, &broken) && p.answered && e.starts <= e.cfg.Restarts {
		e.cfg.Log(fmt.Sprintf("starting it again: %v, with %d images to go", err, owed.left))
		return nil
	}
	if errors.As(err, &broken) {
		err = fmt.Errorf("%w, with %d of %d images to go; it was started %s", err, owed.left, len(owed.given), times(e.starts))
	}
	return err
}

// Close ends the program: it is told by the end of its input, and killed where
// it does not heed that within Timeout. Ending with a failure is an error.
func (e *Exec) Close() error {
	p := e.program
	if p == nil {
		return nil
	}
	e.program = nil
	if err := p.finish(); err != nil {
		return fmt.Errorf("run %q: %w", e.cfg.Command, err)
	}
	return nil
}

// An order is the images of one call of Embed.
type order struct {
	first  int64 // number of the first image
	pixels []float32
	dst    pipeline.Embeddings // its zero value: only the dimension is wanted
	given  []bool
	left   int
}

// missing calls f with the images that have not been answered, a batch at a time.
func (o *order) missing(size int, given []bool, f func(ids []int64, pixels []float32) error) error {
	var ids []int64
	var pixels []float32
	for i, done := range given {
		if !done {
			ids = append(ids, o.first+int64(i))
			pixels = append(pixels, o.pixels[i*size:(i+1)*size]...)
		}
		if len(ids) > 0 && (len(ids) == imagesPerBatch || i == len(given)-1) {
			if err := f(ids, pixels); err != nil {
				return err
			}
			ids, pixels = ids[:0], pixels[:0]
		}
	}
	return nil
}

// take takes embeddings that the program has given.
func (o *order) take(ids []int64, rows pipeline.Embeddings) error {
	if rows.Len() != len(ids) {
		return fmt.Errorf("it gave %d ids and %d embeddings", len(ids), rows.Len())
	}
	for i, id := range ids {
		switch at := id - o.first; {
		case at < 0 || at >= int64(len(o.given)):
			return fmt.Errorf("it gave an embedding for id %d, which it was not asked for: %d to %d are", id, o.first, o.first+int64(len(o.given))-1)
		case o.given[at]:
			return fmt.Errorf("it gave two embeddings for id %d", id)
		default:
			o.given[at] = true
			o.left--
			if o.dst.Dim > 0 {
				copy(o.dst.Row(int(at)), rows.Row(i))
			}
		}
	}
	return nil
}

// digestCommand is a digest of a command and of every file that is a word of it.
func digestCommand(command string) (string, error) {
	parts := []string{command}
	for word := range strings.FieldsSeq(command) {
		path := strings.Trim(word, `"'`)
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("read %s, a word of the command: %w", path, err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read %s, a word of the command: %w", path, err)
		}
		parts = append(parts, hex.EncodeToString(h.Sum(nil)))
	}
	return pipeline.Digest("command", parts), nil
}

// times is n in words.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
