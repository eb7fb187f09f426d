//go:build !purego

package f32

// bodiesHere are the bodies of this machine by name, each with a function that
// chooses it and returns the one that goes back.
func bodiesHere() map[string]func() func() {
	use := func(neon bool) func() func() {
		return func() func() {
			before := hasNEON
			hasNEON = neon
			return func() { hasNEON = before }
		}
	}
	return map[string]func() func(){"go": use(false), "neon": use(true)}
}
