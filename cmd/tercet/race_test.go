//go:build race

package main

// raceEnabled thins out what the race detector makes slow.
const raceEnabled = true
