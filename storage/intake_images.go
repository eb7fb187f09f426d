package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/tercet-ml/tercet/pipeline"
)

// imageEndings are the file name endings of images. What a file really is, its
// first bytes say.
var imageEndings = []string{".png", ".jpg", ".jpeg", ".gif", ".webp"}

// maxImageFile is how large an image file may be, whatever the memory.
const maxImageFile = 1 << 30

// An imageFeed is a folder of images, on disk or in a zip.
type imageFeed struct {
	fsys   fs.FS
	base   string // as the folder or zip was named
	what   string
	closer io.Closer // nil for a folder
	limit  int64     // bytes of one image
	files  []string
	feedLabels
}

// An imageWalk lists the files of a folder in the order of their names. Links
// are followed: people keep images elsewhere.
type imageWalk struct {
	fsys fs.FS
	base string
}

// maxFolders is how deep folders of images may be nested.
const maxFolders = 16

func (w imageWalk) walk(dir string, visit func(path string)) error {
	if strings.Count(dir, "/") >= maxFolders {
		return fmt.Errorf("%s: folders are nested more than %d deep (a link to itself?)", dir, maxFolders)
	}
	entries, err := fs.ReadDir(w.fsys, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, ".") || strings.HasPrefix(name, "__MACOSX") || name == "Thumbs.db" {
			continue
		}
		p := path.Join(dir, e.Name())
		mode := e.Type()
		if mode&fs.ModeSymlink != 0 {
			info, err := fs.Stat(w.fsys, p)
			if err != nil {
				return err
			}
			mode = info.Mode()
		}
		switch {
		case mode.IsDir():
			if err := w.walk(p, visit); err != nil {
				return err
			}
		case mode.IsRegular():
			visit(p)
		default:
			return fmt.Errorf("%s: not a regular file", path.Join(w.base, p))
		}
	}
	return nil
}

// openImages finds the images and their classes.
func openImages(fsys fs.FS, base, what string, closer io.Closer, cfg IntakeConfig) (*imageFeed, error) {
	f := &imageFeed{fsys: fsys, base: base, what: what, closer: closer, limit: min(maxImageFile, cfg.decoding())}
	var files []string
	err := imageWalk{fsys, base}.walk(".", func(p string) {
		if intakeKind(p) == "image" {
			files = append(files, p)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", base, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("open %s: %w: no image in it", base, ErrNoData)
	}
	folders := make([][]string, len(files)) // above each image
	for i, p := range files {
		parts := strings.Split(p, "/")
		folders[i] = parts[:len(parts)-1]
	}
	files, folders, err = splitFolders(files, folders, cfg.Split)
	if err != nil {
		return nil, err
	}
	// A folder around everything, as in most zips, says nothing; that of a
	// single class does.
	for same(folders) && deepest(folders) > 2 {
		for i := range folders {
			folders[i] = folders[i][1:]
		}
	}
	for i, p := range files {
		class, err := className(folders[i], folders[0], cfg.ClassLevels)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w: %s: %w", base, ErrUnsupported, p, err)
		}
		f.add(class)
	}
	f.files = files
	return f, nil
}

// className is the class of an image in these folders.
func className(folders, first []string, levels int) (string, error) {
	switch {
	case len(folders) == 0:
		return "", errors.New("the image is in no folder: images are in a folder for each class")
	case levels > len(folders):
		return "", fmt.Errorf("the image is %d folders deep, and %d should name its class", len(folders), levels)
	case levels > 0:
		return strings.Join(folders[:levels], "/"), nil
	case len(folders) > 2:
		return "", fmt.Errorf("the image is %d folders deep, want class/image or class/subclass/image: say how many folders name the class", len(folders))
	case len(folders) != len(first):
		return "", fmt.Errorf("the image is %d folders deep, and others are %d: say how many folders name the class", len(folders), len(first))
	}
	return strings.Join(folders, "/"), nil
}

// splitFolders takes off the first folders where all are names of splits, and
// keeps the images of the one that is wanted.
func splitFolders(files []string, folders [][]string, want string) ([]string, [][]string, error) {
	for depth := range 2 { // around everything there may be one folder more
		if depth > 0 && !same(folders) {
			break
		}
		all := !slices.ContainsFunc(folders, func(f []string) bool { return len(f) < depth+2 || splitOf(f[depth]) == "" })
		if !all {
			continue
		}
		found := make([]dataFile, len(files))
		rest := make(map[string][]string)
		for i, p := range files {
			found[i] = dataFile{path: p, split: splitOf(folders[i][depth])}
			rest[p] = folders[i][depth+1:]
		}
		found, err := chooseSplit(found, want)
		if err != nil {
			return nil, nil, err
		}
		files, folders = nil, nil
		for _, f := range found {
			files, folders = append(files, f.path), append(folders, rest[f.path])
		}
		return files, folders, nil
	}
	if want != "" {
		return nil, nil, &SplitError{Want: want}
	}
	return files, folders, nil
}

// same reports whether all images are in one folder at the top.
func same(folders [][]string) bool {
	return !slices.ContainsFunc(folders, func(f []string) bool {
		return len(f) == 0 || len(folders[0]) == 0 || f[0] != folders[0][0]
	})
}

func deepest(folders [][]string) (n int) {
	for _, f := range folders {
		n = max(n, len(f))
	}
	return n
}

func (f *imageFeed) name() string          { return f.base }
func (f *imageFeed) kind() string          { return f.what }
func (f *imageFeed) labelled() *feedLabels { return &f.feedLabels }

func (f *imageFeed) identity(w io.Writer) {
	for _, p := range f.files {
		fmt.Fprintf(w, "%q", p)
	}
}

func (f *imageFeed) close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// records implements [feed].
func (f *imageFeed) records(ctx context.Context, from int64) iter.Seq2[pipeline.Record, error] {
	return func(yield func(pipeline.Record, error) bool) {
		for _, p := range f.files[from:] {
			rec := pipeline.Record{Path: p, Where: pipeline.Location{File: f.base + "/" + p, RowGroup: -1, Row: -1}}
			err := context.Cause(ctx)
			if err == nil {
				rec.Image, err = readImageFile(f.fsys, p, f.limit)
				if err != nil {
					err = fmt.Errorf("%s: %w", rec.Where.File, err)
				}
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// readImageFile reads a file whole. A zip's word for how large it is is not taken.
func readImageFile(fsys fs.FS, p string, limit int64) ([]byte, error) {
	file, err := fsys.Open(p)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: not a regular file", ErrUnsupported)
	case info.Size() > limit:
		return nil, fmt.Errorf("%w: an image of %d bytes, limit %d", ErrMemory, info.Size(), limit)
	}
	b, err := io.ReadAll(io.LimitReader(file, info.Size()+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read: %w", unexpected(err))
	case int64(len(b)) != info.Size():
		return nil, fmt.Errorf("%w: has other than the %d bytes it is said to have", ErrCorrupt, info.Size())
	}
	return b, nil
}
