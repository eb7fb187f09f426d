package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tercet-ml/tercet"

// imports is the plan of the house: what each package may import, beside the
// standard library. A path stands for all below it; "*" is everything.
var imports = map[string][]string{
	"pipeline":        {"golang.org/x/sync"},
	"storage":         {"pipeline", "github.com/apache/arrow/go/v17", "github.com/klauspost/compress", "github.com/pierrec/lz4/v4", "github.com/andybalholm/brotli"},
	"storage/faultfs": {"storage"},
	"loss":            {"pipeline", "loss/f32"},
	"loss/f32":        {"golang.org/x/sys/cpu"},
	"stages/onnx":     {"pipeline", "github.com/ebitengine/purego"},
	"stages":          {"pipeline", "loss", "loss/f32", "gonum.org/v1/gonum", "golang.org/x/image", "github.com/bep/imagemeta"},
	"cmd/tercet":      {"*"},
}

// root is the module's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Skipf("the module's source is not here: %v", err)
	}
	return dir
}

func TestImports(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	list := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir = root(t)
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	n := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; n++ {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(pkg.ImportPath, "/testdata/") {
			continue // programs that make test data may use what they like
		}
		name := strings.TrimPrefix(pkg.ImportPath, module+"/")
		allowed, ok := imports[name]
		if !ok {
			t.Errorf("package %s has no place in the house: give it one in imports", name)
			continue
		}
		for _, imp := range pkg.Imports {
			if !mayImport(allowed, imp) {
				t.Errorf("package %s imports %s, may import %s", name, imp, strings.Join(allowed, ", "))
			}
		}
	}
	if n == 0 {
		t.Error("go list found no package")
	}
}

func mayImport(allowed []string, imp string) bool {
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	if own, ok := strings.CutPrefix(imp, module+"/"); ok {
		return slices.Contains(allowed, own) || slices.Contains(allowed, "*")
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == "*" || imp == a || strings.HasPrefix(imp, a+"/")
	})
}

func TestMayImport(t *testing.T) {
	for _, tt := range []struct {
		pkg, imp string
		want     bool
	}{
		{"storage", "fmt", true},
		{"storage", module + "/pipeline", true},
		{"storage", module + "/stages", false},
		{"stages", module + "/storage", false},
		{"stages", module + "/loss/f32", true},
		{"pipeline", module + "/loss", false},
		{"storage", "github.com/apache/arrow/go/v17/arrow", true},
		{"stages", "github.com/apache/arrow/go/v17/arrow", false},
		{"loss", "gonum.org/v1/gonum/mat", false},
		{"stages", "gonum.org/v1/gonum/mat", true},
		{"stages", "gonum.org/v1/gonumerous", false},
	} {
		if got := mayImport(imports[tt.pkg], tt.imp); got != tt.want {
			t.Errorf("%s may import %s: %v, want %v", tt.pkg, tt.imp, got, tt.want)
		}
	}
}

// TestHouseRules: goroutines and the closing of channels are package
// pipeline's business, Arrow's types end in package storage, and a file that
// grows past 400 lines holds two ideas.
func TestHouseRules(t *testing.T) {
	dir := root(t)
	fset := token.NewFileSet()
	n := 0
	walkFiles(t, dir, func(path string) {
		parts := strings.Split(path, "/")
		aside := func(part string) bool { return part == "testdata" || strings.HasPrefix(part, "_") }
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || slices.ContainsFunc(parts, aside) {
			return
		}
		file, err := parser.ParseFile(fset, filepath.Join(dir, path), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("parse: %v", err)
			return
		}
		n++
		for _, broken := range houseRules(fset, file, parts[0]) {
			t.Errorf("%s:%s", path, broken)
		}
	})
	if n == 0 {
		t.Error("found no Go file")
	}
}

// houseRules are the rules that a file of a top-level folder breaks, each with its line.
func houseRules(fset *token.FileSet, file *ast.File, folder string) (broken []string) {
	report := func(pos token.Pos, rule string) {
		broken = append(broken, fmt.Sprintf("%d: %s", fset.Position(pos).Line, rule))
	}
	if n := fset.Position(file.FileEnd).Line; n > 400 {
		report(file.FileEnd, "the file has more than 400 lines")
	}
	for _, imp := range file.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		if strings.HasSuffix(path, "x/sync/errgroup") && folder != "pipeline" {
			report(imp.Pos(), "errgroup outside pipeline: use pipeline.ForEach or pipeline.Map")
		}
		if strings.HasPrefix(path, "github.com/apache/arrow/") && folder != "storage" {
			report(imp.Pos(), "Arrow outside storage")
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if folder != "pipeline" {
				report(n.Pos(), "a go statement outside pipeline: use pipeline.Background")
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "close" && folder != "pipeline" {
				report(n.Pos(), "close of a channel outside pipeline: use pipeline.Event")
			}
		}
		return true
	})
	return broken
}

func TestHouseRulesAreSeen(t *testing.T) {
	const source = `package x

import (
	_ "github.com/apache/arrow/go/v17/arrow"
	_ "golang.org/x/sync/errgroup"
)

func f(c chan int, file interface{ Close() }) {
	go f(c, file)
	close(c)
	file.Close()
}
`
	for folder, want := range map[string]string{"stages": "4 5 9 10", "storage": "5 9 10", "pipeline": "4"} {
		for _, long := range []bool{false, true} {
			text, want := source, want
			if long {
				text, want = text+strings.Repeat("// line\n", 401-strings.Count(text, "\n")), "401 "+want
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, "x.go", text, 0)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, broken := range houseRules(fset, file, folder) {
				line, _, _ := strings.Cut(broken, ":")
				lines = append(lines, line)
			}
			if got := strings.Join(lines, " "); got != want {
				t.Errorf("in %s, long %v: rules broken on lines %s, want %s", folder, long, got, want)
			}
		}
	}
}

// The project is built from any mirror, so no file names a package registry's host.
func TestNoRegistryHosts(t *testing.T) {
	var needles [][]byte
	for _, host := range [][]string{
		{"proxy", "golang", "org"}, {"sum", "golang", "org"}, {"pypi", "org"}, {"files", "pythonhosted", "org"},
		{"deb", "debian", "org"}, {"registry", "npmjs", "org"}, {"crates", "io"}, {"repo1", "maven", "org"},
	} {
		needles = append(needles, []byte(strings.Join(host, ".")))
	}
	dir := root(t)
	walkFiles(t, dir, func(path string) {
		text, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Error(err)
			return
		}
		for _, needle := range needles {
			if bytes.Contains(text, needle) {
				t.Errorf("%s names the registry host %s", path, needle)
			}
		}
	})
}

// walkFiles calls f with every regular file of the tree but git's, by its slash-separated path.
func walkFiles(t *testing.T, dir string, f func(path string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == ".git" && d.IsDir():
			return fs.SkipDir
		case d.Type().IsRegular() && d.Name() != ".git":
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
