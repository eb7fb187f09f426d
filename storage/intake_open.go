package storage

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// intakeEndings are the file name endings of what prep reads beside tables and
// images.
var intakeEndings = []struct{ ending, kind string }{
	{".tar.gz", "tar"}, {".tgz", "tar"}, {".tar", "tar"}, {".zip", "zip"},
	{".csv", "list"}, {".tsv", "list"}, {".jsonl", "list"}, {".ndjson", "list"},
	{"-ubyte", "idx"}, {"-ubyte.gz", "idx"}, {".idx", "idx"}, {".idx.gz", "idx"},
}

// intakeKind says by a name what a file is: "tar", "zip", "list", "idx",
// "table", "image" or "".
func intakeKind(path string) string {
	name := strings.ToLower(filepath.Base(path))
	for _, e := range intakeEndings {
		if strings.HasSuffix(name, e.ending) {
			return e.kind
		}
	}
	switch ext := filepath.Ext(name); {
	case endings[ext] != "":
		return "table"
	case slices.Contains(imageEndings, ext):
		return "image"
	case strings.Contains(name, "idx3-ubyte"), strings.Contains(name, "idx1-ubyte"):
		return "idx"
	}
	return ""
}

// sniff says by its first bytes what a file is that its name does not tell.
func sniff(path string) (string, error) {
	magic, err := firstBytes(path, 262+8)
	if err != nil {
		return "", err
	}
	if bytes.HasPrefix(magic, []byte{0x1f, 0x8b}) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if z, err := gzip.NewReader(f); err == nil {
			inner := make([]byte, len(magic))
			n, _ := z.Read(inner)
			magic = inner[:n]
		}
	}
	switch {
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")):
		return "zip", nil
	case bytes.HasPrefix(magic, []byte{0, 0, idxBytes}):
		return "idx", nil
	case len(magic) >= 262 && string(magic[257:262]) == "ustar":
		return "tar", nil
	case bytes.HasPrefix(magic, []byte("PAR1")), bytes.HasPrefix(magic, []byte("ARROW1")), bytes.HasPrefix(magic, []byte{0xff, 0xff, 0xff, 0xff}):
		return "table", nil
	}
	return "", nil
}

// exists reports whether there is something of that name.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// openFeeds opens what one path stands for.
func openFeeds(ctx context.Context, path string, cfg IntakeConfig) (feeds []feed, passed []string, err error) {
	if path == stdin {
		return one(openTableFeed(ctx, []string{path}, path, cfg))
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("open %s: %w: %w", path, ErrNoData, fs.ErrNotExist)
	case err != nil:
		return nil, nil, err
	case info.IsDir():
		return openFolder(ctx, path, cfg)
	}
	kind := intakeKind(path)
	if kind == "" {
		if kind, err = sniff(path); err != nil {
			return nil, nil, err
		}
	}
	switch kind {
	case "zip":
		return openZip(path, cfg)
	case "tar":
		return one(openTar(ctx, path))
	case "list":
		return one(openList(path, cfg))
	case "idx":
		return one(openIDX(path))
	case "table":
		return one(openTableFeed(ctx, []string{path}, path, cfg))
	case "image":
		return nil, nil, fmt.Errorf("open %s: %w: one image has no class: name the folder that holds the folders of the classes", path, ErrUnsupported)
	}
	return nil, nil, fmt.Errorf("open %s: %w: neither by its ending nor by its first bytes a zip, tar, IDX, CSV, JSON lines, Parquet or Arrow file", path, ErrUnsupported)
}

func one(f feed, err error) ([]feed, []string, error) {
	if err != nil {
		return nil, nil, err
	}
	return []feed{f}, nil, nil
}

// openFolder finds out what a folder holds: one kind of files.
func openFolder(ctx context.Context, dir string, cfg IntakeConfig) ([]feed, []string, error) {
	if _, err := os.Stat(filepath.Join(dir, ManifestName)); err == nil {
		return one(openTableFeed(ctx, []string{dir}, dir, cfg))
	}
	found := make(map[string][]string) // paths by kind
	images := imageWalk{fsys: os.DirFS(dir), base: dir}
	err := images.walk(".", func(path string) {
		kind := intakeKind(path)
		found[kind] = append(found[kind], filepath.Join(dir, filepath.FromSlash(path)))
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	var kinds []string
	for _, kind := range []string{"image", "table", "tar", "idx", "zip"} {
		if len(found[kind]) > 0 {
			kinds = append(kinds, kind)
		}
	}
	switch {
	case len(kinds) > 1:
		return nil, nil, fmt.Errorf("open %s: %w: it holds %s and %s: name the one to read", dir, ErrUnsupported, found[kinds[0]][0], found[kinds[1]][0])
	case len(kinds) == 0:
		return nil, nil, fmt.Errorf("open %s: %w: no images, nor any other data that prep reads", dir, ErrNoData)
	case kinds[0] == "image":
		f, err := openImages(os.DirFS(dir), dir, "images", nil, cfg)
		if err != nil {
			return nil, nil, err
		}
		return []feed{f}, append(found[""], found["list"]...), nil
	case kinds[0] == "table":
		return one(openTableFeed(ctx, []string{dir}, dir, cfg))
	}
	files, err := ofSplit(found[kinds[0]], cfg.Split)
	if err != nil {
		return nil, nil, err
	}
	var feeds []feed
	for _, path := range files {
		if kinds[0] == "idx" && slices.ContainsFunc(files, func(p string) bool { return slices.Contains(idxLabelNames(p), path) }) {
			continue // the labels of other files
		}
		more, _, err := openFeeds(ctx, path, cfg)
		feeds = append(feeds, more...)
		if err != nil {
			return feeds, nil, err
		}
	}
	return feeds, nil, nil
}

// ofSplit keeps the files of the split that is wanted, by their names.
func ofSplit(paths []string, split string) ([]string, error) {
	files := make([]dataFile, len(paths))
	for i, p := range paths {
		files[i] = dataFile{path: p, split: splitOf(filepath.Base(p))}
	}
	files, err := chooseSplit(files, split)
	paths = nil
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, err
}

// openZip opens a zip of an image folder.
func openZip(path string, cfg IntakeConfig) ([]feed, []string, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w: %w", path, ErrCorrupt, err)
	}
	var passed []string
	images := imageWalk{fsys: z, base: path}
	if err := images.walk(".", func(p string) {
		if intakeKind(p) != "image" {
			passed = append(passed, path+"/"+p)
		}
	}); err != nil {
		z.Close()
		return nil, nil, fmt.Errorf("open %s: %w: %w", path, ErrCorrupt, err)
	}
	f, err := openImages(z, path, "zip", z, cfg)
	if err != nil {
		z.Close()
		return nil, nil, err
	}
	return []feed{f}, passed, nil
}
