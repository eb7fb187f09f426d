package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// StateFormat is the version of what a [State] means: of the plan's
// permutations and keys. It changes when the same seed gives other batches.
const StateFormat = 1

// State is where a run goes on: the number of the next batch, and the digests
// of everything that decides what that batch is. It does not grow with the
// data set, the number of classes or what was prefetched. As JSON it takes
// less than 1 KiB. The zero State starts at the beginning of any run.
type State struct {
	Format     int    `json:"format"`
	Data       string `json:"data"`   // digest of the data set
	Config     string `json:"config"` // digest of the configuration
	Seed       uint64 `json:"seed"`
	Next       int64  `json:"next"`       // number of the next batch
	Generation int32  `json:"generation"` // of the cache, for the batch before Next
	Snapshot   string `json:"snapshot"`   // digest of that generation's embeddings; empty without a cache
}

// Check compares the state with the one a run would start from, and returns a
// [*StateError] that names the first field that differs. Next, Generation and
// Snapshot may differ.
func (s State) Check(run State) error {
	for _, f := range []struct{ name, have, want string }{
		{"format", fmt.Sprint(s.Format), fmt.Sprint(run.Format)},
		{"data", s.Data, run.Data},
		{"config", s.Config, run.Config},
		{"seed", fmt.Sprint(s.Seed), fmt.Sprint(run.Seed)},
	} {
		if f.have != f.want {
			return &StateError{Field: f.name, Have: f.have, Want: f.want}
		}
	}
	return nil
}

// Digest is the SHA-256, in hex, of a label and of v's JSON: the identity of a
// configuration. Fields that do not decide content (workers, windows) must not
// be in v.
func Digest(label string, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("pipeline: Digest of %T: %v", v, err)) // a caller's mistake: v is a plain struct
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(label), label)
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil))
}
