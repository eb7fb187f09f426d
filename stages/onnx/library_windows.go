//go:build amd64 || arm64

package onnx

import "syscall"

// openLibrary loads a library and returns the address of one of its functions.
func openLibrary(file, function string) (uintptr, error) {
	handle, err := syscall.LoadLibrary(file)
	if err != nil {
		return 0, err
	}
	return syscall.GetProcAddress(handle, function)
}
