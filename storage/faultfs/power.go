package faultfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tercet-ml/tercet/storage"
)

// ErrPower is what every call fails with once the power is gone.
var ErrPower = errors.New("the power is gone")

// Power is the real file system below a folder, whose power fails at one call:
// that call and all later ones fail with [ErrPower]. [Power.Restart] then makes
// the folder what a disk may be found as. What was synced is there; what was
// not survives by chance, each block of a file and each entry of a folder by
// itself. A rename is one entry: both names change or neither does.
//
// What is in the folder to begin with is durable. Outside of it nothing happens.
type Power struct {
	root string
	at   int // the call at which it fails

	mu    sync.Mutex
	calls int
	nodes map[string]*node // what is there now, by path
	top   *node
	log   []change
}

// A node is a file or a folder.
type node struct {
	dir     bool
	content []byte // of a file: as it was written
	synced  int    // how much of it is on the disk for certain
}

// A change is of the entries of folders. The name of old, if any, goes away
// together with new's coming.
type change struct {
	oldDir, newDir *node // nil: no entry goes away, or comes
	old, new       string
	node           *node
	synced         bool
}

// NewPower returns the file system below root, whose power fails at the call of
// that number, from 0; −1 for never. Nothing else may change root.
func NewPower(root string, at int) (*Power, error) {
	p := &Power{root: filepath.Clean(root), at: at, nodes: map[string]*node{}}
	err := filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n := &node{dir: d.IsDir()}
		if !n.dir {
			if n.content, err = os.ReadFile(path); err != nil {
				return err
			}
			n.synced = len(n.content)
		}
		p.enter(path, n)
		return nil
	})
	p.top = p.nodes[p.root]
	for i := range p.log {
		p.log[i].synced = true
	}
	return p, err
}

// FS is the file system.
func (p *Power) FS() storage.FS {
	return With(power{p}, func(Call) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls++
		if p.at >= 0 && p.calls > p.at {
			return ErrPower
		}
		return nil
	})
}

// Calls is how many calls there were.
func (p *Power) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// enter logs that a node comes to a path.
func (p *Power) enter(path string, n *node) {
	if dir := p.nodes[filepath.Dir(path)]; dir != nil {
		p.log = append(p.log, change{newDir: dir, new: filepath.Base(path), node: n})
	}
	p.nodes[path] = n
}

// Restart makes the folder what is found after the power came back, when what
// was not synced survives with that probability.
func (p *Power) Restart(rng *rand.Rand, survives float64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	type entries map[string]*node
	disk := map[*node]entries{}
	for _, c := range p.log {
		if !c.synced && rng.Float64() >= survives {
			continue
		}
		if c.oldDir != nil && disk[c.oldDir][c.old] == c.node {
			delete(disk[c.oldDir], c.old)
		}
		if c.newDir != nil {
			if disk[c.newDir] == nil {
				disk[c.newDir] = entries{}
			}
			disk[c.newDir][c.new] = c.node
		}
	}
	old, err := os.ReadDir(p.root)
	if err != nil {
		return err
	}
	for _, e := range old {
		if err := os.RemoveAll(filepath.Join(p.root, e.Name())); err != nil {
			return err
		}
	}
	var write func(path string, n *node) error
	write = func(path string, n *node) error {
		if !n.dir {
			return os.WriteFile(path, n.found(rng, survives), 0o666)
		}
		if err := os.Mkdir(path, 0o777); err != nil && n != p.top {
			return err
		}
		for name, child := range disk[n] {
			if err := write(filepath.Join(path, name), child); err != nil {
				return err
			}
		}
		return nil
	}
	return write(p.root, p.top)
}

// found is the content of a file after a restart.
func (n *node) found(rng *rand.Rand, survives float64) []byte {
	const block = 512
	length := n.synced
	if rng.Float64() < survives {
		length = len(n.content)
	}
	found := append([]byte(nil), n.content[:length]...)
	for at := n.synced; at < length; at += block {
		if rng.Float64() >= survives {
			clear(found[at:min(at+block, length)])
		}
	}
	return found
}

// power is the file system without the failure.
type power struct{ *Power }

func (p power) Create(name string) (storage.File, error) {
	f, err := storage.OS.Create(name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := &node{}
	p.enter(filepath.Clean(name), n)
	return &powerFile{f, p.Power, n}, nil
}

func (p power) Open(name string) (storage.File, error)     { return storage.OS.Open(name) }
func (p power) Stat(name string) (fs.FileInfo, error)      { return storage.OS.Stat(name) }
func (p power) ReadDir(name string) ([]fs.DirEntry, error) { return storage.OS.ReadDir(name) }
func (p power) Lock(name string) (io.Closer, error)        { return storage.OS.Lock(name) }

func (p power) Mkdir(name string) error {
	if err := storage.OS.Mkdir(name); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enter(filepath.Clean(name), &node{dir: true})
	return nil
}

func (p power) Rename(old, new string) error {
	if err := storage.OS.Rename(old, new); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old, new = filepath.Clean(old), filepath.Clean(new)
	n := p.nodes[old]
	p.log = append(p.log, change{
		oldDir: p.nodes[filepath.Dir(old)], old: filepath.Base(old),
		newDir: p.nodes[filepath.Dir(new)], new: filepath.Base(new), node: n,
	})
	moved := map[string]*node{}
	for path, n := range p.nodes {
		if rest, below := strings.CutPrefix(path, old); below && (rest == "" || rest[0] == filepath.Separator) {
			moved[new+rest] = n
			delete(p.nodes, path)
		}
	}
	for path, n := range moved {
		p.nodes[path] = n
	}
	return nil
}

func (p power) Link(old, new string) error {
	if err := storage.OS.Link(old, new); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enter(filepath.Clean(new), p.nodes[filepath.Clean(old)])
	return nil
}

func (p power) Remove(name string) error {
	if err := storage.OS.Remove(name); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	name = filepath.Clean(name)
	p.log = append(p.log, change{oldDir: p.nodes[filepath.Dir(name)], old: filepath.Base(name), node: p.nodes[name]})
	delete(p.nodes, name)
	return nil
}

// SyncDir makes the entries of a folder durable.
func (p power) SyncDir(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := p.nodes[filepath.Clean(name)]
	if dir == nil {
		return fs.ErrNotExist
	}
	for i := range p.log {
		if c := &p.log[i]; c.oldDir == dir || c.newDir == dir {
			c.synced = true
		}
	}
	return nil
}

type powerFile struct {
	storage.File
	p *Power
	n *node
}

func (f *powerFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.n.content = append(f.n.content, b[:n]...)
	return n, err
}

// Sync makes what was written durable, and does not wait for the disk.
func (f *powerFile) Sync() error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.n.synced = len(f.n.content)
	return nil
}
