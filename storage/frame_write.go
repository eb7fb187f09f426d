package storage

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/tercet-ml/tercet/pipeline"
)

// A frameEncoder writes frames in one format.
type frameEncoder interface {
	write(f frame) error
	close(meta string) error // Parquet keeps its metadata at the end; the others were given it
}

// A frameWriter writes a triplet or pairs file. Arrow files and JSON lines have
// their metadata first, and its counts are known last: their rows wait in a
// Parquet file aside, which never gets a name.
type frameWriter struct {
	format fileFormat
	draft  *Draft
	aside  *Draft // nil for Parquet
	buf    *bufio.Writer
	enc    frameEncoder
	layout frame
	digest *frameDigest
	err    error
}

func newFrameWriter(fsys FS, path string, overwrite bool, layout frame) (*frameWriter, error) {
	format, err := formatOf(path)
	if err != nil {
		return nil, err
	}
	if fsys == nil {
		fsys = OS
	}
	w := &frameWriter{format: format, layout: layout.like(), digest: newFrameDigest()}
	if w.draft, err = NewDraft(fsys, path, overwrite); err != nil {
		return nil, err
	}
	first := w.draft
	if format != formatParquet {
		if w.aside, err = NewDraft(fsys, path+".rows", true); err != nil {
			w.abort()
			return nil, err
		}
		first = w.aside
	}
	w.buf = bufio.NewWriterSize(first, 1<<16)
	err = w.guard(func() error {
		w.enc = newParquetEncoder(w.buf, w.layout)
		return nil
	})
	return w, err
}

// write appends a frame of at most frameRows rows.
func (w *frameWriter) write(f frame) error {
	return w.guard(func() error {
		w.digest.add(f)
		return w.enc.write(f)
	})
}

// close writes the metadata and gives the file its name.
func (w *frameWriter) close(meta pipeline.TripletMeta) error {
	err := w.guard(func() error {
		sealed, err := w.digest.seal(meta)
		if err != nil {
			return err
		}
		text, err := json.Marshal(sealed)
		if err != nil {
			return fmt.Errorf("encode metadata: %w", err)
		}
		if err := w.finish(string(text)); err != nil {
			return err
		}
		if w.aside != nil {
			if err := w.convert(string(text)); err != nil {
				return err
			}
		}
		return w.draft.Commit()
	})
	if err == nil {
		w.err = errClosed
		w.abort() // of the rows aside
	}
	return err
}

// finish ends the encoder and writes what is buffered.
func (w *frameWriter) finish(meta string) error {
	if err := w.enc.close(meta); err != nil {
		return err
	}
	return w.buf.Flush()
}

// convert copies the rows from aside to the draft, behind the metadata.
func (w *frameWriter) convert(meta string) error {
	dec, err := newParquetDecoder(io.NewSectionReader(w.aside, 0, w.aside.Size()), w.aside.Size())
	if err != nil {
		return err
	}
	w.buf.Reset(w.draft)
	if w.format == formatArrow {
		w.enc, err = newArrowEncoder(w.buf, w.layout, meta)
	} else {
		w.enc = newJSONEncoder(w.buf, meta)
	}
	if err != nil {
		return err
	}
	f := w.layout.like()
	for i := range dec.blocks() {
		if err := dec.read(i, f); err != nil {
			return err
		}
		if err := w.enc.write(f); err != nil {
			return err
		}
	}
	return w.finish(meta)
}

// guard calls f and makes its failure the writer's end. The Parquet library
// panics at some failed writes, so the draft's own error comes first.
func (w *frameWriter) guard(f func() error) (err error) {
	if w.err != nil {
		return w.err
	}
	defer func() {
		if r := recover(); r != nil {
			err = caught(r)
		}
		if err == nil {
			return
		}
		err = fmt.Errorf("write %s: %w", w.draft.path, err)
		for _, d := range []*Draft{w.aside, w.draft} {
			if d != nil && d.Err() != nil {
				err = d.Err() // names its file
			}
		}
		w.err = err
		w.abort()
	}()
	return f()
}

// failed is the error that was the writer's end.
func (w *frameWriter) failed() error { return w.err }

func (w *frameWriter) abort() {
	if w.err == nil {
		w.err = errClosed
	}
	w.draft.Abort()
	if w.aside != nil {
		w.aside.Abort()
	}
}
