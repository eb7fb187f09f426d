package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"strings"
)

// A Part is a piece of a [Job]'s result that is whole and on the disk.
type Part struct {
	Name   string          `json:"name"`
	Size   int64           `json:"size"`
	SHA256 string          `json:"sha256"` // hex
	Info   json.RawMessage `json:"info"`   // what the job was told of it
}

// A PartWriter writes one part. It keeps the contract of a [Draft].
type PartWriter struct {
	*Draft
	job  *Job
	name string
	hash hash.Hash
}

// Path is where the part of that name is stored.
func (j *Job) Path(name string) string {
	if j.published {
		return filepath.Join(j.cfg.Output, name)
	}
	return j.path("data", name)
}

// Create begins a part. A name is a plain file name that does not begin with a
// dot. A part that was committed is not written again.
func (j *Job) Create(name string) (*PartWriter, error) {
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) {
		return nil, fmt.Errorf("storage: %q is no name for a part, want a file name", name)
	}
	if _, done := j.Part(name); done || j.published {
		return nil, fmt.Errorf("create %s: %w", j.Path(name), ErrExists)
	}
	d, err := NewDraft(j.fs, j.Path(name), true) // what is there was not committed
	if err != nil {
		return nil, err
	}
	return &PartWriter{Draft: d, job: j, name: name, hash: sha256.New()}, nil
}

// Write implements [io.Writer].
func (w *PartWriter) Write(p []byte) (int, error) {
	n, err := w.Draft.Write(p)
	w.hash.Write(p[:n])
	return n, err
}

// Commit makes the part durable, and then the record that says so. info is
// stored with it as JSON.
func (w *PartWriter) Commit(info any) error {
	text, err := json.Marshal(info)
	if err != nil {
		return w.end(fmt.Errorf("encode what is known of %s: %w", w.path, err))
	}
	p := Part{Name: w.name, Size: w.Size(), SHA256: hex.EncodeToString(w.hash.Sum(nil)), Info: text}
	if err := w.Draft.Commit(); err != nil {
		return err
	}
	if text, err = json.Marshal(p); err != nil {
		return fmt.Errorf("encode the record of %s: %w", w.path, err)
	}
	if err := commitFile(w.job.fs, w.job.path("done", w.name), text); err != nil {
		return err
	}
	w.job.mu.Lock()
	defer w.job.mu.Unlock()
	w.job.parts[w.name] = p
	return nil
}

// A PartReader reads a part and checks it on the way: instead of io.EOF comes
// [ErrCorrupt] when what was read is not what was committed.
type PartReader struct {
	part Part
	path string
	file File
	r    io.Reader
	hash hash.Hash
}

// Open opens a part that is whole. Whoever opens it closes it.
func (j *Job) Open(name string) (*PartReader, error) {
	p, ok := j.Part(name)
	if !ok {
		return nil, fmt.Errorf("storage: part %q was not committed", name)
	}
	f, err := j.fs.Open(j.Path(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", j.Path(name), err)
	}
	return &PartReader{part: p, path: j.Path(name), file: f, r: io.NewSectionReader(f, 0, p.Size+1), hash: sha256.New()}, nil
}

// Read implements [io.Reader].
func (r *PartReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.hash.Write(p[:n])
	switch {
	case err == io.EOF && hex.EncodeToString(r.hash.Sum(nil)) != r.part.SHA256:
		return n, fmt.Errorf("%s: %w: it is not what was committed", r.path, ErrCorrupt)
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("read %s: %w", r.path, err)
	}
	return n, err
}

// Close closes the file.
func (r *PartReader) Close() error { return r.file.Close() }
