// Package storage holds everything that has bytes on disk. Types of Arrow Go
// end here, and so do that library's faults.
//
// # Reading a data set
//
// [Open] makes one [Dataset] of files: paths.go finds them, shard.go opens each
// by its format, columns.go finds the columns, labels.go scans labels and
// groups, and records.go reads images by sample id, from row groups that
// groups.go keeps within a budget. A format is a shard:
//
//   - Parquet (parquet*.go): footers and page headers are checked before Arrow
//     Go decodes a value, and its page reader is replaced by one that believes
//     nothing it has not measured.
//   - Arrow IPC files and streams (arrow*.go): mapped into memory, and copied
//     out of it value by value.
//
// Both read under a memory budget (budget.go) behind one recover boundary, on
// the caller's goroutine: bytes that make no sense are an error that wraps
// [ErrCorrupt] and names file, row group, row and column.
//
// # Writing
//
// [Draft] (commit.go) is how every file gets its name: written aside, synced,
// renamed, the folder synced. A [TripletWriter] or [PairWriter] writes what was
// mined in any of three formats (frame*.go, triplets_*.go) and [OpenTriplets]
// reads it back; [WriteSnapshot] and [ReadSnapshot] keep embeddings;
// [RecordWriter] writes data sets.
package storage
