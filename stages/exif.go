package stages

import (
	"bytes"
	"encoding/binary"
)

// The EXIF orientation is one number in a small table. These functions find
// that table and that number and read nothing else: no lengths are trusted,
// nothing is allocated, and whatever is malformed counts as not turned.

// orientation is tag 0x0112 of the first directory of a TIFF block: how the
// stored image is turned, 1 to 8 as in the EXIF 2.3 specification, section 4.6.4.
// It is 1, upright, where there is none.
func orientation(tiff []byte) int {
	tiff = bytes.TrimPrefix(tiff, []byte("Exif\x00\x00"))
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 1
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 1
	}
	entries := tiff[at+2:]
	for range order.Uint16(tiff[at:]) {
		if len(entries) < 12 {
			return 1
		}
		tag, kind, count := order.Uint16(entries), order.Uint16(entries[2:]), order.Uint32(entries[4:])
		if tag == 0x0112 {
			v := int(order.Uint16(entries[8:]))
			if kind != 3 || count != 1 || v < 1 || v > 8 {
				return 1
			}
			return v
		}
		entries = entries[12:]
	}
	return 1
}

// jpegSegments reports whether a JPEG is progressive, and its EXIF block. One
// that cannot be followed to its pixels may be progressive: the decoder passes
// over bytes between segments.
func jpegSegments(data []byte) (progressive bool, exif []byte) {
	for at := 2; at+4 <= len(data) && data[at] == 0xff; {
		marker := data[at+1]
		if marker == 0xff { // fill byte
			at++
			continue
		}
		if marker == 0x01 || 0xd0 <= marker && marker <= 0xd8 { // without a length
			at += 2
			continue
		}
		end := at + 2 + int(binary.BigEndian.Uint16(data[at+2:]))
		if marker == 0xda { // pixels
			return progressive, exif
		}
		if marker == 0xd9 || end < at+4 || end > len(data) {
			break
		}
		body := data[at+4 : end]
		switch marker {
		case 0xe1:
			if exif == nil && bytes.HasPrefix(body, []byte("Exif\x00\x00")) {
				exif = body
			}
		case 0xc2, 0xc6, 0xca, 0xce:
			progressive = true
		}
		at = end
	}
	return true, exif
}

// pngEXIF is the body of a PNG's eXIf chunk; nil without one.
func pngEXIF(data []byte) []byte {
	for at := uint64(8); at+12 <= uint64(len(data)); {
		end := at + 12 + uint64(binary.BigEndian.Uint32(data[at:]))
		if end > uint64(len(data)) {
			return nil
		}
		if string(data[at+4:at+8]) == "eXIf" {
			return data[at+8 : end-4]
		}
		at = end
	}
	return nil
}

// webpEXIF is the body of a WebP's EXIF chunk; nil without one.
func webpEXIF(data []byte) []byte {
	for at := uint64(12); at+8 <= uint64(len(data)); {
		n := uint64(binary.LittleEndian.Uint32(data[at+4:]))
		if at+8+n > uint64(len(data)) {
			return nil
		}
		if string(data[at:at+4]) == "EXIF" {
			return data[at+8 : at+8+n]
		}
		at += 8 + n + n%2
	}
	return nil
}
