//go:build (linux || darwin || windows) && (amd64 || arm64)

package onnx

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"
)

// A session is a model in the runtime. Any number of goroutines may run it.
type session struct {
	*runtimeAPI
	handle unsafe.Pointer
}

// A port is an input or output of a model.
type port struct {
	name string
	typ  int32   // ONNX element type; 0 where it is no tensor
	dims []int64 // −1 for any
}

// newSession makes a session of the bytes of a model. What runs in it runs on
// the calling thread alone.
func newSession(r *runtimeAPI, model []byte) (*session, error) {
	if len(model) == 0 {
		return nil, errors.New("the file is empty")
	}
	var options unsafe.Pointer
	if err := r.check(r.createOptions(&options)); err != nil {
		return nil, err
	}
	defer r.releaseOptions(options)
	if err := r.check(r.intraThreads(options, 1)); err != nil {
		return nil, err
	}
	s := &session{runtimeAPI: r}
	return s, r.check(r.createSession(r.env, unsafe.SliceData(model), uintptr(len(model)), options, &s.handle))
}

func (s *session) close() {
	if s.handle != nil {
		s.releaseSession(s.handle)
		s.handle = nil
	}
}

// ports are the inputs and outputs, in the model's order.
func (s *session) ports() (inputs, outputs []port, err error) {
	if inputs, err = s.describe(s.inputCount, s.inputName, s.inputType); err != nil {
		return nil, nil, fmt.Errorf("read inputs: %w", err)
	}
	if outputs, err = s.describe(s.outputCount, s.outputName, s.outputType); err != nil {
		return nil, nil, fmt.Errorf("read outputs: %w", err)
	}
	return inputs, outputs, nil
}

func (s *session) describe(
	count func(unsafe.Pointer, *uintptr) unsafe.Pointer,
	name func(unsafe.Pointer, uintptr, unsafe.Pointer, *unsafe.Pointer) unsafe.Pointer,
	typ func(unsafe.Pointer, uintptr, *unsafe.Pointer) unsafe.Pointer,
) ([]port, error) {
	var n uintptr
	if err := s.check(count(s.handle, &n)); err != nil {
		return nil, err
	}
	ports := make([]port, n)
	for i := range ports {
		var text, info unsafe.Pointer
		if err := s.check(name(s.handle, uintptr(i), s.alloc, &text)); err != nil {
			return nil, err
		}
		ports[i].name = goString(text)
		if err := s.check(s.free(s.alloc, text)); err != nil {
			return nil, err
		}
		if err := s.check(typ(s.handle, uintptr(i), &info)); err != nil {
			return nil, err
		}
		var tensor unsafe.Pointer // part of info; nil where it is no tensor
		err := s.check(s.asTensorInfo(info, &tensor))
		if err == nil && tensor != nil {
			ports[i].typ, ports[i].dims, err = s.shape(tensor)
		}
		s.releaseTypeInfo(info)
		if err != nil {
			return nil, err
		}
	}
	return ports, nil
}

// shape reads a tensor's element type and dimensions.
func (s *session) shape(info unsafe.Pointer) (typ int32, dims []int64, err error) {
	var n uintptr
	if err := errors.Join(s.check(s.elementType(info, &typ)), s.check(s.rank(info, &n))); err != nil {
		return 0, nil, err
	}
	dims = make([]int64, n)
	return typ, dims, s.check(s.dims(info, unsafe.SliceData(dims), n))
}

// run gives the input a tensor of values and calls use with the output's
// dimensions and values, which are gone when use has returned.
func (s *session) run(input, output string, values []float32, dims []int64, use func(dims []int64, values []float32) error) error {
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(unsafe.SliceData(values)) // the tensor does not copy them
	var in, out unsafe.Pointer
	err := s.check(s.createTensor(s.memory, unsafe.SliceData(values), uintptr(4*len(values)), unsafe.SliceData(dims), uintptr(len(dims)), typeFloat, &in))
	if err != nil {
		return err
	}
	defer s.releaseValue(in)
	inName, outName := cString(&pins, input), cString(&pins, output)
	if err := s.check(s.runtimeAPI.run(s.handle, nil, &inName, &in, 1, &outName, 1, &out)); err != nil {
		return err
	}
	defer s.releaseValue(out)
	var info, data unsafe.Pointer
	if err := s.check(s.tensorInfo(out, &info)); err != nil {
		return err
	}
	defer s.releaseInfo(info)
	typ, got, err := s.shape(info)
	if err != nil {
		return err
	}
	if typ != typeFloat {
		return fmt.Errorf("output %q is a tensor of %s, want float32", output, typeName(typ))
	}
	n := int64(1)
	for _, d := range got {
		n *= d
	}
	if n == 0 {
		return use(got, nil)
	}
	if err := s.check(s.tensorData(out, &data)); err != nil {
		return err
	}
	return use(got, unsafe.Slice((*float32)(data), n))
}

// cString is s with a zero behind it, in memory that stays where it is.
func cString(pins *runtime.Pinner, s string) unsafe.Pointer {
	text := append([]byte(s), 0)
	pins.Pin(&text[0])
	return unsafe.Pointer(&text[0])
}

// goString copies a string that ends with a zero.
func goString(p unsafe.Pointer) string {
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}

// typeName is the name of an ONNX element type.
func typeName(typ int32) string {
	names := []string{"no tensor", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "strings", "bool",
		"float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"}
	if typ < 0 || int(typ) >= len(names) {
		return fmt.Sprintf("element type %d", typ)
	}
	return names[typ]
}

// find is the port of that name, or the only one where no name is given.
func find(ports []port, name, kind string) (port, error) {
	if i := slices.IndexFunc(ports, func(p port) bool { return p.name == name }); i >= 0 {
		return ports[i], nil
	}
	if name == "" && len(ports) == 1 {
		return ports[0], nil
	}
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.name
	}
	if name == "" {
		return port{}, &PortError{kind, fmt.Sprintf("the model has %d %ss, %q: name one", len(ports), kind, names)}
	}
	return port{}, &PortError{kind, fmt.Sprintf("the model has no %s %q: it has %q", kind, name, names)}
}
