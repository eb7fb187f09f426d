package pipeline

// Unknown is the label of a sample whose class is not known: it is never
// planned and never mined.
const Unknown int32 = -1

// A Record is one row of a data set: an image as it is stored, its label and
// where it came from. Image belongs to whoever receives the Record.
type Record struct {
	ID    int64    // sample id: place in the data set, from 0
	Label int32    // class number, or Unknown
	Image []byte   // the encoded image (PNG, JPEG, GIF, WebP), or raw pixels when Raw is set
	Raw   Raw      // how to read raw pixels; zero for an encoded image
	Path  string   // the row's path or id column; empty where there is none
	Where Location // for error messages
	Err   error    // why the row cannot be used, and Image is then nil; nil unless bad rows are let through
}

// A BadRow is a row of a data set that was left out or replaced, and why.
type BadRow struct {
	ID       int64 // sample id
	Location       // where it is stored
	Reason   string
	Digest   string // hex SHA-256 of the image as it is stored; empty where there are no bytes to read
}

// SampleID implements [Sampled].
func (r Record) SampleID() int64 { return r.ID }

// Raw describes pixels that are stored without an image format. Float pixels
// are little-endian float32 in [0, 1]; the others are uint8.
type Raw struct {
	Shape
	Interleaved bool `json:"interleaved"` // H×W×C rather than C×H×W
	Float       bool `json:"float"`       // float32 rather than uint8
}

// Shape is the shape of one image: channels (1 grey, 3 RGB), height and width in pixels.
type Shape struct {
	C int `json:"c"`
	H int `json:"h"`
	W int `json:"w"`
}

// Len is C·H·W: how many values one image has.
func (s Shape) Len() int { return s.C * s.H * s.W }

// Embeddings are B rows of Dim values each, side by side in Data (B×D, row-major).
type Embeddings struct {
	Dim  int
	Data []float32
}

// MakeEmbeddings returns rows×dim zeros.
func MakeEmbeddings(rows, dim int) Embeddings {
	return Embeddings{Dim: dim, Data: make([]float32, rows*dim)}
}

// Len is the number of rows; 0 for the zero value.
func (e Embeddings) Len() int {
	if e.Dim == 0 {
		return 0
	}
	return len(e.Data) / e.Dim
}

// Row is row i, of length Dim. It shares e's memory and cannot grow into the next row.
func (e Embeddings) Row(i int) []float32 {
	return e.Data[i*e.Dim : (i+1)*e.Dim : (i+1)*e.Dim]
}

// Slice is rows i to j−1, sharing e's memory.
func (e Embeddings) Slice(i, j int) Embeddings {
	return Embeddings{Dim: e.Dim, Data: e.Data[i*e.Dim : j*e.Dim : j*e.Dim]}
}

// A Generation is the embeddings of a whole data set at one moment of a
// training run: what the cache keeps on disk of each of its refreshes.
type Generation struct {
	Number      int32
	Rows        Embeddings // N×D, row i of sample i
	Fingerprint string     // of the embedder, the preprocessing and what was updated since
	Normalised  bool       // rows have length 1
}

// Kind is the part of the partition hard, semi-hard, easy that a valid triplet
// belongs to, by its distances and the margin m.
type Kind uint8

const (
	Hard     Kind = iota // d_an ≤ d_ap
	SemiHard             // d_ap < d_an < d_ap + m
	Easy                 // d_an ≥ d_ap + m: hinge loss 0
)

// String is "hard", "semi-hard" or "easy".
func (k Kind) String() string {
	switch k {
	case Hard:
		return "hard"
	case SemiHard:
		return "semi-hard"
	default:
		return "easy"
	}
}

// A Triplet names an anchor, a positive and a negative by their positions in a
// batch. The distances and the loss were computed in float64 and rounded once.
type Triplet struct {
	Anchor, Positive, Negative int32
	AP, AN                     float32 // distances, in the unit of the miner's distance
	Loss                       float32 // of this triplet alone, ≥ 0
	Kind                       Kind
}

// A MinedTriplet names its images by sample id: what a triplet file holds.
type MinedTriplet struct {
	Anchor, Positive, Negative                int64
	AnchorLabel, PositiveLabel, NegativeLabel int32
	AP, AN, Loss                              float32
	Kind                                      Kind
	Rank                                      int32 // among the negatives of its (anchor, positive), from 0
	Generation                                int32 // of the embeddings it was mined from
	Batch                                     int64 // number of the batch it was mined in; −1 for a whole data set
}

// A MinedPair is two sample ids for the contrastive loss.
type MinedPair struct {
	Left, Right int64
	Label       int8 // 0 same class, 1 different (Hadsell, Chopra and LeCun 2006)
	Distance    float32
	Loss        float32
	Batch       int64 // as in MinedTriplet
}

// TripletMeta is what a triplet file says of itself, as plain strings and
// numbers: enough to mine it again. It is stored as JSON under the key "tercet".
type TripletMeta struct {
	FormatVersion int              `json:"format_version"`
	Content       string           `json:"content"` // "triplets" or "pairs"
	Scope         string           `json:"scope"`   // "batch" or "dataset"
	Rule          string           `json:"rule"`
	Pick          string           `json:"pick"`
	PerPair       int              `json:"per_pair"`
	Candidates    int              `json:"candidates,omitempty"` // negatives were looked for among a sample of so many rows; 0: among all
	Positives     int              `json:"positives"`            // of an anchor; −1 for all
	PositivesBy   string           `json:"positives_by"`         // "random", "hardest" or "easiest"
	Loss          string           `json:"loss"`
	Margin        float64          `json:"margin"` // in units of Distance
	Distance      string           `json:"distance"`
	Normalised    bool             `json:"normalised"` // rows were scaled to length 1 before mining
	Seed          uint64           `json:"seed"`
	Embedder      string           `json:"embedder"`
	Fingerprint   string           `json:"embedder_fingerprint"`
	Dim           int              `json:"dim"`
	ImageSize     string           `json:"image_size,omitempty"` // H×W×C that images were embedded at, as --size takes it; empty for a column
	DataDigest    string           `json:"data_digest"`
	Rows          int64            `json:"rows"`
	Classes       int              `json:"classes"`
	PairLabels    string           `json:"pair_labels,omitempty"` // "0 same, 1 different" in a pairs file
	PairMargin    float64          `json:"pair_margin,omitempty"` // of the contrastive loss in a pairs file, in euclidean distance
	P             int              `json:"p,omitempty"`           // batch scope only, as K and Batches
	K             int              `json:"k,omitempty"`
	Batches       int64            `json:"batches,omitempty"`    // of this rank
	Rank          int              `json:"rank,omitempty"`       // from 0, of the World ranks that share the batches
	World         int              `json:"world,omitempty"`      // 0 for one alone
	Short         string           `json:"short,omitempty"`      // batch scope only: what was done with classes below K images
	Window        int64            `json:"window,omitempty"`     // batch scope only: budget in bytes, where batches are made of windows of row groups
	OnBadRow      string           `json:"on_bad_row,omitempty"` // "skip" or "substitute"; empty where the first bad row ends the job
	BadRows       int64            `json:"bad_rows,omitempty"`   // rows of the data set that were left out or replaced
	Guards        []string         `json:"guards"`
	Counts        map[string]int64 `json:"counts"`
}
