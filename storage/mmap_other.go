//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package storage

import (
	"fmt"
	"io"
	"math"
	"os"
)

// mapFile returns the contents of a regular file of the given size, read into
// memory, and a function that has nothing to do.
func mapFile(f *os.File, size int64) (data []byte, unmap func() error, err error) {
	if size > math.MaxInt {
		return nil, nil, fmt.Errorf("%w: file of %d bytes does not fit into the address space", ErrMemory, size)
	}
	data = make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, fmt.Errorf("read into memory: %w", err)
	}
	return data, func() error { return nil }, nil
}
