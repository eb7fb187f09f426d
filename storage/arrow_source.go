package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// A source is the bytes of one file, in memory or mapped into it.
type source struct {
	path string
	data []byte // not to be written to; gone after close
	free func() error
}

// openSource maps a regular file, and reads anything else (the standard input,
// a pipe) to its end: into memory up to limit bytes, or else into a temporary
// file.
func openSource(ctx context.Context, path string, limit int64) (*source, error) {
	if path == stdin {
		return spool(ctx, path, os.Stdin, limit)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // a mapping outlives it
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return spool(ctx, path, f, limit)
	}
	data, free, err := mapFile(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &source{path: path, data: data, free: free}, nil
}

// spool reads r to its end.
func spool(ctx context.Context, path string, r io.Reader, limit int64) (*source, error) {
	r = &cancelReader{ctx, r}
	var buf bytes.Buffer
	n, err := io.CopyN(&buf, r, limit+1)
	if errors.Is(err, io.EOF) && n <= limit {
		return &source{path: path, data: buf.Bytes(), free: func() error { return nil }}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	f, err := os.CreateTemp("", "tercet-stream-*.arrows")
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", path, err)
	}
	src, err := spoolTo(f, path, io.MultiReader(&buf, r))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", path, err), f.Close(), os.Remove(f.Name()))
	}
	unmap := src.free
	src.free = func() error { return errors.Join(unmap(), f.Close(), os.Remove(f.Name())) }
	return src, nil
}

// spoolTo copies r to f, which it maps.
func spoolTo(f *os.File, path string, r io.Reader) (*source, error) {
	size, err := io.Copy(f, r)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	data, free, err := mapFile(f, size)
	return &source{path: path, data: data, free: free}, err
}

// close lets go of the bytes. Closing again does nothing.
func (s *source) close() error {
	if s.free == nil {
		return nil
	}
	err := s.free()
	s.data, s.free = nil, nil
	return err
}

// A cancelReader stops reading when its context is done: between two reads.
type cancelReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
