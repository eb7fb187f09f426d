package storage

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tercet-ml/tercet/pipeline"
)

// roles are the columns of one shard that a data set reads; nil for those it
// does not have.
type roles struct {
	image, label, id, group, embedding *column
}

// A role is what a column is for, and how it is found: by the name in [Config],
// or as the first of these names with a suitable kind.
type role struct {
	name  string
	names []string
	kinds []kind
}

var (
	imageRole     = role{"image", []string{"image", "img", "bytes", "png", "jpg", "pixels"}, []kind{kindImage, kindBinary, kindPixels, kindFloats}}
	labelRole     = role{"label", []string{"label", "labels", "class", "fine_label", "target", "y"}, []kind{kindInt, kindString}}
	idRole        = role{"id", []string{"id", "path", "file_name", "filename", "key"}, []kind{kindInt, kindString}}
	groupRole     = role{"group", []string{"group"}, []kind{kindInt, kindString}}
	embeddingRole = role{"embedding", []string{"embedding", "embeddings", "vector", "emb", "features"}, []kind{kindFloats}}
)

// find returns the column that plays the role, or nil when none does and none
// was asked for.
func (r role) find(s shard, want string) (*column, error) {
	columns := s.columns()
	names := r.names
	if want != "" {
		names = []string{want}
	}
	var misfit *column
	for _, name := range names {
		i := slices.IndexFunc(columns, func(c column) bool { return c.name == name })
		if i < 0 {
			continue
		}
		c := columns[i]
		if slices.Contains(r.kinds, c.kind) {
			return &c, nil
		}
		if misfit == nil {
			misfit = &c
		}
	}
	fail := &ColumnError{File: s.path(), Role: r.name, Want: want, Found: describe(columns)}
	switch {
	case misfit != nil && (want != "" || misfit.kind == kindFloat && r.name == "label" || misfit.kind == kindPath && r.name == "image"):
		fail.Want = misfit.name
		fail.Hint = misfitHint(r.name, *misfit)
		return nil, fail
	case want != "":
		fail.Hint = "there is no column of that name"
		return nil, fail
	}
	return nil, nil
}

// misfitHint says why a column cannot play a role, and what to do.
func misfitHint(role string, c column) string {
	switch {
	case role == "label" && c.kind == kindFloat:
		return fmt.Sprintf("it holds floating-point numbers (%s), labels are integers or strings: convert it", c.typ)
	case c.kind == kindPath:
		return fmt.Sprintf("it holds the paths of images (%s), not images: embed the images in the file", c.typ)
	default:
		return fmt.Sprintf("its type is %s", c.typ)
	}
}

func describe(columns []column) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = fmt.Sprintf("%s %s", c.name, c.typ)
	}
	return all
}

// findRoles chooses the columns of a shard. There has to be a label, and an
// image or an embedding.
func findRoles(s shard, cfg Config) (r roles, err error) {
	for _, f := range []struct {
		role role
		want string
		dst  **column
	}{
		{imageRole, cfg.ImageColumn, &r.image}, {labelRole, cfg.LabelColumn, &r.label}, {idRole, cfg.IDColumn, &r.id},
		{groupRole, cfg.GroupColumn, &r.group}, {embeddingRole, cfg.EmbeddingColumn, &r.embedding},
	} {
		if *f.dst, err = f.role.find(s, f.want); err != nil {
			return r, err
		}
	}
	if r.label == nil {
		return r, &ColumnError{File: s.path(), Role: "label", Found: describe(s.columns())}
	}
	if r.image == nil && r.embedding == nil {
		return r, &ColumnError{File: s.path(), Role: "image", Found: describe(s.columns()), Hint: "and no embedding column either"}
	}
	if image := r.image; image != nil && image.kind == kindBinary && image.width > 0 && image.tensor == "" {
		image.tensor = s.metadata(pixelsKey) // "" where nobody says the shape
	}
	if r.id == nil && r.image != nil && r.image.hasPath {
		path := *r.image
		path.kind = kindPath
		r.id = &path
	}
	return r, nil
}

// agree makes sure that a shard has the columns and types of the first one.
func (r roles) agree(first roles, file, firstFile string) error {
	for _, p := range []struct {
		role      string
		have, ref *column
	}{
		{"image", r.image, first.image}, {"label", r.label, first.label}, {"id", r.id, first.id},
		{"group", r.group, first.group}, {"embedding", r.embedding, first.embedding},
	} {
		have, want := "no such column", "no such column"
		if p.have != nil {
			have = fmt.Sprintf("column %q (%s)", p.have.name, p.have.typ)
		}
		if p.ref != nil {
			want = fmt.Sprintf("column %q (%s)", p.ref.name, p.ref.typ)
		}
		same := p.have == nil && p.ref == nil || p.have != nil && p.ref != nil && p.have.name == p.ref.name &&
			p.have.kind == p.ref.kind && p.have.width == p.ref.width && p.have.tensor == p.ref.tensor
		if !same {
			return fmt.Errorf("%s: %w: %s is %s, in %s it is %s", file, ErrSchema, p.role, have, firstFile, want)
		}
	}
	return nil
}

// classNames are the names of the values of a label column, from the metadata
// that Hugging Face's datasets writes; nil where there are none.
func classNames(s shard, label string) ([]string, error) {
	text := s.metadata("huggingface")
	if text == "" {
		return nil, nil
	}
	var meta struct {
		Info struct {
			Features map[string]json.RawMessage `json:"features"`
		} `json:"info"`
	}
	if err := json.Unmarshal([]byte(text), &meta); err != nil {
		return nil, fmt.Errorf("%s: %w: metadata \"huggingface\": %w", s.path(), ErrSchema, err)
	}
	var feature struct {
		Type  string   `json:"_type"`
		Names []string `json:"names"`
	}
	raw, ok := meta.Info.Features[label]
	if !ok || json.Unmarshal(raw, &feature) != nil || feature.Type != "ClassLabel" {
		return nil, nil // another kind of feature, which says nothing about names
	}
	seen := make(map[string]bool, len(feature.Names))
	for _, name := range feature.Names {
		if seen[name] {
			return nil, fmt.Errorf("%s: %w: class name %q comes twice in metadata \"huggingface\"", s.path(), ErrSchema, name)
		}
		seen[name] = true
	}
	return feature.Names, nil
}

// rawLayout says how the pixels in c are to be read: by the tensor type's
// metadata, by the shape that was asked for, or as a square grey image of width
// values. Encoded images have the zero Raw.
func rawLayout(c column, width int, asked pipeline.Shape) (pipeline.Raw, error) {
	raw := pipeline.Raw{Float: c.kind == kindFloats}
	switch {
	case c.tensor != "":
		var err error
		if raw.Shape, raw.Interleaved, err = tensorShape(c.tensor); err != nil {
			return raw, err
		}
	case asked != (pipeline.Shape{}):
		raw.Shape = asked
	default:
		side := 0
		for side*side < width {
			side++
		}
		if side*side != width || width == 0 {
			return raw, fmt.Errorf("%w: %d values are not a square grey image: set the shape", ErrSchema, width)
		}
		raw.Shape = pipeline.Shape{C: 1, H: side, W: side}
	}
	if s := raw.Shape; s.C < 1 || s.H < 1 || s.W < 1 || s.C > maxSide || s.H > maxSide || s.W > maxSide {
		return raw, fmt.Errorf("%w: images of shape %d×%d×%d", ErrSchema, s.C, s.H, s.W)
	}
	size := raw.Len()
	if c.kind == kindBinary && width == 4*size {
		raw.Float = true
		return raw, nil
	}
	if width != 0 && size != width {
		return raw, fmt.Errorf("%w: %d values are not %d×%d×%d (%d): set the shape", ErrSchema, width, raw.C, raw.H, raw.W, size)
	}
	return raw, nil
}

// maxSide is how many pixels a raw image may have along one side.
const maxSide = 1 << 20

// tensorShape reads the metadata of an arrow.fixed_shape_tensor: [H, W], or
// [C, H, W] or [H, W, C], told apart by dim_names or by where 1 or 3 stands.
// (https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor)
func tensorShape(text string) (s pipeline.Shape, interleaved bool, err error) {
	var meta struct {
		Shape       []int    `json:"shape"`
		DimNames    []string `json:"dim_names"`
		Permutation []int    `json:"permutation"`
	}
	if err := json.Unmarshal([]byte(text), &meta); err != nil {
		return s, false, fmt.Errorf("%w: metadata of arrow.fixed_shape_tensor: %w", ErrSchema, err)
	}
	for i, p := range meta.Permutation {
		if p != i {
			return s, false, fmt.Errorf("%w: arrow.fixed_shape_tensor with a permutation %v", ErrUnsupported, meta.Permutation)
		}
	}
	d := meta.Shape
	channels := func(n int) bool { return n == 1 || n == 3 }
	switch {
	case len(d) == 2:
		return pipeline.Shape{C: 1, H: d[0], W: d[1]}, false, nil
	case len(d) == 3 && len(meta.DimNames) == 3 && (meta.DimNames[2] == "C" || meta.DimNames[2] == "c" || meta.DimNames[2] == "channel" || meta.DimNames[2] == "channels"):
		return pipeline.Shape{C: d[2], H: d[0], W: d[1]}, true, nil
	case len(d) == 3 && channels(d[0]):
		return pipeline.Shape{C: d[0], H: d[1], W: d[2]}, false, nil
	case len(d) == 3 && channels(d[2]):
		return pipeline.Shape{C: d[2], H: d[0], W: d[1]}, true, nil
	}
	return s, false, fmt.Errorf("%w: a tensor of shape %v is not an image", ErrSchema, d)
}
