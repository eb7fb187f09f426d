package storage

import (
	"context"
	"fmt"
)

func openParquet(ctx context.Context, path string, cfg Config) (shard, error) {
	return nil, fmt.Errorf("open %s: %w: Parquet", path, ErrUnsupported)
}
