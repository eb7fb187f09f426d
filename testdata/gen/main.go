// Gen makes the project's test data: small data sets of glyphs of the Go
// fonts, in every format that is read, and broken ones with one fault each.
// From the project's root:
//
//	go run ./testdata/gen          # write the files
//	go run ./testdata/gen -check   # compare them with what would be written
//
// Equal seeds give equal bytes. The bytes of PNG and JPEG are those of Go
// 1.26's encoders on amd64: another release, or an architecture that fuses
// multiplication and addition, may write other files that are as good.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// files are the contents of files by slash-separated path below testdata.
type files map[string][]byte

func main() {
	dir := flag.String("dir", "testdata", "folder to write to")
	seed := flag.Uint64("seed", 1, "seed of the images")
	check := flag.Bool("check", false, "write nothing; fail when a file is not what would be written")
	flag.Parse()
	if err := run(*dir, *seed, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(dir string, seed uint64, check bool) error {
	made, err := generate(seed)
	if err != nil {
		return err
	}
	var total int
	for _, name := range slices.Sorted(maps.Keys(made)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		total += len(made[name])
		if check {
			have, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Equal(have, made[name]) {
				return fmt.Errorf("%s is not what the generator writes", path)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, made[name], 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%d files, %d bytes\n", len(made), total)
	return nil
}

// generate makes every file.
func generate(seed uint64) (files, error) {
	made := files{}
	for _, set := range []func(files, uint64) error{glyphs, formats, jpegs, broken} {
		if err := set(made, seed); err != nil {
			return nil, err
		}
	}
	return made, nil
}
