package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// ErrRead means that the bytes of a file could not be had: a disk or network
// that fails, or a file that changed while it was read. It says nothing about
// what is in the file, so no row is ever left out for it.
var ErrRead = errors.New("file cannot be read")

// An input is a file open for reading at any place. What may pass (a timeout, an
// interrupted call, an input/output error of a network disk, fewer bytes than
// were asked for) is tried again a few times, with pauses; then it is [ErrRead].
// Reading stops when the context is done, also between two reads of a decoder
// that knows of no context.
type input struct {
	ctx  context.Context
	file File
	name string
	size int64
}

// retryPauses are the pauses before each further try of a read: 0.85 s in all.
var retryPauses = [...]time.Duration{10 * time.Millisecond, 40 * time.Millisecond, 160 * time.Millisecond, 640 * time.Millisecond}

// openInput opens a regular file.
func openInput(ctx context.Context, fsys FS, name string) (*input, os.FileInfo, error) {
	if fsys == nil {
		fsys = OS
	}
	var file File
	err := retry(ctx, func() (done bool, err error) {
		file, err = fsys.Open(name)
		return true, err
	})
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: not a regular file", name, ErrUnsupported)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return &input{ctx: ctx, file: file, name: name, size: info.Size()}, info, nil
}

// ReadAt implements [io.ReaderAt]. Within the file's size it reads all of p or
// fails; the end of the file is where it was when it was opened.
func (in *input) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > in.size {
		return 0, fmt.Errorf("%w: byte %d of %d", ErrCorrupt, off, in.size)
	}
	var end error
	if left := in.size - off; int64(len(p)) > left {
		p, end = p[:left], io.EOF
	}
	at := 0
	err := retry(in.ctx, func() (bool, error) {
		n, err := in.file.ReadAt(p[at:], off+int64(at))
		at += n
		if at == len(p) {
			return true, nil
		}
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n == 0, err
	})
	if err != nil {
		return at, fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
	}
	return at, end
}

// Seek is there for the library, which asks where the end is.
func (in *input) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset += in.size
	}
	return offset, nil
}

// Close closes the file.
func (in *input) Close() error { return in.file.Close() }

// retry calls f until it succeeds, fails for good, or has failed once more than
// there are pauses. f says whether a failure counts: one that brought something
// does not.
func retry(ctx context.Context, f func() (counts bool, err error)) error {
	for tries := 0; ; {
		if ctx.Err() != nil {
			return stopped{context.Cause(ctx)}
		}
		counts, err := f()
		if err == nil {
			return nil
		}
		if !transient(err) {
			return err
		}
		if !counts {
			continue
		}
		if tries == len(retryPauses) {
			return fmt.Errorf("%w, tried %d times: %w", ErrRead, tries+1, err)
		}
		pause := time.NewTimer(retryPauses[tries])
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		tries++
	}
}

// transient reports whether a failed call may succeed when it is made again.
func transient(err error) bool {
	for _, cause := range []error{
		io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, syscall.EIO, syscall.EINTR, syscall.EAGAIN, syscall.EBUSY, syscall.ENOMEM,
		syscall.ETIMEDOUT, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// ofContent reports whether err is decided by the bytes of a file alone, so that
// every run meets it and a row may be left out for it. Memory is a setting, and
// a failing disk chance.
func ofContent(err error) bool {
	if _, ok := errors.AsType[stopped](err); ok {
		return false
	}
	for _, chance := range []error{ErrRead, ErrMemory, ErrClosed} {
		if errors.Is(err, chance) {
			return false
		}
	}
	for _, cause := range []error{ErrCorrupt, ErrUnsupported, ErrNull, ErrValue, ErrSchema} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
