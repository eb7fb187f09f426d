package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/parquet/metadata"
)

// A Parquet file of ours is sealed: its footer holds the digest of the bytes of
// every row group, and a digest of itself in which its own 64 digits count as
// zeros. So every byte can be checked at the speed of SHA-256, without decoding
// one, and damage has a place.

const (
	sealGroupsKey = "tercet.groups" // JSON of []ManifestGroup
	sealKey       = "tercet.seal"   // SHA-256, in hex, of what follows the last row group
)

var unsealed = strings.Repeat("0", 2*sha256.Size)

// A sealer is the file that an encoder writes to.
type sealer struct {
	w      io.Writer
	n      int64
	group  hash.Hash
	groups []ManifestGroup
	tail   *bytes.Buffer // once all row groups are written
}

func newSealer(w io.Writer) *sealer { return &sealer{w: w, group: sha256.New()} }

// Write implements [io.Writer].
func (s *sealer) Write(p []byte) (int, error) {
	if s.tail != nil {
		return s.tail.Write(p)
	}
	n, err := s.w.Write(p)
	s.group.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// endGroup ends a row group.
func (s *sealer) endGroup(rows int) {
	s.groups = append(s.groups, ManifestGroup{Rows: int64(rows), End: s.n, SHA256: hex.EncodeToString(s.group.Sum(nil))})
	s.group.Reset()
}

// close calls write, which ends the file with what add was called with, and
// seals what it wrote.
func (s *sealer) close(add func(key, value string) error, write func() error) error {
	text, err := json.Marshal(s.groups)
	if err != nil {
		return err
	}
	if err := add(sealGroupsKey, string(text)); err != nil {
		return err
	}
	if err := add(sealKey, unsealed); err != nil {
		return err
	}
	s.tail = new(bytes.Buffer)
	if err := write(); err != nil {
		return err
	}
	tail := s.tail.Bytes()
	// What was written before the tail began to be held belongs to it: nothing, or
	// the magic number of a file without row groups.
	at := bytes.LastIndex(tail, []byte(unsealed))
	if at < 0 {
		return fmt.Errorf("%w: the footer has no room for its digest", ErrCorrupt)
	}
	copy(tail[at:], s.digest(tail))
	_, err = s.w.Write(tail)
	return err
}

// digest is that of the bytes since the last row group and the tail.
func (s *sealer) digest(tail []byte) string {
	s.group.Write(tail)
	return hex.EncodeToString(s.group.Sum(nil))
}

// sealedShard reads what a sealed file says of itself, when it is one, and checks
// the seal: the row groups are left to [ManifestShard.CheckGroup].
func sealedShard(in *input, footer []byte, meta *metadata.FileMetaData) (*ManifestShard, bool, error) {
	kv := meta.KeyValueMetadata()
	seal, groups := kv.FindValue(sealKey), kv.FindValue(sealGroupsKey)
	if seal == nil && groups == nil {
		return nil, false, nil
	}
	corrupt := func(format string, args ...any) (*ManifestShard, bool, error) {
		return nil, true, fmt.Errorf("%w: footer: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if seal == nil || groups == nil || len(*seal) != len(unsealed) {
		return corrupt("its digest is missing")
	}
	s := &ManifestShard{Path: in.name, Size: in.size, Tail: *seal}
	if err := json.Unmarshal([]byte(*groups), &s.Groups); err != nil {
		return corrupt("digests of row groups: %v", err)
	}
	end := int64(0)
	for i, g := range s.Groups {
		if g.End <= end || g.End > in.size-int64(len(footer))-8 {
			return corrupt("row group %d ends at byte %d", i, g.End)
		}
		end, s.Rows = g.End, s.Rows+g.Rows
	}
	if len(s.Groups) != len(meta.RowGroups) || s.Rows != meta.NumRows {
		return corrupt("digests of %d row groups with %d rows, want %d with %d", len(s.Groups), s.Rows, len(meta.RowGroups), meta.NumRows)
	}
	tail := make([]byte, in.size-end)
	if _, err := in.ReadAt(tail, end); err != nil {
		return nil, true, err
	}
	at := bytes.LastIndex(tail, []byte(*seal))
	if at < 0 {
		return corrupt("its digest is missing")
	}
	copy(tail[at:], unsealed)
	if sum := sha256.Sum256(tail); hex.EncodeToString(sum[:]) != *seal {
		return corrupt("it has the digest %x, and says %.12s", sum[:6], *seal)
	}
	return s, true, nil
}
