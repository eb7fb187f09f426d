package stages

import (
	"context"

	"github.com/tercet-ml/tercet/pipeline"
)

// Screen decodes every image of a data set, in id order, and adds those that
// cannot be read or decoded to bad. The rows come from a data set that lets bad
// ones through (storage.Config.KeepBad), and decode has [DecodeConfig.KeepBad].
func Screen(ctx context.Context, rows pipeline.Flow[pipeline.Record], decode *Decode, bad *BadRows) error {
	for img, err := range pipeline.Via(rows, decode.Records()).All(ctx) {
		if err != nil {
			return err
		}
		if img.Err != nil {
			if err := bad.Add(img.ID, img.Where, img.Digest, img.Err); err != nil {
				return err
			}
		}
	}
	return nil
}
