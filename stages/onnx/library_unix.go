//go:build (linux || darwin) && (amd64 || arm64)

package onnx

import "github.com/ebitengine/purego"

// openLibrary loads a library and returns the address of one of its functions.
func openLibrary(file, function string) (uintptr, error) {
	handle, err := purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return 0, err
	}
	return purego.Dlsym(handle, function)
}
