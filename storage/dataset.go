package storage

import "github.com/tercet-ml/tercet/pipeline"

// Config says what to [Open].
type Config struct {
	Paths []string // files, globs and folders; "-" is an Arrow IPC stream on the standard input
	Split string   // "train", "test", ...; needed where the paths hold several

	// Names of columns; empty finds one by convention (see [Open]).
	ImageColumn, LabelColumn, IDColumn, GroupColumn, EmbeddingColumn string

	Shape   pipeline.Shape // of raw pixels in a column that does not say; the zero Shape: square and grey
	Memory  int64          // bytes of row groups kept in memory for Read; default 256 MiB
	Workers int            // shards opened at a time; default GOMAXPROCS. Decides nothing else.
}
