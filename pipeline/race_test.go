//go:build race

package pipeline_test

// raceEnabled says that memory is mostly the race detector's.
const raceEnabled = true
