//go:build linux || darwin || freebsd || netbsd || openbsd

package storage

import (
	"fmt"
	"math"
	"os"
	"syscall"
)

// mapFile returns the contents of a regular file of the given size, as pages of
// the operating system's cache, and the function that lets go of them.
func mapFile(f *os.File, size int64) (data []byte, unmap func() error, err error) {
	if size == 0 {
		return nil, func() error { return nil }, nil
	}
	if size > math.MaxInt {
		return nil, nil, fmt.Errorf("%w: file of %d bytes does not fit into the address space", ErrMemory, size)
	}
	data, err = syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map into memory: %w", err)
	}
	return data, func() error { return syscall.Munmap(data) }, nil
}
