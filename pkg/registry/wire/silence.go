package wire

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// visiblePause is how long a pause must be for a person to be told of it; a
	// run that is silent for minutes looks hung.
	visiblePause = 4 * time.Second
	// countdown is the time between two words about one pause.
	countdown = 15 * time.Second
	// maxSpread bounds how much later than asked a request goes on.
	maxSpread = 2 * time.Second
)

// silence is the pause that a registry asked for (N14). It holds for all requests
// to it, for they are counted together.
type silence struct {
	mu   sync.Mutex
	over time.Time
	told time.Time // when the last word about it was said
}

// extend makes the silence last for so long from now on, unless it does already.
func (s *silence) extend(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if over := time.Now().Add(d); d > 0 && over.After(s.over) {
		s.over = over
	}
}

// wait returns a moment after the silence, not all at once: requests that went on
// together would be refused together again. Of all who wait one counts down.
func (s *silence) wait(ctx context.Context, log *slog.Logger, host string) error {
	for {
		left, tell := s.left()
		if left <= 0 {
			return nil
		}
		if tell {
			log.Warn("the registry wants to be left alone", "host", host, "for", left.Round(time.Second))
		}
		step := left
		if left > countdown {
			step = countdown
		} else {
			step += spread(left)
		}
		if err := sleep(ctx, step); err != nil {
			return err
		}
	}
}

// left is how long the silence lasts, and whether it is time for a word.
func (s *silence) left() (left time.Duration, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	left = s.over.Sub(now)
	if left < visiblePause || now.Sub(s.told) < countdown {
		return left, false
	}
	s.told = now
	return left, true
}

// spread is up to a quarter of pause, by chance.
func spread(pause time.Duration) time.Duration {
	return rand.N(min(pause/4, maxSpread) + 1)
}
