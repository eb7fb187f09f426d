package loss

import "github.com/tercet-ml/tercet/pipeline"

// BatchHard is the loss of every image of a batch as an anchor with its
// farthest positive and its nearest negative (Hermans, Beyer and Leibe 2017,
// arXiv:1703.07737, equation 5). An anchor that has both is an item. Equal
// distances go to the lower sample id. It takes O(B²·D) time and O(B·D) memory.
type BatchHard struct {
	Loss      TripletLoss // required
	Reduction Reduction   // default Mean
	Normalise bool        // as in [Triplets]
}

// Compute implements [Loss].
func (l BatchHard) Compute(ws *Workspace, grad pipeline.Embeddings, in Input) (pipeline.LossStats, error) {
	return ws.compute(grad, in, l.eval)
}

func (l BatchHard) eval(ws *Workspace, in Input) (pipeline.LossStats, error) {
	if err := needLabels(in); err != nil {
		return pipeline.LossStats{}, err
	}
	if err := ws.prepare(l.Loss, l.Reduction, l.Normalise, in); err != nil {
		return pipeline.LossStats{}, err
	}
	var t tally
	d := l.Loss.metric()
	for a := range in.Labels {
		ws.distances(d, a)
		p, n := ws.hardest(a, in)
		if p < 0 || n < 0 {
			continue
		}
		slope := t.triplet(ws, l.Loss, l.Reduction, ws.dist[p], ws.dist[n])
		ws.pull(d, a, p, ws.dist[p], slope)
		ws.pull(d, a, n, ws.dist[n], -slope)
	}
	return t.finish(ws, l.Reduction, in, t.stats.Count, t.stats.Count), nil
}

// hardest is the farthest positive and the nearest negative of a by ws.dist;
// −1 where there is none.
func (ws *Workspace) hardest(a int, in Input) (p, n int) {
	p, n = -1, -1
	for j, x := range ws.dist {
		switch {
		case in.positive(a, j):
			if p < 0 || x > ws.dist[p] || x == ws.dist[p] && in.before(j, p) {
				p = j
			}
		case in.negative(a, j):
			if n < 0 || x < ws.dist[n] || x == ws.dist[n] && in.before(j, n) {
				n = j
			}
		}
	}
	return p, n
}
