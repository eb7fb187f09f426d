package stages

import (
	"slices"
	"testing"
)

func dealHands(n, w, seed, hands int64) [][]uint32 {
	k := &deck{n: n, w: w, stage: "test", seed: uint64(seed)}
	d := newDealer(1, passMemory)
	all := make([][]uint32, hands)
	for v := range all {
		all[v] = d.deal(0, k, int64(v), nil)
	}
	return all
}

// differ reports whether all items are different and below n.
func differ(items []uint32, n int64) bool {
	seen := make(map[uint32]bool)
	for _, v := range items {
		if seen[v] || int64(v) >= n {
			return false
		}
		seen[v] = true
	}
	return true
}

// checkHands holds hands from the first against the two promises of [deck].
func checkHands(t *testing.T, n, w int64, hands [][]uint32) {
	t.Helper()
	for v, hand := range hands {
		if int64(len(hand)) != w {
			t.Fatalf("n = %d, w = %d: hand %d has %d items", n, w, v, len(hand))
		}
		for round := range slices.Chunk(hand, int(n)) {
			if !differ(round, n) {
				t.Fatalf("n = %d, w = %d: hand %d is %v", n, w, v, hand)
			}
		}
	}
	q := 0
	for pass := range slices.Chunk(slices.Concat(hands...), int(n)) {
		if !differ(pass, n) {
			t.Fatalf("n = %d, w = %d: pass %d is %v", n, w, q, pass)
		}
		q++
	}
}

// Every hand and every pass of every deck up to a size, through the whole of
// the longest chain of repairs and into the next; n < w, n = w, n < 2w and above.
func TestDeckExhaustive(t *testing.T) {
	most := int64(20)
	if planLong {
		most = 64
	}
	for n := int64(1); n <= most; n++ {
		for w := int64(1); w <= most; w++ {
			for seed := range int64(3) {
				checkHands(t, n, w, dealHands(n, w, seed, 2*n+3))
			}
		}
	}
}

func TestDeckLarge(t *testing.T) {
	for _, tt := range []struct{ n, w, hands int64 }{
		{1000, 999, 1003}, {1000, 501, 30}, {1000, 64, 100}, {100, 64, 100},
		{maxTable, 40_000, 8}, {maxTable + 1, 40_000, 8}, {maxTable + 1, 1000, 200}, {maxTable + 1, maxTable + 1, 3},
		{maxTable + 1, 100_000, 4}, {150_000, 70_001, 7},
	} {
		checkHands(t, tt.n, tt.w, dealHands(tt.n, tt.w, 1, tt.hands))
	}
}

// A hand is the same whatever was dealt before it, and whatever was forgotten.
func TestDealInAnyOrder(t *testing.T) {
	dice := newDice(newPlanKey("order"))
	for n := int64(1); n <= 30; n += 1 + n/8 {
		for w := int64(1); w <= 30; w += 1 + w/8 {
			k := &deck{n: n, w: w, stage: "test"}
			hands := dealHands(n, w, 0, 60)
			d := newDealer(2, passMemory)
			for range 120 {
				v := int64(dice.below(60))
				if got := d.deal(int(dice.below(2)), k, v, nil); !slices.Equal(got, hands[v]) {
					t.Fatalf("n = %d, w = %d: hand %d is %v in order and %v out of it", n, w, v, hands[v], got)
				}
			}
		}
	}
}

// A repair moves nothing behind the hand it mends, and nothing where a pass
// begins with a hand.
func TestRepairIsLocal(t *testing.T) {
	moved := 0
	for _, tt := range []struct{ n, w int64 }{{10, 8}, {100, 64}, {1000, 48}, {maxTable + 5, 999}} {
		k := &deck{n: tt.n, w: tt.w, stage: "test"}
		repaired, plain := &pass{number: -1}, &pass{number: -1}
		for q := range int64(60) {
			k.turn(repaired, q, nil)
			k.shuffle(plain, q)
			last := tt.w
			if q*tt.n%tt.w == 0 {
				last = 0
			}
			for i := range min(tt.n, 2000) {
				if repaired.at(i) == plain.at(i) {
					continue
				}
				if moved++; i >= last {
					t.Fatalf("n = %d, w = %d: the repair of pass %d changed place %d", tt.n, tt.w, q, i)
				}
			}
		}
	}
	if moved == 0 {
		t.Error("nothing was ever repaired: the test shows nothing")
	}
}

// However many decks are in use, the dealer's memory stays below its limit and
// what it deals stays the same.
func TestDealerForgets(t *testing.T) {
	const decks, limit = 500, 40_000
	small, large := newDealer(decks, limit), newDealer(decks, passMemory)
	dice := newDice(newPlanKey("forget"))
	for v := range int64(40) {
		for i := range decks {
			if dice.below(3) == 0 {
				continue
			}
			k := &deck{n: int64(2 + i%90), w: 4, stage: "test", class: int32(i)}
			a, b := small.deal(i, k, v, nil), large.deal(i, k, v, nil)
			if !slices.Equal(a, b) {
				t.Fatalf("deck %d, hand %d: %v with little memory, %v with much", i, v, a, b)
			}
			var held int64
			for _, p := range small.passes {
				if p != nil {
					held += passOverhead + 4*int64(cap(p.known))
				}
			}
			if held != small.bytes || held > limit {
				t.Fatalf("passes take %d bytes, counted %d, limit %d", held, small.bytes, limit)
			}
		}
	}
	// One pass larger than the limit is all that is kept.
	d := newDealer(3, 1000)
	for i := range 3 {
		d.deal(i, &deck{n: 5000, w: 4, stage: "test"}, 0, nil)
	}
	if d.passes[0] != nil || d.passes[1] != nil || d.passes[2] == nil {
		t.Errorf("passes %v, want the last alone", d.passes)
	}
}

func TestGCD(t *testing.T) {
	for _, tt := range []struct{ a, b, want int64 }{{12, 18, 6}, {18, 12, 6}, {7, 5, 1}, {4, 4, 4}, {1, 9, 1}} {
		if got := gcd(tt.a, tt.b); got != tt.want {
			t.Errorf("gcd(%d, %d) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
