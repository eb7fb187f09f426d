package stages

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
)

// A program is one start of the command of an [Exec].
type program struct {
	in, out  *os.File // our ends of its standard input and output
	stop     context.CancelCauseFunc
	task     *pipeline.Task // starts it, logs its standard error and waits for it
	images   ImageWriter
	rows     EmbeddingReader // nil before its first word
	answered bool
	hung     atomic.Bool
	last     string // line of its standard error
}

// A brokenError says that a program ended, or gave nothing for too long: what a
// new start may mend.
type brokenError struct{ reason string }

func (e *brokenError) Error() string { return e.reason }

var errHung = errors.New("program hangs")

// start starts the command of cfg.
func start(ctx context.Context, cfg ExecConfig) (*program, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		childIn.Close()
		in.Close()
		return nil, err
	}
	p := &program{in: in, out: out, images: cfg.Wire.Images(in, cfg.Shape)}
	cmd := shell(cfg.Command)
	cmd.Stdin, cmd.Stdout = childIn, childOut
	ctx, p.stop = context.WithCancelCause(context.WithoutCancel(ctx)) // it outlives the call that needs it first
	p.task = pipeline.Background(ctx, func(ctx context.Context) error {
		return p.run(ctx, cmd, cfg.Log)
	})
	return p, nil
}

// run is the program's life. When ctx is done, the program, all that it started
// and our ends of its pipes are gone: no read or write waits any longer.
func (p *program) run(ctx context.Context, cmd *exec.Cmd, log func(string)) error {
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	cmd.Stdin.(*os.File).Close()
	cmd.Stdout.(*os.File).Close()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		kill(cmd)
		p.in.Close()
		p.out.Close()
		stderr.Close()
	})()
	lines := bufio.NewReader(stderr)
	for err == nil {
		var line string
		line, err = readLine(lines)
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			p.last = line
			log(line)
		}
	}
	return cmd.Wait()
}

// readLine reads a line, or as much of it as is shown.
func readLine(r *bufio.Reader) (string, error) {
	line, more, err := r.ReadLine()
	text := string(line)
	for more && err == nil {
		_, more, err = r.ReadLine()
	}
	return text, err
}

// answer writes what is owed and takes what comes back until nothing is.
func (p *program) answer(ctx context.Context, e *Exec, owed *order) error {
	defer context.AfterFunc(ctx, func() { p.stop(context.Cause(ctx)) })()
	late := time.AfterFunc(e.cfg.Timeout, p.kill)
	defer late.Stop()
	given := slices.Clone(owed.given)
	writing := pipeline.Background(ctx, func(context.Context) error {
		return owed.missing(e.cfg.Shape.Len(), given, p.images.Write)
	})
	err := p.read(e, owed, late)
	if err != nil {
		p.in.Close() // wakes the writer
	}
	if failed := writing.Wait(); err == nil {
		err = failed
	}
	return err
}

func (p *program) read(e *Exec, owed *order, late *time.Timer) error {
	if p.rows == nil {
		var err error
		if p.rows, err = e.cfg.Wire.Embeddings(p.out); err != nil {
			return err
		}
		self := p.rows.Metadata("fingerprint")
		if e.dim != 0 && self != e.self {
			return fmt.Errorf("it says that its weights are %q, and said %q before", self, e.self)
		}
		e.self = self
	}
	for owed.left > 0 {
		ids, rows, err := p.rows.Read()
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			continue
		}
		if e.dim != 0 && rows.Dim != e.dim {
			return fmt.Errorf("it gave embeddings of %d values, and of %d before", rows.Dim, e.dim)
		}
		if err := owed.take(ids, rows); err != nil {
			return err
		}
		e.dim, p.answered = rows.Dim, true
		late.Reset(e.cfg.Timeout)
	}
	return nil
}

// Times that a program has to end by itself once its input has ended.
const (
	graceBroken = time.Second      // after it has failed
	graceDone   = 10 * time.Second // after all went well
)

// end ends a program that has failed and says why, as far as can be known.
func (p *program) end(failed error, timeout time.Duration) error {
	gone := errors.Is(failed, io.EOF) || errors.Is(failed, io.ErrUnexpectedEOF) || errors.Is(failed, syscall.EPIPE)
	if hung := p.hung.Load(); hung || !gone {
		p.stop(errHung)
		p.leave(graceBroken)
		if hung {
			return &brokenError{fmt.Sprintf("it gave no embedding for %v", timeout)}
		}
		return failed
	}
	err := p.leave(graceBroken)
	reason := "it ended"
	switch {
	case p.hung.Load():
		reason = "it closed its output and went on"
	case err != nil:
		reason += ": " + err.Error()
	}
	if p.last != "" {
		reason += ": " + p.last
	}
	return &brokenError{reason}
}

// finish ends a program that has done all it had to do.
func (p *program) finish() error {
	late := time.AfterFunc(graceDone, p.kill)
	defer late.Stop()
	p.images.Close() // an error here is the program's end, which leave tells
	p.in.Close()
	io.Copy(io.Discard, p.out) // it may have an end of stream to write
	err := p.leave(graceDone)
	if p.hung.Load() {
		return fmt.Errorf("it did not end when its input had ended, and was killed after %v", graceDone)
	}
	return err
}

// kill ends a program that has been waited for long enough.
func (p *program) kill() {
	p.hung.Store(true)
	p.stop(errHung)
}

// leave waits for the program to end by itself, then ends it, and returns how it ended.
func (p *program) leave(grace time.Duration) error {
	p.in.Close()
	late := time.AfterFunc(grace, p.kill)
	err := p.task.Wait()
	late.Stop()
	p.out.Close()
	p.stop(nil)
	return err
}
