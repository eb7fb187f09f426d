package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// ManifestName is the file, in the folder of a prepared data set, that says
// what the data set consists of. It is written last.
const ManifestName = "tercet-manifest.json"

// ManifestVersion is the version of the manifest that is written and read.
const ManifestVersion = 1

// A Manifest says what a prepared data set consists of, down to the digest of
// every byte: of each row group, of what follows the last one in a shard, of
// the file of labels, and of itself. Equal data and settings give equal
// manifests, so it names no time, machine or absolute path.
type Manifest struct {
	Version  int          `json:"tercet_manifest"` // ManifestVersion
	Format   Format       `json:"format"`          // FormatParquet or FormatArrow
	Split    string       `json:"split"`           // "train" where the source had no splits
	Rows     int64        `json:"rows"`
	Unknown  int64        `json:"unknown"` // rows of them whose class is not known
	Encoding string       `json:"encoding"`
	Raw      pipeline.Raw `json:"raw,omitzero"` // of every image, where Encoding is "raw"

	Classes []ManifestClass `json:"classes"` // by number
	Images  []ManifestImage `json:"images"`  // the kinds of images, the most frequent first; at most MaxManifestImages
	Other   int64           `json:"other_images"`

	Settings map[string]string `json:"settings"` // that decide the bytes, as they were given on the command line
	Counts   map[string]int64  `json:"counts"`   // of the source's rows: what became of them
	Sources  []ManifestSource  `json:"sources"`

	Labels ManifestFile    `json:"labels"` // see [ManifestLabels]
	Shards []ManifestShard `json:"shards"` // in name order: sample ids run through them

	Digest string `json:"-"` // SHA-256, in hex, of the manifest; the member "sha256" of the file
}

// ManifestClass is one class.
type ManifestClass struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// ManifestImage is a kind of images, and how many of it there are.
type ManifestImage struct {
	Format string `json:"format"` // "PNG", "JPEG", "GIF", "WebP" or "raw"
	C      int    `json:"c"`
	H      int    `json:"h"`
	W      int    `json:"w"`
	Rows   int64  `json:"rows"`
}

// ManifestSource is what a data set was made from.
type ManifestSource struct {
	Name string `json:"name"` // last element of its path
	Kind string `json:"kind"`
	Rows int64  `json:"rows"`
}

// ManifestFile is a file beside the shards.
type ManifestFile struct {
	Path   string `json:"path"` // below the folder of the manifest, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Groups bool   `json:"groups"` // group numbers follow the labels
}

// ManifestShard is one shard.
type ManifestShard struct {
	Path   string          `json:"path"` // below the folder of the manifest, with slashes
	Size   int64           `json:"size"`
	Rows   int64           `json:"rows"`
	Groups []ManifestGroup `json:"groups"`
	Tail   string          `json:"tail_sha256"` // of the bytes after the last row group: the footer
}

// ManifestGroup is one row group (record batch). It begins in the file where
// the one before it ends, the first one at byte 0: it includes the magic number.
type ManifestGroup struct {
	Rows   int64  `json:"rows"`
	End    int64  `json:"end"`
	SHA256 string `json:"sha256"`
}

// Limits of what a manifest may say.
const (
	MaxManifestImages  = 100
	maxManifestSize    = 1 << 30
	maxManifestShards  = 1 << 20
	maxManifestClasses = 1 << 24
	maxManifestRows    = 1 << 40
)

// Encode returns the manifest as the file holds it and sets Digest.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	b = b[:len(b)-1] // the closing brace
	sum := sha256.Sum256(b)
	m.Digest = hex.EncodeToString(sum[:])
	return fmt.Appendf(b, `,"sha256":%q}`+"\n", m.Digest), nil
}

// ParseManifest is the inverse of [Manifest.Encode]. It takes nothing else: an
// unknown member, a changed byte, a path that leads out of the folder or counts
// that do not add up are errors that wrap ErrCorrupt, and another version one
// that wraps ErrVersion.
func ParseManifest(b []byte) (*Manifest, error) {
	if err := manifestVersion(b); err != nil {
		return nil, err
	}
	const ending = `,"sha256":"` + `0000000000000000000000000000000000000000000000000000000000000000` + "\"}\n"
	at := len(b) - len(ending)
	if at < 2 || !bytes.HasPrefix(b[at:], []byte(`,"sha256":"`)) || !bytes.HasSuffix(b, []byte("\"}\n")) {
		return nil, fmt.Errorf("%w: manifest does not end with its digest: cut short or changed", ErrCorrupt)
	}
	digest := string(b[at+len(`,"sha256":"`) : len(b)-3])
	if sum := sha256.Sum256(b[:at]); hex.EncodeToString(sum[:]) != digest {
		return nil, fmt.Errorf("%w: manifest has the digest %x, and says %s: it has been changed", ErrCorrupt, sum[:6], digest[:12])
	}
	dec := json.NewDecoder(io.MultiReader(bytes.NewReader(b[:at]), strings.NewReader("}")))
	dec.DisallowUnknownFields()
	m := &Manifest{Digest: digest}
	if err := dec.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
	}
	if dec.More() {
		return nil, fmt.Errorf("%w: manifest has something behind its end", ErrCorrupt)
	}
	return m, m.check()
}

// manifestVersion looks at the first member, which every version begins with.
func manifestVersion(b []byte) error {
	var v int
	if n, err := fmt.Sscanf(string(b[:min(len(b), 64)]), `{"tercet_manifest":%d`, &v); n != 1 || err != nil {
		return fmt.Errorf("%w: not a manifest", ErrCorrupt)
	}
	if v != ManifestVersion {
		return fmt.Errorf("%w: manifest of version %d, want %d: prepare the data again, or use the version of tercet that did", ErrVersion, v, ManifestVersion)
	}
	return nil
}

// ReadManifest reads the manifest of a prepared data set from its folder. The
// error wraps [fs.ErrNotExist] where there is none.
func ReadManifest(dir string) (*Manifest, error) {
	name := filepath.Join(dir, ManifestName)
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: %w: not a regular file", name, ErrCorrupt)
	case info.Size() > maxManifestSize:
		return nil, fmt.Errorf("%s: %w: a manifest of %d bytes, want at most %d", name, ErrCorrupt, info.Size(), maxManifestSize)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, unexpected(err))
	}
	m, err := ParseManifest(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// OpenFile opens a file of the data set in dir by its path in the manifest. A
// path that leads out of dir, through a link too, and what is not a regular
// file of that size are refused.
func OpenFile(dir, path string, size int64) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := checkFile(root, path, size); err != nil {
		return nil, err
	}
	f, err := root.Open(filepath.FromSlash(path))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, path), err)
	}
	return f, nil
}

// checkFile is [OpenFile] without opening: a pipe that is opened may wait for ever.
func checkFile(root *os.Root, path string, size int64) error {
	name := filepath.Join(root.Name(), filepath.FromSlash(path))
	if err := localPath(path); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	info, err := root.Stat(filepath.FromSlash(path))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s: the manifest lists it: %w", name, err)
	case err != nil:
		return fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: %w: not a regular file", name, ErrCorrupt)
	case info.Size() != size:
		return fmt.Errorf("%s: %w: %d bytes, the manifest says %d", name, ErrCorrupt, info.Size(), size)
	}
	return nil
}

// localPath checks that a path of a manifest stays below its folder, on every system.
func localPath(path string) error {
	switch {
	case path == "" || len(path) > 4096:
		return fmt.Errorf("%w: path of %d bytes", ErrCorrupt, len(path))
	case strings.ContainsAny(path, "\\:\x00") || strings.HasPrefix(path, "/") || !filepath.IsLocal(path) || filepath.ToSlash(filepath.Clean(path)) != path:
		return fmt.Errorf("%w: the path %.100q leads out of the folder, or is not in its shortest form", ErrCorrupt, path)
	}
	return nil
}

// CheckGroup reads a row group of the shard, or for g == len(Groups) what
// follows the last one, and compares its digest. The error wraps ErrCorrupt
// where they differ, and does not name the file.
func (s *ManifestShard) CheckGroup(f io.ReaderAt, g int) error {
	from, to, want := s.span(g)
	have, err := sumOf(f, from, to)
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%w: bytes %d to %d have the digest %.12s, want %.12s", ErrCorrupt, from, to, have, want)
	}
	return nil
}

// sumOf is the SHA-256, in hex, of the bytes of a file from from to to.
func sumOf(f io.ReaderAt, from, to int64) (string, error) {
	h := sha256.New()
	buf := make([]byte, max(1, min(256<<10, to-from)))
	n, err := io.CopyBuffer(h, io.NewSectionReader(f, from, to-from), buf)
	if err == nil && n < to-from {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", fmt.Errorf("read bytes %d to %d: %w", from, to, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// span is where a row group, or what follows the last, is, and its digest.
func (s *ManifestShard) span(g int) (from, to int64, digest string) {
	if g > 0 {
		from = s.Groups[g-1].End
	}
	if g == len(s.Groups) {
		return from, s.Size, s.Tail
	}
	return from, s.Groups[g].End, s.Groups[g].SHA256
}
