package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/apache/arrow/go/v17/parquet/metadata"

	"github.com/tercet-ml/tercet/pipeline"
)

// Kind is what a path holds that can be verified.
type Kind string

// Kinds.
const (
	KindPrepared Kind = "prepared data set" // a folder with a manifest
	KindTriplets Kind = "triplets"
	KindPairs    Kind = "pairs"
	KindSnapshot Kind = "snapshot"
	KindData     Kind = "data" // files of somebody else, which have no digests
)

// KindOf says what a path holds, by the metadata of a file. A file that cannot
// be opened is an error that says why.
func KindOf(ctx context.Context, path string) (kind Kind, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		if _, err := os.Lstat(filepath.Join(path, ManifestName)); errors.Is(err, fs.ErrNotExist) {
			return KindData, nil
		}
		return KindPrepared, nil
	}
	if format, err := formatOf(path); err == nil && format == formatJSON {
		return kindOfJSON(ctx, path)
	}
	s, err := openShard(ctx, path, Config{})
	if err != nil {
		return "", err
	}
	defer s.close()
	text := s.metadata(metaKey)
	if text == "" {
		return KindData, nil
	}
	return kindOfMeta(path, text)
}

func kindOfMeta(path, text string) (Kind, error) {
	var meta struct {
		Content string
		SHA256  string `json:"sha256"`
	}
	if err := json.Unmarshal([]byte(text), &meta); err != nil {
		return "", readFault(path, -1, -1, fmt.Errorf("%w: %q metadata: %w", ErrCorrupt, metaKey, err))
	}
	switch {
	case meta.Content == string(KindTriplets), meta.Content == string(KindPairs):
		return Kind(meta.Content), nil
	case meta.SHA256 != "":
		return KindSnapshot, nil
	}
	return "", readFault(path, -1, -1, fmt.Errorf("%w: %q metadata of neither triplets, pairs nor a snapshot", ErrCorrupt, metaKey))
}

func kindOfJSON(ctx context.Context, path string) (kind Kind, err error) {
	in, _, err := openInput(ctx, nil, path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	err = guardRead(path, -1, func() error {
		dec, err := newJSONDecoder(io.NewSectionReader(in, 0, in.size), in.size)
		if err != nil {
			return err
		}
		text, ok := dec.meta()
		if !ok {
			return fmt.Errorf("%w: no %q metadata: neither triplets nor pairs", ErrSchema, metaKey)
		}
		kind, err = kindOfMeta(path, text)
		return err
	})
	return kind, err
}

// A Verdict is what [Verify] found.
type Verdict struct {
	Kind   Kind
	Bytes  int64 // that were checked against a digest
	Rows   int64
	Files  int
	Faults []error // each names its file and, where it can, the row group and row
}

// Verify checks a prepared data set, a triplet or pairs file or a snapshot
// against the digests that it holds, workers row groups at a time (0 for
// GOMAXPROCS). Every fault is listed; the error is what kept it from looking.
func Verify(ctx context.Context, path string, kind Kind, workers int) (v Verdict, err error) {
	v.Kind = kind
	switch kind {
	case KindPrepared:
		err = v.prepared(ctx, path, workers)
	case KindTriplets, KindPairs:
		err = v.frames(ctx, path, workers)
	case KindSnapshot:
		err = v.snapshot(ctx, path)
	default:
		return v, fmt.Errorf("storage: Verify of %q", kind)
	}
	return v, err
}

// fault lists err, or returns it where it says nothing about the content.
func (v *Verdict) fault(err error) error {
	if err == nil || !faulty(err) {
		return err
	}
	v.Faults = append(v.Faults, err)
	return nil
}

// faulty reports whether err is about what is in a file, or that it is missing.
func faulty(err error) bool {
	return ofContent(err) || errors.Is(err, ErrVersion) || errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrRead)
}

func (v *Verdict) prepared(ctx context.Context, dir string, workers int) error {
	m, err := ReadManifest(dir)
	if err != nil {
		return v.fault(err)
	}
	v.Rows = m.Rows
	v.Files = 2 + len(m.Shards)
	labels := ManifestShard{Path: m.Labels.Path, Size: m.Labels.Size, Tail: m.Labels.SHA256}
	for _, s := range append(m.Shards, labels) {
		if err := v.shard(ctx, dir, &s, workers); err != nil {
			return err
		}
	}
	return nil
}

// shard checks the row groups of a file, and what follows them.
func (v *Verdict) shard(ctx context.Context, dir string, s *ManifestShard, workers int) error {
	f, err := OpenFile(dir, s.Path, s.Size)
	if err != nil {
		return v.fault(err)
	}
	defer f.Close()
	return v.groups(ctx, &input{ctx: ctx, file: f, name: filepath.Join(dir, filepath.FromSlash(s.Path)), size: s.Size}, s, true, workers)
}

func (v *Verdict) groups(ctx context.Context, in *input, s *ManifestShard, tail bool, workers int) error {
	faults := make([]error, len(s.Groups)) // and the tail, where the seal is not it
	if tail {
		faults = append(faults, nil)
	}
	err := pipeline.ForEach(ctx, workers, len(faults), func(_ context.Context, g int) error {
		err := s.CheckGroup(in, g)
		if err == nil {
			return nil
		}
		at := pipeline.Location{File: in.name, RowGroup: g, Row: -1}
		if g == len(s.Groups) {
			at.RowGroup = -1
		}
		err = &RowError{Location: at, Err: err}
		if faulty(err) {
			faults[g], err = err, nil
		}
		return err
	})
	v.Bytes += s.Size
	for _, f := range faults {
		if f != nil {
			v.Faults = append(v.Faults, f)
		}
	}
	return err
}

// frames checks a triplet or pairs file: by its seal where it has one, else by
// reading every row.
func (v *Verdict) frames(ctx context.Context, path string, workers int) error {
	v.Files = 1
	if format, err := formatOf(path); err == nil && format == formatParquet {
		sealed, err := v.sealed(ctx, path, workers)
		if sealed || err != nil {
			return v.fault(err)
		}
	}
	meta, size, err := checkFrames(path, string(v.Kind))
	v.Rows, v.Bytes = meta.FileRows, size
	if at, ok := errors.AsType[*RowError](err); ok && errors.Is(err, ErrMemory) {
		// The budget for a file of ours is what such files take, so it is the file that lies.
		err = &RowError{Location: at.Location, Err: fmt.Errorf("%w: %v", ErrCorrupt, at.Err)}
	}
	return v.fault(err)
}

// checkFrames reads a file of triplets or pairs from end to end.
func checkFrames(path, content string) (fileMeta, int64, error) {
	var r *frameReader
	if content == string(KindPairs) {
		p, err := OpenPairs(path)
		if err != nil {
			return fileMeta{}, 0, err
		}
		defer p.Close()
		r = p.r
	} else {
		t, err := OpenTriplets(path)
		if err != nil {
			return fileMeta{}, 0, err
		}
		defer t.Close()
		r = t.r
	}
	info, err := r.file.Stat()
	if err != nil {
		return r.meta, 0, err
	}
	return r.meta, info.Size(), nil
}

func (v *Verdict) sealed(ctx context.Context, path string, workers int) (sealed bool, err error) {
	in, _, err := openInput(ctx, nil, path)
	if err != nil {
		return false, err
	}
	defer in.Close()
	var s *ManifestShard
	err = guardRead(path, -1, func() error {
		p := &parquetFile{name: path}
		if p.info, err = in.file.Stat(); err != nil {
			return err
		}
		if err := p.readFooter(in); err != nil {
			return err
		}
		meta, err := metadata.NewFileMetaData(p.footer, nil)
		if err != nil {
			return fmt.Errorf("%w: read footer: %w", ErrCorrupt, err)
		}
		s, sealed, err = sealedShard(in, p.footer, meta)
		return err
	})
	if err != nil || !sealed {
		return sealed, err
	}
	v.Rows = s.Rows
	return true, v.groups(ctx, in, s, false, workers)
}

// snapshot checks the rows of a snapshot where they are mapped, without a copy.
func (v *Verdict) snapshot(ctx context.Context, path string) error {
	v.Files = 1
	opened, err := openArrow(ctx, path, Config{})
	if err != nil {
		return v.fault(err)
	}
	defer opened.close()
	s := opened.(*arrowShard)
	var meta SnapshotMeta
	err = guardRead(path, -1, func() error {
		if meta, err = parseSnapshotMeta(s.metadata(metaKey)); err != nil {
			return err
		}
		fields := s.index.schema.fields
		if s.format() != "arrow" || len(fields) != 2 || fields[0].String() != "int64" || fields[0].name != "id" ||
			fields[1].String() != fmt.Sprintf("fixed_size_list<float>[%d]", meta.Dim) || fields[1].name != "embedding" {
			return fmt.Errorf("%w: columns are %v, want id and embedding", ErrSchema, describe(s.cols))
		}
		// The file says who it is twice, and readers choose which they believe.
		first, _, err := nextArrowMessage(s.src.data[8:])
		if err != nil {
			return err
		}
		m, err := readArrowMessage(first)
		if err != nil {
			return err
		}
		schema, err := readArrowSchema(m.header)
		if err != nil {
			return err
		}
		if schema.meta[metaKey] != s.metadata(metaKey) || fmt.Sprint(schema.fields) != fmt.Sprint(fields) {
			return fmt.Errorf("%w: the schema at its beginning is not the one at its end", ErrCorrupt)
		}
		return nil
	})
	if err != nil {
		return v.fault(err)
	}
	v.Bytes = s.size()
	all := sha256.New()
	for g, rows := range s.rows {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		values, err := s.snapshotRows(g, v.Rows, meta.Dim)
		if err != nil {
			return v.fault(err)
		}
		err = guardRead(path, g, func() error { all.Write(values); return nil })
		if err != nil {
			return v.fault(err)
		}
		v.Rows += rows
	}
	if v.Rows != meta.Rows {
		return v.fault(readFault(path, -1, -1, fmt.Errorf("%w: %d rows, want %d", ErrCorrupt, v.Rows, meta.Rows)))
	}
	digest := meta.digest(all)
	if digest == meta.Digest {
		return nil
	}
	return v.damaged(s, meta, digest)
}

// damaged names the rows that are not those that were written, as far as the
// digests of the blocks tell.
func (v *Verdict) damaged(s *arrowShard, meta SnapshotMeta, digest string) error {
	found, first, size := len(v.Faults), int64(0), int64(blockRows(meta.Dim))
	block, at := sha256.New(), int64(0) // of the block that holds row at
	for g, rows := range s.rows {
		values, err := s.snapshotRows(g, first, meta.Dim)
		if err != nil {
			return v.fault(err)
		}
		for row := int64(0); row < rows; {
			n := min(size-at%size, rows-row)
			err := guardRead(s.path(), g, func() error { block.Write(values[4*int64(meta.Dim)*row:][:4*int64(meta.Dim)*n]); return nil })
			if err != nil {
				return v.fault(err)
			}
			row, at = row+n, at+n
			if at%size != 0 && at < meta.Rows {
				continue
			}
			have := hex.EncodeToString(block.Sum(nil)[:sha256.Size/2])
			if i := (at - 1) / size; i < int64(len(meta.Blocks)) && have != meta.Blocks[i] {
				err := fmt.Errorf("%w: one of the %d rows from here on: their digest is %s, want %s", ErrCorrupt, n, have, meta.Blocks[i])
				v.Faults = append(v.Faults, readFault(s.path(), g, row-n, err))
			}
			block.Reset()
		}
		first += rows
	}
	if len(v.Faults) > found {
		return nil
	}
	return v.fault(readFault(s.path(), -1, -1, fmt.Errorf("%w: the digest of its rows and metadata is %s, want %s", ErrCorrupt, digest, meta.Digest)))
}
