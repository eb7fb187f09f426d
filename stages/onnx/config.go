package onnx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/tercet-ml/tercet/pipeline"
)

// Config says which model is run, and how. What is zero is looked up in the
// model's settings file, and then in the model.
type Config struct {
	Model   string // path of the .onnx file; required
	Library string // shared library of ONNX Runtime, or the folder that holds it; default: the system's loader finds it
	Input   string // name of the input; default: the only one
	Output  string // name of the output; default: the only one
	Layout  string // of the input: NCHW or NHWC; default: where the model has 1 or 3 channels, else NCHW
	Workers int    // batches run at a time, each on one core; default GOMAXPROCS. Decides no content
}

// Settings are what a model's settings file says: JSON beside the model, under
// its name with .json behind it. All members are optional.
type Settings struct {
	Input  string    `json:"input"`
	Output string    `json:"output"`
	Layout string    `json:"layout"`
	Height int       `json:"height"` // of the images, in pixels, where the model takes any; as Width
	Width  int       `json:"width"`
	Mean   []float32 `json:"mean"` // per channel, both or neither: the model is given (v−Mean)/Std with v in [0, 1]
	Std    []float32 `json:"std"`
}

// ReadSettings reads the settings of a model. Without a file they are zero.
func ReadSettings(model string) (Settings, error) {
	var s Settings
	path := model + ".json"
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	if dec.More() {
		return s, fmt.Errorf("%s: more than one JSON value", path)
	}
	switch {
	case s.Layout != "" && s.Layout != nchw && s.Layout != nhwc:
		return s, fmt.Errorf("%s: layout is %q, want %s or %s", path, s.Layout, nchw, nhwc)
	case s.Height < 0 || s.Width < 0 || (s.Height == 0) != (s.Width == 0):
		return s, fmt.Errorf("%s: height and width are %d and %d, want both above 0 or neither", path, s.Height, s.Width)
	case len(s.Mean) != len(s.Std):
		return s, fmt.Errorf("%s: %d means and %d deviations, want one of each a channel", path, len(s.Mean), len(s.Std))
	}
	return s, nil
}

const (
	nchw = "NCHW"
	nhwc = "NHWC"
)

// imageShape is what dims, the four dimensions of an input in that layout, say
// of an image: 0 for what may be anything.
func imageShape(dims []int64, layout string) pipeline.Shape {
	c, h, w := dims[1], dims[2], dims[3]
	if layout == nhwc {
		c, h, w = dims[3], dims[1], dims[2]
	}
	return pipeline.Shape{C: int(max(c, 0)), H: int(max(h, 0)), W: int(max(w, 0))}
}

// layoutOf is the layout of an input of these dimensions where nothing says it.
func layoutOf(dims []int64) string {
	channels := func(n int64) bool { return n == 1 || n == 3 }
	if channels(dims[3]) && !channels(dims[1]) {
		return nhwc
	}
	return nchw
}
