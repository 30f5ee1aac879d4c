package sha256pair

import (
	"crypto/sha256"
	"hash"
	"runtime"
	"sync"
)

// Group is sums that several goroutines write to, each to its own. What two of them
// write at the same time is hashed together, by one of them, where that costs less
// (see [Fast]). The zero value is a Group.
type Group struct {
	mu      sync.Mutex
	waiting *member // nil when nobody is
}

// New returns a SHA-256 sum of the group.
func (g *Group) New() hash.Hash {
	return &member{Hash: sha256.New(), group: g, hashed: make(chan struct{}, 1)}
}

// member is a sum of a group.
type member struct {
	hash.Hash
	group  *Group
	rest   []byte        // what Write has still to hash
	hashed chan struct{} // told when another member has taken of rest
}

// Write implements hash.Hash. Who finds nobody to hash with lets the other goroutines
// run once, for that is when they come, and then waits no longer.
func (m *member) Write(p []byte) (int, error) {
	m.rest = p
	for len(m.rest) >= least && Fast() {
		if other := m.group.meet(m); other != nil {
			together(m, other)
			other.hashed <- struct{}{}
			continue
		}
		runtime.Gosched()
		if m.group.leave(m) {
			break
		}
		<-m.hashed
	}
	_, _ = m.Hash.Write(m.rest) // never fails
	m.rest = nil
	return len(p), nil
}

// meet returns the member that waits, which waits no longer, or else makes m wait.
func (g *Group) meet(m *member) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	other := g.waiting
	if other == nil {
		g.waiting = m
	} else {
		g.waiting = nil
	}
	return other
}

// leave ends the waiting of m, unless another member has begun to hash with it.
func (g *Group) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting != m {
		return false
	}
	g.waiting = nil
	return true
}

// together hashes as much for one as for the other, so that none of them waits for
// what is not its own.
func together(m, other *member) {
	n := min(len(m.rest), len(other.rest))
	both(m.Hash, m.rest[:n], other.Hash, other.rest[:n])
	m.rest, other.rest = m.rest[n:], other.rest[n:]
}
