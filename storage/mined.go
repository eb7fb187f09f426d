package storage

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/tercet-ml/tercet/pipeline"
)

// MinedFormat is the version of what [AppendMined] writes.
const MinedFormat = 1

// minedSize is how many bytes a triplet has in a part.
const minedSize = 3*8 + 3*4 + 3*4 + 1 + 4 + 4 + 8

// AppendMined appends triplets to a part of a mining [Job], as [Minings] reads
// them: all fields of each, little-endian. Nothing is checked: it is for
// triplets that are not settled yet, pairs without a negative among them.
func AppendMined(b []byte, triplets []pipeline.MinedTriplet) []byte {
	le := binary.LittleEndian
	for _, t := range triplets {
		for _, v := range [...]int64{t.Anchor, t.Positive, t.Negative, t.Batch} {
			b = le.AppendUint64(b, uint64(v))
		}
		for _, v := range [...]int32{t.AnchorLabel, t.PositiveLabel, t.NegativeLabel, t.Rank, t.Generation} {
			b = le.AppendUint32(b, uint32(v))
		}
		for _, v := range [...]float32{t.AP, t.AN, t.Loss} {
			b = le.AppendUint32(b, math.Float32bits(v))
		}
		b = append(b, byte(t.Kind))
	}
	return b
}

// minedOf is the triplet in the first minedSize bytes of b.
func minedOf(b []byte) pipeline.MinedTriplet {
	le := binary.LittleEndian
	i64 := func(i int) int64 { return int64(le.Uint64(b[8*i:])) }
	i32 := func(i int) int32 { return int32(le.Uint32(b[4*8+4*i:])) }
	f32 := func(i int) float32 { return math.Float32frombits(le.Uint32(b[4*8+5*4+4*i:])) }
	return pipeline.MinedTriplet{
		Anchor: i64(0), Positive: i64(1), Negative: i64(2), Batch: i64(3),
		AnchorLabel: i32(0), PositiveLabel: i32(1), NegativeLabel: i32(2), Rank: i32(3), Generation: i32(4),
		AP: f32(0), AN: f32(1), Loss: f32(2), Kind: pipeline.Kind(b[minedSize-1]),
	}
}

// Minings is a [pipeline.Source] of the triplets in all parts of a job, by the
// names of the parts. A part is checked on the way: see [Job.Open].
type Minings struct{ Job *Job }

// Run implements [pipeline.Source].
func (m Minings) Run(ctx context.Context, out chan<- pipeline.MinedTriplet) error {
	for _, p := range m.Job.Parts() {
		if err := m.send(ctx, p.Name, out); err != nil {
			return err
		}
	}
	return nil
}

func (m Minings) send(ctx context.Context, name string, out chan<- pipeline.MinedTriplet) error {
	part, err := m.Job.Open(name)
	if err != nil {
		return err
	}
	defer part.Close()
	r := bufio.NewReaderSize(part, 1<<16)
	var b [minedSize]byte
	for {
		switch _, err := io.ReadFull(r, b[:]); {
		case err == io.EOF:
			return nil
		case err == io.ErrUnexpectedEOF:
			return fmt.Errorf("%s: %w: the last triplet is cut short", part.path, ErrCorrupt)
		case err != nil:
			return err
		}
		if err := pipeline.Send(ctx, out, minedOf(b[:])); err != nil {
			return err
		}
	}
}
