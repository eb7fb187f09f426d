//go:build (!amd64 && !arm64) || purego

package f32

// bodiesHere is the one body of this machine.
func bodiesHere() map[string]func() func() {
	return map[string]func() func(){Body(): func() func() { return func() {} }}
}
