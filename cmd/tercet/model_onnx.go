//go:build onnx

package main

import (
	"context"
	"errors"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/stages/onnx"
)

// errNoONNX says why this program has no ONNX Runtime; it has.
var errNoONNX error

// openONNX opens a model in ONNX format.
func openONNX(file string, f *modelFlags, workers int) (*model, error) {
	m, err := onnx.Open(onnx.Config{
		Model: file, Library: f.runtime, Input: f.input, Output: f.output, Layout: f.layout, Workers: workers,
	})
	if err != nil {
		return nil, onnxError(err)
	}
	return &model{
		shape: m.Shape(), mean: m.Settings().Mean, std: m.Settings().Std, close: m.Close,
		embedder: func(ctx context.Context, shape pipeline.Shape) (stages.Embedder, error) {
			e, err := m.Embedder(ctx, shape)
			if err != nil {
				return nil, onnxError(err)
			}
			return e, nil
		},
	}, nil
}

// onnxError names the flag that mends err, where there is one.
func onnxError(err error) error {
	var port *onnx.PortError
	switch {
	case errors.Is(err, onnx.ErrLibrary):
		return hinted{err, "name the shared library of ONNX Runtime, or its folder, with --onnxruntime or TERCET_ONNXRUNTIME; Python's package onnxruntime holds one in onnxruntime/capi"}
	case errors.As(err, &port) && port.Kind == "input":
		return hinted{err, "--onnx-input names the input, --onnx-layout says its layout and --size the images'"}
	case errors.As(err, &port):
		return hinted{err, "--onnx-output names the output"}
	}
	return err
}
