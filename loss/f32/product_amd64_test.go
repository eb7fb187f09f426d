//go:build !purego

package f32

// bodiesHere are the bodies of this machine by name, each with a function that
// chooses it and returns the one that goes back.
func bodiesHere() map[string]func() func() {
	use := func(fma, avx512 bool) func() func() {
		return func() func() {
			f, a := hasFMA, hasAVX512
			hasFMA, hasAVX512 = fma, avx512
			return func() { hasFMA, hasAVX512 = f, a }
		}
	}
	here := map[string]func() func(){"go": use(false, false)}
	if hasFMA {
		here["avx2"] = use(true, false)
	}
	if hasAVX512 {
		here["avx512"] = use(true, true)
	}
	return here
}
