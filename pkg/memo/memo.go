// Package memo computes values once per key, however many goroutines ask for them at
// the same time. The zero value of each type is ready; none may be copied after its
// first use.
package memo

import "sync"

// Slots has a zero E for each key, made when it is first asked for.
type Slots[K comparable, E any] struct {
	mu      sync.Mutex
	entries map[K]*E
}

// At returns the E of the key.
func (s *Slots[K, E]) At(key K) *E {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries == nil {
		s.entries = map[K]*E{}
	}
	if s.entries[key] == nil {
		s.entries[key] = new(E)
	}
	return s.entries[key]
}

// Once computes a value once per key; a failure is what it stays at, too.
type Once[K comparable, V any] struct {
	slots Slots[K, onceEntry[V]]
}

type onceEntry[V any] struct {
	once  sync.Once
	value V
	err   error
}

// Get returns what compute returned when the key was first asked for. Who asks
// meanwhile waits.
func (m *Once[K, V]) Get(key K, compute func() (V, error)) (V, error) {
	e := m.slots.At(key)
	e.once.Do(func() { e.value, e.err = compute() })
	return e.value, e.err
}

// Settled computes a value once per key that succeeds.
type Settled[K comparable, V any] struct {
	slots Slots[K, settledEntry[V]]
}

type settledEntry[V any] struct {
	mu    sync.Mutex
	done  bool
	value V
}

// Get returns what the first compute that succeeded returned. Who asks at the same time
// waits; after a failure the next one tries, perhaps in another place.
func (s *Settled[K, V]) Get(key K, compute func() (V, error)) (V, error) {
	e := s.slots.At(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done {
		return e.value, nil
	}
	value, err := compute()
	if err == nil {
		e.value, e.done = value, true
	}
	return value, err
}
