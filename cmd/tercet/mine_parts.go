package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tercet-ml/tercet/pipeline"
	"github.com/tercet-ml/tercet/stages"
	"github.com/tercet-ml/tercet/storage"
)

// A part of a mining job ends, behind a block of anchors or a batch, when it
// took partTime or has partBytes: what a kill can cost. Where the parts end
// decides nothing.
var (
	partTime        = 10 * time.Second
	partBytes int64 = 256 << 20
)

// A partMark is what a part says of itself.
type partMark struct {
	Embeddings string            `json:"embeddings"` // digest of those that were mined from, and of the bad rows among them
	Next       int64             `json:"next"`       // what the next part begins with, as in stages.Stretch
	Last       bool              `json:"last"`       // there is no next part
	Report     stages.MineReport `json:"report"`     // of all parts so far
}

// mineSettings are what the parts of a mining job depend on, and can be known
// before anything is embedded.
type mineSettings struct {
	pipeline.TripletMeta
	Dim   int    `json:"dim"` // as it was asked for
	Size  string `json:"size"`
	Parts int    `json:"parts_format"`
}

// openParts begins the job, or goes on with it.
func (j *mineJob) openParts(set *storage.Dataset) (*storage.Job, error) {
	settings := mineSettings{
		TripletMeta: j.planned(set), Dim: j.flags.dim, Size: j.flags.size, Parts: storage.MinedFormat,
	}
	settings.Embedder = j.flags.embedder
	return storage.OpenJob(storage.JobConfig{
		Output: j.flags.out, Settings: settings, Resume: j.flags.resume, Overwrite: j.flags.overwrite,
	})
}

// mineParts mines what is not in parts yet and commits it, and returns the mark
// of the last part. When it is interrupted, what was whole is committed first.
func (m *mining) mineParts(ctx context.Context, job *storage.Job, embeddings string) (mark partMark, err error) {
	parts := job.Parts()
	if n := len(parts); n > 0 {
		if err := json.Unmarshal(parts[n-1].Info, &mark); err != nil {
			return mark, fmt.Errorf("%s: %w: %w", job.Path(parts[n-1]), storage.ErrCorrupt, err)
		}
		if mark.Embeddings != embeddings {
			return mark, &storage.MismatchError{File: job.Path(parts[n-1]), Field: "embeddings", Have: mark.Embeddings, Want: embeddings}
		}
		if mark.Last {
			return mark, nil
		}
	}
	mark.Embeddings = embeddings
	stretches, err := m.stretches(mark.Next)
	if err != nil {
		return mark, err
	}
	var (
		part  *storage.PartWriter
		since time.Time
		buf   []byte
	)
	begin := func() error {
		next, err := job.Create(fmt.Sprintf("%08d", len(job.Parts())))
		if err == nil {
			part, since = next, time.Now()
		}
		return err
	}
	if err := begin(); err != nil {
		return mark, err
	}
	defer func() { part.Abort() }()
	for st, err := range stretches.All(ctx) {
		if err != nil {
			if part.Size() > 0 && ctx.Err() != nil {
				err = errors.Join(err, part.Commit(mark))
			}
			return mark, err
		}
		buf = storage.AppendMined(buf[:0], st.Triplets)
		if _, err := part.Write(buf); err != nil {
			return mark, err
		}
		mark.Next = st.Next
		mark.Report.Add(&st.Report)
		if time.Since(since) > partTime || part.Size() > partBytes {
			if err := part.Commit(mark); err != nil {
				return mark, err
			}
			if err := begin(); err != nil {
				return mark, err
			}
		}
	}
	mark.Last = true
	return mark, part.Commit(mark)
}

// minedFrom is the digest of what is known once everything is embedded.
func (j *mineJob) minedFrom(emb *embedded) string {
	from := []string{emb.Digest}
	if j.bad != nil {
		from = append(from, j.bad.Digest())
	}
	return pipeline.Digest("mined from", from)
}

// there reports whether the output is that of this very job already: what a
// process that was killed behind the last rename has left. An output of other
// settings is a [*storage.MismatchError].
func (j *mineJob) there(want pipeline.TripletMeta) (done bool, rows int64, counts map[string]int64, err error) {
	if !j.goesOnBehind() {
		return false, 0, nil, nil
	}
	rows, counts, err = storage.CheckWritten(j.flags.out, want)
	if err != nil {
		return false, 0, nil, err
	}
	for _, path := range []string{j.flags.out, j.flags.out + ".rows"} {
		storage.SweepDrafts(storage.OS, path)
	}
	return true, rows, counts, nil
}

// goesOnBehind reports whether there is an output that the job may have written.
func (j *mineJob) goesOnBehind() bool {
	_, err := os.Lstat(j.flags.out)
	return err == nil && j.flags.resume && !j.flags.overwrite
}
