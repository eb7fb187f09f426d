package pipeline

// A Layout is a data set as it is read: its row groups, each as a whole, in the
// order of their sample ids.
type Layout []RowGroup

// A RowGroup is rows that are read together: a row group of a Parquet file, a
// record batch of an Arrow file.
type RowGroup struct {
	First int64 `json:"first"` // sample id of the first row; the others follow
	Rows  int64 `json:"rows"`  // 1 or more
	Bytes int64 `json:"bytes"` // of memory, at most, that its images and paths take as they are stored
	File  int   `json:"file"`  // number of the file it is in, from 0
}

// Bytes is the memory that all row groups take, at most.
func (l Layout) Bytes() (sum int64) {
	for _, g := range l {
		sum += g.Bytes
	}
	return sum
}
