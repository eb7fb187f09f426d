//go:build unix && !solaris && !illumos && !aix

package storage

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile takes an advisory lock that ends with the handle or the process.
func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0) // NFS locks for writing only what is open for it
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	switch {
	case err == syscall.EWOULDBLOCK:
		return nil, errLocked
	case err == syscall.ENOLCK || err == syscall.EINVAL:
		return nil, errors.ErrUnsupported // some network file systems
	}
	return nil, err
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems cannot sync a folder, and need not.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
