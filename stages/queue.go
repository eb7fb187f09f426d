package stages

// A queued waits in a [queue]: the smaller key comes first, and of equal
// keys the smaller tie.
type queued struct {
	key, tie uint64
	who      uint32
}

func (t queued) before(o queued) bool {
	return t.key < o.key || t.key == o.key && (t.tie < o.tie || t.tie == o.tie && t.who < o.who)
}

// A queue gives back the first of those that were put into it: a binary
// heap. What it gives does not depend on the order they were put in.
type queue []queued

func (q *queue) put(t queued) {
	h := append(*q, t)
	i := len(h) - 1
	for i > 0 && t.before(h[(i-1)/2]) {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = t
	*q = h
}

// take removes the first. There is one.
func (q *queue) take() queued {
	h := *q
	first, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	*q = h
	i := 0
	for 2*i+1 < len(h) {
		child := 2*i + 1
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	if len(h) > 0 {
		h[i] = last
	}
	return first
}
