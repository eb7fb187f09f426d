package stages

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// keyPrefix begins the text of every key. It and [pipeline.StateFormat] change
// together, when the same seed is to give other batches.
const keyPrefix = "tercet/v1"

// A planKey is what one permutation is drawn from.
type planKey [sha256.Size]byte

// newPlanKey is the SHA-256 of keyPrefix and the tuple (stage, fields…). Each
// element has its length in front, so two tuples never have the same text, and
// nothing is added up: (seed, pass+1) and (seed+1, pass) have nothing in common.
func newPlanKey(stage string, fields ...uint64) planKey {
	text := make([]byte, 0, 64)
	text = append(text, keyPrefix...)
	text = append(text, byte(len(stage)))
	text = append(text, stage...)
	for _, f := range fields {
		text = append(text, 8)
		text = binary.LittleEndian.AppendUint64(text, f)
	}
	return sha256.Sum256(text)
}

// dice throw numbers that depend on a key and on how many were thrown before:
// two rounds of SplitMix64's output function (Steele, Lea and Flood, "Fast
// splittable pseudorandom number generators", OOPSLA 2014) over a counter, with
// 64 bits of the key before each. What they throw is part of the file format,
// so they are not the standard library's.
type dice struct{ counter, inner uint64 }

func newDice(k planKey) dice {
	return dice{binary.LittleEndian.Uint64(k[0:]), binary.LittleEndian.Uint64(k[8:])}
}

// next is the next 64 bits.
func (d *dice) next() uint64 {
	d.counter += 0x9e3779b97f4a7c15 // 2⁶⁴ over the golden ratio, odd
	return scramble(scramble(d.counter) ^ d.inner)
}

// below is uniform in 0 … n−1, for n > 0: the high half of a product, thrown
// again where that would favour a number (Lemire, "Fast random integer
// generation in an interval", ACM TOMACS 2019).
func (d *dice) below(n uint64) uint64 {
	high, low := bits.Mul64(d.next(), n)
	if low < n {
		for least := -n % n; low < least; {
			high, low = bits.Mul64(d.next(), n)
		}
	}
	return high
}

// scramble is the output function of SplitMix64, a bijection of 64 bits.
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
