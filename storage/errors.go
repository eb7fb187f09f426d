package storage

import "errors"

// What a caller can tell apart, with [errors.Is], about a file that cannot be
// read. The message around it says where.
var (
	ErrSchema  = errors.New("wrong schema")         // a column is missing or of a wrong type
	ErrCorrupt = errors.New("corrupt file")         // the bytes contradict themselves
	ErrVersion = errors.New("unknown file version") // written by a newer Tercet, or by something else
)
