// Package onnx embeds images with a model in ONNX format, by ONNX Runtime on
// the CPU. It needs no C compiler: it finds the runtime's shared library, such
// as the one in Python's package onnxruntime, while the program runs. A program
// that imports it is linked dynamically on Linux, so the command tercet does
// so only when it is built with -tags onnx.
//
//	model, err := onnx.Open(onnx.Config{Model: "model.onnx"})
//	defer model.Close()
//	embedder, err := model.Embedder(ctx, pipeline.Shape{C: 3, H: 224, W: 224})
//
// The runtime is native code in this process: a model that makes it crash ends
// the program. A model from strangers is better run by a program of its own, as
// stages.Exec does.
//
// It is tested on Linux. Its numbers are the runtime's: they are the same for
// any number of workers, but may differ in the last bits between kinds of CPU.
package onnx
