package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/storage"
)

// jpegs writes RGB images of 40×32 pixels. Rows 0 to 7 are one picture of an F,
// stored in each of the eight orientations of EXIF: decoded, they look alike.
func jpegs(made files, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	var rows []storage.Row
	add := func(class int, picture *image.RGBA, orientation int) error {
		stored, err := encodeJPEG(orient(picture, orientation), orientation)
		rows = append(rows, storage.Row{Record: pipeline.Record{
			Label: int32(class), Image: stored, Path: fmt.Sprintf("%s-%02d.jpg", few[class], len(rows)),
		}})
		return err
	}
	picture := func(class int) (*image.RGBA, error) {
		g, err := drawGlyph(rng, few[class])
		if err != nil {
			return nil, err
		}
		return g.tinted(rng), nil
	}
	same, err := picture(5)
	if err != nil {
		return err
	}
	for orientation := 1; orientation <= 8; orientation++ {
		if err := add(5, same, orientation); err != nil {
			return err
		}
	}
	for i := range 20 {
		class := i % 5
		p, err := picture(class)
		if err != nil {
			return err
		}
		if err := add(class, p, 0); err != nil {
			return err
		}
	}
	return made.write("formats/jpeg.parquet", storage.RecordWriterConfig{Classes: few, GroupRows: 10}, rows)
}

// orient is m stored so that a reader who honours the orientation sees m. Below
// 2 it is m itself.
func orient(m *image.RGBA, orientation int) *image.RGBA {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	size := image.Rect(0, 0, w, h)
	if orientation >= 5 {
		size = image.Rect(0, 0, h, w)
	}
	out := image.NewRGBA(size)
	for y := range h {
		for x := range w {
			u, v := x, y // where the pixel is stored
			switch orientation {
			case 2:
				u = w - 1 - x
			case 3:
				u, v = w-1-x, h-1-y
			case 4:
				v = h - 1 - y
			case 5:
				u, v = y, x
			case 6:
				u, v = y, w-1-x
			case 7:
				u, v = h-1-y, w-1-x
			case 8:
				u, v = h-1-y, x
			}
			out.SetRGBA(u, v, m.RGBAAt(x, y))
		}
	}
	return out
}

// encodeJPEG encodes m, with an EXIF segment when the orientation is not 0.
func encodeJPEG(m image.Image, orientation int) ([]byte, error) {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, m, &jpeg.Options{Quality: 90}); err != nil || orientation == 0 {
		return out.Bytes(), err
	}
	exif := []byte("Exif\x00\x00II*\x00\x08\x00\x00\x00")
	exif = binary.LittleEndian.AppendUint16(exif, 1)      // entries
	exif = binary.LittleEndian.AppendUint16(exif, 0x0112) // tag: orientation
	exif = binary.LittleEndian.AppendUint16(exif, 3)      // type: 16 bits
	exif = binary.LittleEndian.AppendUint32(exif, 1)      // values
	exif = binary.LittleEndian.AppendUint32(exif, uint32(orientation))
	exif = binary.LittleEndian.AppendUint32(exif, 0) // no next directory
	plain := out.Bytes()
	stored := append([]byte{}, plain[:2]...) // the start-of-image marker
	stored = append(stored, 0xff, 0xe1)
	stored = binary.BigEndian.AppendUint16(stored, uint16(len(exif)+2))
	stored = append(stored, exif...)
	return append(stored, plain[2:]...), nil
}
