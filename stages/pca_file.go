package stages

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/tercet-ml/tercet/pipeline"
)

// A stored fit is, in little-endian order: pcaMagic; C, H, W, D and the length
// of the decoder's fingerprint as uint32; the fingerprint; mean, components and
// variance as float32; and the SHA-256 of all before it.
const pcaMagic = "tercet PCA 1\n"

const pcaFixed = len(pcaMagic) + 5*4

// ErrPCA is what [UnmarshalPCA] returns wrapped for bytes that are not a fit
// of this version, whole and unchanged.
var ErrPCA = errors.New("not a stored PCA")

// encode is the stored fit without its checksum.
func (p *PCA) encode() []byte {
	text := make([]byte, 0, pcaFixed+len(p.decode)+4*(len(p.mean)+len(p.components)+len(p.variance))+sha256.Size)
	text = append(text, pcaMagic...)
	for _, v := range []int{p.shape.C, p.shape.H, p.shape.W, p.Dim(), len(p.decode)} {
		text = binary.LittleEndian.AppendUint32(text, uint32(v))
	}
	text = append(text, p.decode...)
	for _, values := range [][]float32{p.mean, p.components, p.variance} {
		for _, v := range values {
			text = binary.LittleEndian.AppendUint32(text, math.Float32bits(v))
		}
	}
	return text
}

// seal computes the digest of a fit that is complete.
func (p *PCA) seal() *PCA {
	sum := sha256.Sum256(p.encode())
	p.digest = hex.EncodeToString(sum[:])
	return p
}

// MarshalBinary implements [encoding.BinaryMarshaler]. Its error is nil.
func (p *PCA) MarshalBinary() ([]byte, error) {
	text := p.encode()
	sum := sha256.Sum256(text)
	return append(text, sum[:]...), nil
}

// UnmarshalPCA is the inverse of [PCA.MarshalBinary]. Its error wraps [ErrPCA].
// It keeps nothing of data.
func UnmarshalPCA(data []byte) (*PCA, error) {
	fail := func(format string, a ...any) (*PCA, error) {
		return nil, fmt.Errorf("%w: %s", ErrPCA, fmt.Sprintf(format, a...))
	}
	if len(data) < pcaFixed+sha256.Size || string(data[:len(pcaMagic)]) != pcaMagic {
		return fail("it does not begin with %q", pcaMagic)
	}
	text, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if want := sha256.Sum256(text); string(sum) != string(want[:]) {
		return fail("its checksum is wrong")
	}
	var n [5]uint64
	for i := range n {
		n[i] = uint64(binary.LittleEndian.Uint32(text[len(pcaMagic)+4*i:]))
	}
	const most = 1 << 14 // of any side, as in DecodeConfig; so that no product overflows
	c, h, w, dim, name := n[0], n[1], n[2], n[3], n[4]
	if c != 1 && c != 3 || h < 1 || h > most || w < 1 || w > most || dim < 1 || dim > 1<<20 {
		return fail("it says %d components of %d×%d×%d values", dim, c, h, w)
	}
	size := c * h * w
	if want := uint64(pcaFixed) + name + 4*(size+dim*size+dim); uint64(len(text)) != want {
		return fail("it has %d bytes, want %d for %d components of %d×%d×%d values", len(text), want, dim, c, h, w)
	}
	text = text[pcaFixed:]
	p := &PCA{
		decode: string(text[:name]),
		shape:  pipeline.Shape{C: int(c), H: int(h), W: int(w)},
	}
	text = text[name:]
	for _, part := range []struct {
		values *[]float32
		n      uint64
	}{{&p.mean, size}, {&p.components, dim * size}, {&p.variance, dim}} {
		*part.values = make([]float32, part.n)
		for i := range *part.values {
			v := math.Float32frombits(binary.LittleEndian.Uint32(text[4*i:]))
			if v-v != 0 { // NaN or Inf
				return fail("it holds the value %v", v)
			}
			(*part.values)[i] = v
		}
		text = text[4*part.n:]
	}
	return p.seal(), nil
}
