package storage

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/tercet-ml/tercet/pipeline"
)

// A tarFeed is a tar in the WebDataset layout: the members of a sample have one
// key, the path up to the first dot of the base name, and stand side by side.
// It is read from its start to its end, twice: for the labels and for the images.
type tarFeed struct {
	path string
	size int64
	feedLabels
}

const (
	maxTarLabel = 1 << 20 // bytes of a .cls or .json member
	maxTarName  = 4096
)

// openTar reads the labels of all samples.
func openTar(ctx context.Context, path string) (*tarFeed, error) {
	f := &tarFeed{path: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f.size = info.Size()
	seen := make(map[string]bool)
	groups := false
	for s, err := range f.samples(ctx, false) {
		if err != nil {
			return nil, err
		}
		if seen[s.key] {
			return nil, fmt.Errorf("%s: %w: the members of sample %q are not side by side", path, ErrCorrupt, s.key)
		}
		seen[s.key] = true
		f.add(s.label)
		f.groups = append(f.groups, s.group)
		groups = groups || s.group != ""
	}
	if !groups {
		f.groups = nil
	}
	return f, nil
}

// A tarSample is what one key of a tar holds.
type tarSample struct {
	key, label, group string
	member            string // of the image
	image             []byte // nil where images were not wanted
	hasLabel          bool
}

func (f *tarFeed) name() string          { return f.path }
func (f *tarFeed) kind() string          { return "webdataset" }
func (f *tarFeed) labelled() *feedLabels { return &f.feedLabels }
func (f *tarFeed) identity(w io.Writer)  { fmt.Fprintf(w, "%q %d", filepath.Base(f.path), f.size) }
func (f *tarFeed) close() error          { return nil }

// records implements [feed].
func (f *tarFeed) records(ctx context.Context, from int64) iter.Seq2[pipeline.Record, error] {
	return func(yield func(pipeline.Record, error) bool) {
		n := int64(0)
		for s, err := range f.samples(ctx, true) {
			if n++; err == nil && n <= from {
				continue
			}
			rec := pipeline.Record{Image: s.image, Path: s.member, Where: pipeline.Location{File: f.path + "/" + s.member, RowGroup: -1, Row: -1}}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// samples yields the samples in order.
func (f *tarFeed) samples(ctx context.Context, images bool) iter.Seq2[tarSample, error] {
	return func(yield func(tarSample, error) bool) {
		file, err := os.Open(f.path)
		if err != nil {
			yield(tarSample{}, err)
			return
		}
		defer file.Close()
		r, err := untar(file)
		if err != nil {
			yield(tarSample{}, fmt.Errorf("open %s: %w", f.path, err))
			return
		}
		var s tarSample
		flush := func() bool {
			if s.key == "" {
				return true
			}
			if err := s.whole(); err != nil {
				yield(tarSample{}, fmt.Errorf("%s: sample %q: %w", f.path, s.key, err))
				return false
			}
			return yield(s, nil)
		}
		for {
			if ctx.Err() != nil {
				yield(tarSample{}, context.Cause(ctx))
				return
			}
			head, err := r.Next()
			if err == io.EOF {
				flush()
				return
			}
			if err == nil && head.Typeflag == tar.TypeReg && !strings.HasPrefix(path.Base(head.Name), ".") {
				key, field, ok := tarKey(head.Name)
				if key != s.key {
					if !flush() {
						return
					}
					s = tarSample{key: key}
				}
				if ok {
					err = s.add(head, r, field, images)
				}
				if err != nil {
					err = fmt.Errorf("member %q: %w", head.Name, err)
				}
			} else if err == nil && head.Typeflag != tar.TypeReg && head.Typeflag != tar.TypeDir && head.Typeflag != tar.TypeXGlobalHeader {
				err = fmt.Errorf("%w: member %q is a link or a device", ErrUnsupported, head.Name)
			} else if err != nil {
				err = fmt.Errorf("%w: %w", ErrCorrupt, unexpected(err))
			}
			if err != nil {
				yield(tarSample{}, fmt.Errorf("%s: %w", f.path, err))
				return
			}
		}
	}
}

// untar opens a tar, plain or gzipped. A plain one can be skipped through.
func untar(file *os.File) (*tar.Reader, error) {
	var magic [2]byte
	if _, err := file.ReadAt(magic[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, unexpected(err))
	}
	if magic == [2]byte{0x1f, 0x8b} {
		z, err := gzip.NewReader(bufio.NewReaderSize(file, 1<<16))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return tar.NewReader(z), nil
	}
	return tar.NewReader(file), nil
}

// tarKey splits a name into key and field, at the first dot of its last element.
func tarKey(name string) (key, field string, ok bool) {
	name = path.Clean(name)
	dir, base := path.Split(name)
	stem, field, ok := strings.Cut(base, ".")
	return dir + stem, strings.ToLower(field), ok && len(name) <= maxTarName
}

// add takes in one member.
func (s *tarSample) add(head *tar.Header, r io.Reader, field string, images bool) error {
	switch {
	case intakeKind(field) == "image" || intakeKind("x."+field) == "image":
		if s.member != "" {
			return fmt.Errorf("%w: the sample has two images", ErrCorrupt)
		}
		s.member = head.Name
		if head.Size > maxImageFile {
			return fmt.Errorf("%w: an image of %d bytes", ErrMemory, head.Size)
		}
		if !images {
			return nil
		}
		b, err := io.ReadAll(io.LimitReader(r, head.Size))
		if err == nil && int64(len(b)) != head.Size {
			err = io.ErrUnexpectedEOF
		}
		s.image = b
		return err
	case field != "cls" && field != "json" && field != "txt" && field != "group":
		return nil // other members are not ours to judge
	}
	if head.Size > maxTarLabel {
		return fmt.Errorf("%w: a label of %d bytes", ErrCorrupt, head.Size)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, unexpected(err))
	}
	text := strings.TrimSpace(string(b))
	switch field {
	case "cls":
		return s.setLabel(text)
	case "group":
		s.group = text
	case "json":
		return s.readJSON(b)
	}
	return nil
}

// setLabel gives the sample its class. Both a .cls and a .json may say it.
func (s *tarSample) setLabel(label string) error {
	if n, err := strconv.ParseInt(label, 10, 64); err == nil {
		if n < -1 {
			return fmt.Errorf("%w: label %d, want −1 (unknown) or more", ErrValue, n)
		}
		label = strconv.FormatInt(n, 10)
	}
	if label == "-1" {
		label = ""
	}
	if s.hasLabel && s.label != label {
		return fmt.Errorf("%w: labels %q and %q for one sample", ErrValue, s.label, label)
	}
	s.label, s.hasLabel = label, true
	return nil
}

// readJSON takes label and group out of a .json member.
func (s *tarSample) readJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	for _, name := range labelRole.names {
		if raw, ok := fields[name]; ok {
			label, err := scalar(raw)
			if err == nil {
				err = s.setLabel(label)
			}
			if err != nil {
				return fmt.Errorf("field %q: %w", name, err)
			}
			break
		}
	}
	if raw, ok := fields["group"]; ok {
		group, err := scalar(raw)
		if err != nil {
			return fmt.Errorf("field \"group\": %w", err)
		}
		s.group = group
	}
	return nil
}

// scalar is a JSON string or integer as text; null is "".
func scalar(raw json.RawMessage) (string, error) {
	var s *string
	if json.Unmarshal(raw, &s) == nil {
		if s == nil {
			return "", nil
		}
		return *s, nil
	}
	var n int64
	if json.Unmarshal(raw, &n) == nil {
		return strconv.FormatInt(n, 10), nil
	}
	return "", fmt.Errorf("%w: %.40s, want a string or an integer", ErrValue, raw)
}

// whole says what a sample lacks.
func (s *tarSample) whole() error {
	switch {
	case s.member == "" && !s.hasLabel:
		return errors.New("neither an image (.jpg, .png, .gif, .webp) nor a label (.cls, .json): not a WebDataset of images?")
	case s.member == "":
		return fmt.Errorf("%w: no image (.jpg, .png, .gif, .webp) stands beside its label", ErrCorrupt)
	case !s.hasLabel:
		return fmt.Errorf("%w: no label (.cls, or label in .json) stands beside its image", ErrCorrupt)
	}
	return nil
}
