package storage

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// frameRows is how many rows a row group, a record batch and a block of JSON
// lines have, but for the last: what a writer and a reader hold at a time.
const frameRows = 1 << 16

// frameText is how many bytes of text end a frame early.
const frameText = 16 << 20

// A frame is up to frameRows rows of a triplet or pairs file, by column.
type frame []frameColumn

// A frameColumn is one column: its type says which slice has the values.
type frameColumn struct {
	name string
	typ  frameType
	i64  []int64
	i32  []int32
	f32  []float32
	str  []string
	kind []pipeline.Kind
}

type frameType uint8

const (
	frameInt64 frameType = iota
	frameInt32
	frameFloat32
	frameString
	frameKind // a string of kindNames
)

var kindNames = [...]string{pipeline.Hard.String(), pipeline.SemiHard.String(), pipeline.Easy.String()}

func (t frameType) String() string {
	return [...]string{"int64", "int32", "float32", "string", "string"}[t]
}

// columnsOf makes empty columns of one type.
func columnsOf(typ frameType, names ...string) frame {
	var f frame
	for _, name := range names {
		f = append(f, frameColumn{name: name, typ: typ})
	}
	return f
}

// rows is the number of rows, which all columns have.
func (f frame) rows() int { return f[0].rows() }

func (c *frameColumn) rows() int {
	return len(c.i64) + len(c.i32) + len(c.f32) + len(c.str) + len(c.kind)
}

// reset empties the frame and keeps its memory.
func (f frame) reset() {
	for i := range f {
		c := &f[i]
		c.i64, c.i32, c.f32, c.str, c.kind = c.i64[:0], c.i32[:0], c.f32[:0], c.str[:0], c.kind[:0]
	}
}

// like returns an empty frame of the same columns.
func (f frame) like() frame {
	g := slices.Clone(f)
	for i := range g {
		g[i] = frameColumn{name: f[i].name, typ: f[i].typ}
	}
	return g
}

// A frameDigest is the SHA-256 of rows one after another, each value in
// little-endian order and each string behind its length, and of the metadata
// behind them. It does not depend on the format of the file.
//
// Each frame has a digest of its own beside it, which says where a file was damaged.
type frameDigest struct {
	hash, block hash.Hash
	buf         []byte
	rows        int64
	blocks      []string // of the frames so far: half a SHA-256, in hex
}

func newFrameDigest() *frameDigest { return &frameDigest{hash: sha256.New(), block: sha256.New()} }

func (d *frameDigest) add(f frame) {
	le := binary.LittleEndian
	for r := range f.rows() {
		for i := range f {
			switch c := &f[i]; c.typ {
			case frameInt64:
				d.buf = le.AppendUint64(d.buf, uint64(c.i64[r]))
			case frameInt32:
				d.buf = le.AppendUint32(d.buf, uint32(c.i32[r]))
			case frameFloat32:
				d.buf = le.AppendUint32(d.buf, math.Float32bits(c.f32[r]))
			case frameString:
				d.buf = le.AppendUint32(d.buf, uint32(len(c.str[r])))
				d.buf = append(d.buf, c.str[r]...)
			case frameKind:
				d.buf = append(d.buf, byte(c.kind[r]))
			}
		}
		if len(d.buf) > 1<<14 {
			d.flush()
		}
	}
	d.flush()
	d.rows += int64(f.rows())
	d.blocks = append(d.blocks, hex.EncodeToString(d.block.Sum(nil)[:sha256.Size/2]))
	d.block.Reset()
}

func (d *frameDigest) flush() {
	d.hash.Write(d.buf)
	d.block.Write(d.buf)
	d.buf = d.buf[:0]
}

// fileMeta is the JSON under the key "tercet": the metadata, and what the rows
// must add up to.
type fileMeta struct {
	pipeline.TripletMeta
	FileRows   int64    `json:"file_rows"`             // triplets or pairs in the file
	FileDigest string   `json:"file_sha256"`           // of the rows and of the metadata above
	FileBlocks []string `json:"file_blocks,omitempty"` // of the rows of each row group
}

// metaKey is the key of the metadata in Parquet and Arrow files, and the member
// of the first JSON line.
const metaKey = "tercet"

// seal ends the digest with meta and returns the whole metadata.
func (d *frameDigest) seal(meta pipeline.TripletMeta) (fileMeta, error) {
	text, err := json.Marshal(meta)
	if err != nil {
		return fileMeta{}, fmt.Errorf("encode metadata: %w", err)
	}
	d.hash.Write(text)
	return fileMeta{TripletMeta: meta, FileRows: d.rows, FileDigest: hex.EncodeToString(d.hash.Sum(nil)), FileBlocks: d.blocks}, nil
}

// fileFormat is how the rows of a triplet or pairs file are stored.
type fileFormat uint8

const (
	formatParquet fileFormat = iota
	formatArrow
	formatJSON
)

// formatOf is the format that the ending of a file's name says.
func formatOf(path string) (fileFormat, error) {
	switch ending := strings.ToLower(filepath.Ext(path)); ending {
	case ".parquet", ".pq":
		return formatParquet, nil
	case ".arrow", ".ipc", ".feather":
		return formatArrow, nil
	case ".jsonl", ".ndjson":
		return formatJSON, nil
	default:
		return 0, fmt.Errorf("%s: %w: the name ends in %q, want .parquet, .arrow (.ipc, .feather) or .jsonl (.ndjson)", path, ErrUnsupported, ending)
	}
}
