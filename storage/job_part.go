package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
)

// A Part is a piece of a [Job]'s result that is whole and on the disk.
type Part struct {
	Name   string          `json:"name"`  // a path with slashes
	Aside  bool            `json:"aside"` // not of the output: see CreateAside
	Size   int64           `json:"size"`
	SHA256 string          `json:"sha256"` // hex
	Info   json.RawMessage `json:"info"`   // what the job was told of it
}

// A PartWriter writes one part. It keeps the contract of a [Draft].
type PartWriter struct {
	*Draft
	job  *Job
	part Part
	hash hash.Hash
}

// Path is where a part is stored.
func (j *Job) Path(p Part) string {
	switch {
	case p.Aside:
		return j.path("aside", filepath.FromSlash(p.Name))
	case j.published:
		return filepath.Join(j.cfg.Output, filepath.FromSlash(p.Name))
	}
	return j.path("data", filepath.FromSlash(p.Name))
}

// Create begins a part. Its name is a relative path, with slashes, of names that
// do not begin with a dot; for a folder output, the path of the file in it. A
// part that was committed is not written again: its name is refused with [ErrExists].
func (j *Job) Create(name string) (*PartWriter, error) { return j.create(Part{Name: name}) }

// CreateAside begins a part that is not of the output: what is read again for
// parts to come. PublishFolder leaves it where it is and Remove removes it.
func (j *Job) CreateAside(name string) (*PartWriter, error) {
	return j.create(Part{Name: name, Aside: true})
}

func (j *Job) create(p Part) (*PartWriter, error) {
	elems := strings.Split(p.Name, "/")
	for _, e := range elems {
		if e == "" || e[0] == '.' || !filepath.IsLocal(e) || strings.ContainsAny(e, `/\`) {
			return nil, fmt.Errorf("storage: %q is no name for a part", p.Name)
		}
	}
	path := j.Path(p)
	if _, done := j.Part(p.Name); done || j.published {
		return nil, fmt.Errorf("create %s: %w", path, ErrExists)
	}
	if err := j.mkdirs(filepath.Dir(path)); err != nil {
		return nil, err
	}
	d, err := NewDraft(j.fs, path, true) // what is there was not committed
	if err != nil {
		return nil, err
	}
	return &PartWriter{Draft: d, job: j, part: p, hash: sha256.New()}, nil
}

// mkdirs makes a folder below that of the parts, and those between, durably.
func (j *Job) mkdirs(dir string) error {
	if _, err := j.fs.Stat(dir); err == nil || dir == j.dir {
		return nil
	}
	if err := j.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := j.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if err := j.fs.SyncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", dir, err)
	}
	return nil
}

// record is where it is written that the part of that name is whole.
func (j *Job) record(name string) string { return j.path("done", url.PathEscape(name)) }

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
	p := w.part
	p.Size, p.SHA256, p.Info = w.Size(), hex.EncodeToString(w.hash.Sum(nil)), text
	if err := w.Draft.Commit(); err != nil {
		return err
	}
	if text, err = json.Marshal(p); err != nil {
		return fmt.Errorf("encode the record of %s: %w", w.path, err)
	}
	if err := commitFile(w.job.fs, w.job.record(p.Name), text); err != nil {
		return err
	}
	w.job.mu.Lock()
	defer w.job.mu.Unlock()
	w.job.parts[p.Name] = p
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
	f, err := j.fs.Open(j.Path(p))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", j.Path(p), err)
	}
	return &PartReader{part: p, path: j.Path(p), file: f, r: io.NewSectionReader(f, 0, p.Size+1), hash: sha256.New()}, nil
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
