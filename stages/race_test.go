//go:build race

package stages_test

// raceEnabled thins out what the race detector makes slow.
const raceEnabled = true
