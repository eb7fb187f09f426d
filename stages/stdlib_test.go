package stages

import (
	"bytes"
	"go/build"
	"image"
	"os"
	"path/filepath"
	"testing"

	_ "image/gif"
	_ "image/jpeg"
	_ "image/png"
)

// The image package's own test images: progressive, CMYK and RGB JPEG, PNG of
// every depth. They come with Go.
func TestDecodeTheImagesOfTheStandardLibrary(t *testing.T) {
	var files []string
	for _, pattern := range []string{"testdata/video-*", "png/testdata/pngsuite/*.png"} {
		found, err := filepath.Glob(filepath.Join(build.Default.GOROOT, "src", "image", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skip("this Go comes without its test images")
	}
	read := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ref, _, err := image.Decode(bytes.NewReader(data))
		if err != nil || FormatOf(data) == "" {
			continue // a text that describes the others
		}
		shape, got, err := decodeOne(newDecode(t, DecodeConfig{}), data)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		read++
		for y := range shape.H {
			for x := range shape.W {
				r, g, b, a := ref.At(x, y).RGBA()
				for k, v := range []uint32{r, g, b} {
					if p := got[(k*shape.H+y)*shape.W+x]; p != float32(v+0xffff-a)/0xffff {
						t.Fatalf("%s: pixel (%d, %d) of channel %d is %v, and the image package says %v", file, x, y, k, p, ref.At(x, y))
					}
				}
			}
		}
	}
	if read < 20 {
		t.Errorf("only %d images could be read", read)
	}
}
