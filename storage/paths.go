package storage

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// splitNames are the names of splits, in the spelling that [Config.Split] uses
// for each.
var splitNames = map[string]string{
	"train": "train", "training": "train",
	"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
	"test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}

// splitOfName finds a split at the beginning of a file or folder name: "train",
// "train-00000-of-00005.parquet", "test_2.arrow".
var splitOfName = regexp.MustCompile(`^([a-z]+)(?:[-_. ]|[0-9]|$)`)

// findShards lists the files that paths stand for, in name order and once
// each, of the split that was asked for or the only one there is.
func findShards(paths []string, split string) ([]dataFile, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("open data set: %w: no path was given", ErrNoData)
	}
	var found []dataFile
	for _, p := range paths {
		files, err := expand(p)
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("open %s: %w", p, ErrNoData)
		}
		found = append(found, files...)
	}
	found, err := chooseSplit(found, split)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b dataFile) int { return cmp.Compare(a.path, b.path) })
	var files []dataFile
	seen := make(map[string]bool)
	for _, f := range found {
		full, err := filepath.Abs(f.path)
		if err != nil {
			return nil, err
		}
		if !seen[full] {
			files = append(files, f)
		}
		seen[full] = true
	}
	return files, nil
}

// A dataFile is one file and the split that its name, or a folder above it below
// the path that was given, says it belongs to; "" where they say nothing.
type dataFile struct {
	path, split string

	set   *Manifest // that lists the file; nil for files of no prepared data set
	dir   string    // of the manifest
	shard int       // number among its shards
}

// expand lists what one path stands for: a file, a folder or a pattern.
func expand(path string) ([]dataFile, error) {
	if path == stdin {
		return []dataFile{{path: path}}, nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return walk(path)
	case err == nil:
		return []dataFile{{path: filepath.Clean(path), split: splitOf(filepath.Base(path))}}, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !strings.ContainsAny(path, `*?[`):
		return nil, fmt.Errorf("open %s: %w: %w", path, ErrNoData, fs.ErrNotExist)
	}
	matches, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	var found []dataFile
	for _, m := range matches {
		info, err := os.Stat(m)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			inside, err := walk(m)
			if err != nil {
				return nil, err
			}
			split := splitOf(filepath.Base(m))
			for _, f := range inside {
				f.split = cmp.Or(f.split, split)
				found = append(found, f)
			}
			continue
		}
		found = append(found, dataFile{path: m, split: splitOf(filepath.Base(m))})
	}
	return found, nil
}

// walk lists the data files below a folder. Hidden files and folders and other
// endings are passed over, and links to folders are not followed, but for root.
// Of a prepared data set, they are the files that its manifest lists.
func walk(root string) ([]dataFile, error) {
	switch m, err := ReadManifest(root); {
	case err == nil:
		return m.files(filepath.Clean(root)), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	root = filepath.Clean(root) + string(filepath.Separator) // what a link leads to
	var found []dataFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := path != root && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_"))
		switch {
		case hidden && d.IsDir():
			return filepath.SkipDir
		case hidden, d.IsDir(), endings[strings.ToLower(filepath.Ext(path))] == "":
			return nil
		}
		split := splitOf(d.Name())
		if rel, err := filepath.Rel(root, filepath.Dir(path)); err == nil && split == "" {
			for _, part := range strings.Split(filepath.ToSlash(rel), "/") {
				split = cmp.Or(splitOf(part), split) // the innermost folder that names one
			}
		}
		found = append(found, dataFile{path: path, split: split})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	return found, nil
}

// files are the shards of a prepared data set in dir.
func (m *Manifest) files(dir string) []dataFile {
	found := make([]dataFile, len(m.Shards))
	for i, s := range m.Shards {
		path := filepath.Join(dir, filepath.FromSlash(s.Path))
		found[i] = dataFile{path: path, split: splitOf(filepath.Base(path)), set: m, dir: dir, shard: i}
	}
	return found
}

func splitOf(name string) string {
	if m := splitOfName.FindStringSubmatch(strings.ToLower(name)); m != nil {
		return splitNames[m[1]]
	}
	return ""
}

// chooseSplit keeps the files of one split. Files without one are a split of
// their own, which cannot be named: they are kept when nothing else is there.
func chooseSplit(files []dataFile, want string) ([]dataFile, error) {
	var splits []string
	unnamed := false
	for _, f := range files {
		if f.split == "" {
			unnamed = true
		} else if !slices.Contains(splits, f.split) {
			splits = append(splits, f.split)
		}
	}
	slices.Sort(splits)
	if want == "" {
		if len(splits) > 1 || len(splits) == 1 && unnamed {
			if unnamed {
				splits = append(splits, "files of no split")
			}
			return nil, &SplitError{Splits: splits}
		}
		return files, nil
	}
	name := strings.ToLower(want)
	name = cmp.Or(splitNames[name], name)
	if !slices.Contains(splits, name) {
		return nil, &SplitError{Want: want, Splits: splits}
	}
	return slices.DeleteFunc(files, func(f dataFile) bool { return f.split != name }), nil
}
