package storage

import (
	"encoding/json"
	"fmt"

	"github.com/tercet-ml/tercet/pipeline"
)

// CheckWritten reads a triplet or pairs file through, as [OpenTriplets] does,
// and compares its metadata with want: all of it but the counts, which it
// returns with the number of rows. A difference is a [*MismatchError] that
// names the first field, such as "seed". So a job that was interrupted as it
// gave its output the name can tell whether it did.
func CheckWritten(path string, want pipeline.TripletMeta) (rows int64, counts map[string]int64, err error) {
	r, err := openWritten(path, want.Content)
	if err != nil {
		return 0, nil, err
	}
	defer r.close()
	have := r.meta.TripletMeta
	counts, have.Counts, want.Counts = have.Counts, nil, nil
	want.FormatVersion = TripletFormat
	h, err := json.Marshal(have)
	if err != nil {
		return 0, nil, fmt.Errorf("encode metadata: %w", err)
	}
	w, err := json.Marshal(want)
	if err != nil {
		return 0, nil, fmt.Errorf("encode metadata: %w", err)
	}
	return r.meta.FileRows, counts, sameSettings(path, h, w)
}

func openWritten(path, content string) (*frameReader, error) {
	if content == "triplets" {
		t, err := OpenTriplets(path)
		if err != nil {
			return nil, err
		}
		return t.r, nil
	}
	layout := func(meta fileMeta, _ []string) frame { return pairLayout(meta.Scope == ScopeBatch) }
	return openFrames(path, content, layout, func(frame) (int, error) { return 0, nil })
}
