//go:build !onnx

package main

// errNoONNX says how to get a program that has ONNX Runtime: that is loaded as a
// shared library, and this program is linked statically.
var errNoONNX error = hinted{
	usagef("--embedder onnx: needs a program built with ONNX Runtime, and this one is not"),
	"go install -tags onnx github.com/tercet-ml/tercet/cmd/tercet@latest, which needs no C compiler",
}

func openONNX(string, *modelFlags, int) (*model, error) { return nil, errNoONNX }
