//go:build !unix || solaris || illumos || aix

package storage

import (
	"errors"
	"io"
)

// lockFile cannot tell on this system whether a file is in use, so what killed
// processes left behind stays until somebody removes it.
func lockFile(string) (io.Closer, error) { return nil, errors.ErrUnsupported }

// syncDir does nothing: a folder cannot be synced here.
func syncDir(string) error { return nil }
