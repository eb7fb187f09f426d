package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A Journal is a file of JSON lines that only grows, for what has to be seen
// while a job runs and after it was killed. A line is written whole, by one call;
// one that a power loss has torn is cut off when the file is opened again. Lines
// are on the disk within about a second while others follow, and after Close.
// All methods may be called from any goroutine.
type Journal struct {
	mu     sync.Mutex
	path   string
	file   *os.File
	lock   io.Closer // nil where there are no locks
	synced time.Time
	err    error // sticky
}

// OpenJournal opens the journal at path for adding to it, or makes it. Another
// process that has it open is an error, as is a file that holds anything but
// lines.
func OpenJournal(path string) (_ *Journal, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: it is not a regular file", path)
	}
	lock, err := OS.Lock(path)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("open %s: %w: another process writes to it", path, err)
	}
	defer func() {
		if err != nil && lock != nil {
			lock.Close()
		}
	}()
	end, err := lastLine(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if end < info.Size() {
		if err := file.Truncate(end); err != nil {
			return nil, fmt.Errorf("cut off the torn line of %s: %w", path, err)
		}
	}
	if err := OS.SyncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("sync the folder of %s: %w", path, err)
	}
	return &Journal{path: path, file: file, lock: lock, synced: time.Now()}, nil
}

// maxLine bounds a line of a journal.
const maxLine = 16 << 20

// lastLine is where the last whole line ends. What is before it must end in an
// object, or the file is somebody else's.
func lastLine(file *os.File, size int64) (end int64, err error) {
	tail := make([]byte, min(size, maxLine))
	if _, err := file.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return 0, fmt.Errorf("read its end: %w", err)
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole == 0 {
		if size > 0 && (size > maxLine || tail[0] != '{') {
			return 0, fmt.Errorf("%w: not a file of JSON lines", ErrCorrupt)
		}
		return 0, nil
	}
	if whole < 2 || tail[whole-2] != '}' {
		return 0, fmt.Errorf("%w: not a file of JSON lines", ErrCorrupt)
	}
	return size - int64(len(tail)) + int64(whole), nil
}

// Append adds v as a line. The first error is that of all later calls.
func (j *Journal) Append(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of %s: %w", j.path, err)
	}
	line = append(line, '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if n, err := j.file.Write(line); err != nil {
		if n > 0 { // a full disk: what is there of the line goes, so that lines stay whole
			if info, failed := j.file.Stat(); failed == nil {
				j.file.Truncate(info.Size() - int64(n))
			}
		}
		return j.fail("write", err)
	}
	if time.Since(j.synced) > time.Second {
		if err := j.file.Sync(); err != nil {
			return j.fail("sync", err)
		}
		j.synced = time.Now()
	}
	return nil
}

func (j *Journal) fail(step string, err error) error {
	j.err = fmt.Errorf("%s %s: %w", step, j.path, err)
	return j.err
}

var errJournalClosed = errors.New("journal is closed")

// Close puts all lines on the disk and returns the first error there was.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == errJournalClosed {
		return nil
	}
	if j.err == nil {
		if err := j.file.Sync(); err != nil {
			j.fail("sync", err)
		}
	}
	if err := j.file.Close(); err != nil && j.err == nil {
		j.fail("close", err)
	}
	if j.lock != nil {
		j.lock.Close()
	}
	err := j.err
	j.err = errJournalClosed
	return err
}
