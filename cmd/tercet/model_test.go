package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModelFlags(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("needs a POSIX shell")
	}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"unknown embedder", []string{"--embedder", "resnet"}, exitUsage, []string{`--embedder is "resnet"`, "onnx:MODEL.onnx", "exec:COMMAND"}},
		{"no command", []string{"--embedder", "exec: "}, exitUsage, []string{"want a command"}},
		{"means without deviations", []string{"--embedder", "exec:cat", "--mean", "0.5"}, exitUsage, []string{"--mean has 1", "--std 0"}},
		{"means that are none", []string{"--embedder", "exec:cat", "--mean", "a,b"}, exitUsage, []string{"--mean", `"a,b"`}},
		{"means of other channels", []string{"--embedder", "exec:cat", "--mean", "0,0,0", "--std", "1,1,1"}, exitUsage, []string{"3 numbers", "1 channels"}},
		{"means for pca", []string{"--mean", "0.5", "--std", "1"}, exitUsage, []string{"--mean is for --embedder onnx: and exec:"}},
		{"a model's flag for a program", []string{"--embedder", "exec:cat", "--onnx-input", "x"}, exitUsage, []string{"--onnx-input is for --embedder onnx:"}},
		{"a program's flag for pca", []string{"--exec-restarts", "2"}, exitUsage, []string{"--exec-restarts is for --embedder exec:"}},
		{"no timeout", []string{"--embedder", "exec:cat", "--exec-timeout", "0s"}, exitUsage, []string{"--exec-timeout"}},
		{"a program that fails", []string{"--embedder", "exec:echo no module named net >&2; exit 3"}, exitFailed, []string{"exit status 3: no module named net", "started once"}},
		{"a program that is not there", []string{"--embedder", "exec:no-such-program-here"}, exitFailed, []string{"exit status 127", "no-such-program-here"}},
		{"a program that answers with something else", []string{"--embedder", "exec:cat"}, exitFailed, []string{"columns are", "image", "want id: int64 and embedding"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"mine", data + "glyphs", "-o", filepath.Join(t.TempDir(), "t.parquet")}, tt.args...)
			code, _, stderr := tercet(t, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("message %q does not say %q", stderr, want)
				}
			}
		})
	}
}

func TestWithoutONNX(t *testing.T) {
	if errNoONNX == nil {
		t.Skip("this program has it")
	}
	code, _, stderr := tercet(t, "mine", data+"glyphs", "-o", filepath.Join(t.TempDir(), "t.parquet"), "--embedder", "onnx:model.onnx")
	if code != exitUsage || !strings.Contains(stderr, "go install -tags onnx") {
		t.Errorf("exit code %d, message %q: want one that says how to get it", code, stderr)
	}
}
