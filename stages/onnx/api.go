//go:build (linux || darwin || windows) && (amd64 || arm64)

package onnx

import (
	"errors"
	"unsafe"

	"github.com/ebitengine/purego"
)

// runtimeAPI is the part of the C API of ONNX Runtime that an embedder needs:
// functions of version 1 of its table, which every later version keeps in place.
// Handles are pointers to C memory. Go memory that the library holds on to
// after a call has returned is pinned by the caller.
type runtimeAPI struct {
	version string
	env     unsafe.Pointer
	memory  unsafe.Pointer // OrtMemoryInfo of the CPU
	alloc   unsafe.Pointer // default OrtAllocator

	errorMessage    func(status unsafe.Pointer) string
	createEnv       func(level int32, id string, out *unsafe.Pointer) unsafe.Pointer
	createSession   func(env unsafe.Pointer, model *byte, size uintptr, options unsafe.Pointer, out *unsafe.Pointer) unsafe.Pointer
	run             func(session, options unsafe.Pointer, inNames, ins *unsafe.Pointer, nIn uintptr, outNames *unsafe.Pointer, nOut uintptr, outs *unsafe.Pointer) unsafe.Pointer
	createOptions   func(out *unsafe.Pointer) unsafe.Pointer
	intraThreads    func(options unsafe.Pointer, n int32) unsafe.Pointer
	inputCount      func(session unsafe.Pointer, out *uintptr) unsafe.Pointer
	outputCount     func(session unsafe.Pointer, out *uintptr) unsafe.Pointer
	inputType       func(session unsafe.Pointer, i uintptr, out *unsafe.Pointer) unsafe.Pointer
	outputType      func(session unsafe.Pointer, i uintptr, out *unsafe.Pointer) unsafe.Pointer
	inputName       func(session unsafe.Pointer, i uintptr, alloc unsafe.Pointer, out *unsafe.Pointer) unsafe.Pointer
	outputName      func(session unsafe.Pointer, i uintptr, alloc unsafe.Pointer, out *unsafe.Pointer) unsafe.Pointer
	createTensor    func(memory unsafe.Pointer, data *float32, bytes uintptr, shape *int64, rank uintptr, typ int32, out *unsafe.Pointer) unsafe.Pointer
	tensorData      func(value unsafe.Pointer, out *unsafe.Pointer) unsafe.Pointer
	asTensorInfo    func(typ unsafe.Pointer, out *unsafe.Pointer) unsafe.Pointer
	elementType     func(info unsafe.Pointer, out *int32) unsafe.Pointer
	rank            func(info unsafe.Pointer, out *uintptr) unsafe.Pointer
	dims            func(info unsafe.Pointer, out *int64, n uintptr) unsafe.Pointer
	tensorInfo      func(value unsafe.Pointer, out *unsafe.Pointer) unsafe.Pointer
	cpuMemory       func(allocator, typ int32, out *unsafe.Pointer) unsafe.Pointer
	free            func(alloc, p unsafe.Pointer) unsafe.Pointer
	defaultAlloc    func(out *unsafe.Pointer) unsafe.Pointer
	releaseStatus   func(unsafe.Pointer)
	releaseSession  func(unsafe.Pointer)
	releaseValue    func(unsafe.Pointer)
	releaseTypeInfo func(unsafe.Pointer)
	releaseInfo     func(unsafe.Pointer)
	releaseOptions  func(unsafe.Pointer)
}

// bind points the functions to their places in the table.
func (r *runtimeAPI) bind(table []uintptr) {
	for _, f := range []struct {
		at  int
		ptr any
	}{
		{2, &r.errorMessage}, {3, &r.createEnv}, {8, &r.createSession}, {9, &r.run}, {10, &r.createOptions},
		{24, &r.intraThreads}, {30, &r.inputCount}, {31, &r.outputCount}, {33, &r.inputType}, {34, &r.outputType},
		{36, &r.inputName}, {37, &r.outputName}, {49, &r.createTensor}, {51, &r.tensorData}, {55, &r.asTensorInfo},
		{60, &r.elementType}, {61, &r.rank}, {62, &r.dims}, {65, &r.tensorInfo}, {69, &r.cpuMemory}, {76, &r.free},
		{78, &r.defaultAlloc}, {93, &r.releaseStatus}, {95, &r.releaseSession}, {96, &r.releaseValue},
		{98, &r.releaseTypeInfo}, {99, &r.releaseInfo}, {100, &r.releaseOptions},
	} {
		purego.RegisterFunc(f.ptr, table[f.at])
	}
}

// tableSize is how many functions version 1 of the table has up to the last that bind uses.
const tableSize = 101

const (
	logFatal       = 4 // ORT_LOGGING_LEVEL_FATAL: errors come back to the caller
	arenaAllocator = 1 // OrtArenaAllocator
	typeFloat      = 1 // ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
)

// check makes an error of a status, which it releases.
func (r *runtimeAPI) check(status unsafe.Pointer) error {
	if status == nil {
		return nil
	}
	defer r.releaseStatus(status)
	return errors.New(r.errorMessage(status))
}

// start fetches the table of the library whose entry point is at base, and what
// all sessions share.
func (r *runtimeAPI) start(base uintptr) error {
	var entry func() unsafe.Pointer
	purego.RegisterFunc(&entry, base)
	first := (*[2]uintptr)(entry()) // OrtApiBase
	if first == nil {
		return errors.New("it has no API")
	}
	var table func(version uint32) unsafe.Pointer
	var version func() string
	purego.RegisterFunc(&table, first[0])
	purego.RegisterFunc(&version, first[1])
	functions := (*[tableSize]uintptr)(table(1))
	if functions == nil {
		return errors.New("it does not know version 1 of its API")
	}
	r.bind(functions[:])
	r.version = version()
	return errors.Join(
		r.check(r.createEnv(logFatal, "tercet", &r.env)),
		r.check(r.cpuMemory(arenaAllocator, 0, &r.memory)),
		r.check(r.defaultAlloc(&r.alloc)),
	)
}
