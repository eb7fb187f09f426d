//go:build (linux || darwin || windows) && (amd64 || arm64)

package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// ErrLibrary is wrapped by errors about the shared library of ONNX Runtime.
var ErrLibrary = errors.New("ONNX Runtime library")

// libraries are those of this process, by the path that was asked for. One that
// is loaded stays: it has threads of its own.
var libraries struct {
	sync.Mutex
	loaded map[string]*runtimeAPI
}

// library loads the shared library, once. path is its file or a folder that
// holds it; where it is empty the system's loader looks for it.
func library(path string) (*runtimeAPI, error) {
	libraries.Lock()
	defer libraries.Unlock()
	if r := libraries.loaded[path]; r != nil {
		return r, nil
	}
	file, err := libraryFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	base, err := openLibrary(file, "OrtGetApiBase")
	if err != nil {
		return nil, fmt.Errorf("%w: load %s: %w", ErrLibrary, file, err)
	}
	r := new(runtimeAPI)
	if err := r.start(base); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrLibrary, file, err)
	}
	if libraries.loaded == nil {
		libraries.loaded = map[string]*runtimeAPI{}
	}
	libraries.loaded[path] = r
	return r, nil
}

// libraryName is that of the file as it is installed, without a version.
func libraryName() string {
	switch runtime.GOOS {
	case "windows":
		return "onnxruntime.dll"
	case "darwin":
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

// libraryFile is the file to load for path. In a folder it is the one of that
// name, with the highest version if several have one.
func libraryFile(path string) (string, error) {
	if path == "" {
		return libraryName(), nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	name := libraryName()
	ext := filepath.Ext(name)
	found, _ := filepath.Glob(filepath.Join(path, name+"*")) // libonnxruntime.so.1.32.0
	if len(found) == 0 {
		found, _ = filepath.Glob(filepath.Join(path, name[:len(name)-len(ext)]+".*"+ext)) // libonnxruntime.1.32.0.dylib
	}
	if len(found) == 0 {
		return "", fmt.Errorf("folder %s holds no %s", path, name)
	}
	return slices.Max(found), nil
}
