package progress

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// unknown is a percentage or a time left that cannot be told.
const unknown = -1

// rateWindow is how far back the speed looks, roughly: short enough to show a
// stall, long enough not to flicker.
const rateWindow = 10 * time.Second

// meter counts without locks and estimates under one.
type meter struct {
	bytes, totalBytes   atomic.Int64
	images, totalImages atomic.Int64
	phase               atomic.Pointer[string]

	mu        sync.Mutex // guards the memory of the estimates below
	began     time.Time
	last      time.Time
	lastBytes int64
	rate      float64 // bytes per second
	percent   int
}

// state is what is known at one moment.
type state struct {
	phase               string
	bytes, totalBytes   int64
	images, totalImages int64
	percent             int     // 0 to 100, or unknown
	rate                float64 // bytes per second
	secondsLeft         int64   // or unknown
	elapsed             time.Duration
	done                bool
}

func (m *meter) start(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began, m.last, m.percent = now, now, unknown
}

// add counts bytes. Sizes may be those that a document names, which can be any: a sum
// that no longer fits stays what it can be at most.
func (m *meter) add(n int64) {
	if m.bytes.Add(n) < 0 {
		m.bytes.Store(math.MaxInt64)
	}
}

// read returns the state at now; done is set for the last one.
func (m *meter) read(now time.Time, done bool) state {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := state{
		bytes: m.bytes.Load(), totalBytes: m.totalBytes.Load(),
		images: m.images.Load(), totalImages: m.totalImages.Load(),
		elapsed: now.Sub(m.began), secondsLeft: unknown, done: done,
	}
	if name := m.phase.Load(); name != nil {
		s.phase = *name
	}
	m.updateRate(now, s.bytes)
	s.rate = m.rate
	if seconds := s.elapsed.Seconds(); done && seconds > 0 {
		s.rate = float64(s.bytes) / seconds
	}
	m.percent = max(m.percent, s.reached())
	s.percent = m.percent
	if left := s.totalBytes - s.bytes; s.totalBytes > 0 && s.rate > 0 {
		// Above a hundred years it is no estimate, and below it no overflow.
		if seconds := math.Ceil(float64(max(left, 0)) / s.rate); seconds < 3e9 {
			s.secondsLeft = int64(seconds)
		}
	}
	return s
}

// updateRate moves the speed towards that of the time since the last call, by
// the share of the window which that time fills.
func (m *meter) updateRate(now time.Time, bytes int64) {
	passed := now.Sub(m.last)
	if passed <= 0 {
		return
	}
	current := float64(bytes-m.lastBytes) / passed.Seconds()
	if m.last.Equal(m.began) {
		m.rate = current
	} else {
		m.rate += (current - m.rate) * -math.Expm1(-float64(passed)/float64(rateWindow))
	}
	m.rate = max(m.rate, 0)
	m.last, m.lastBytes = now, bytes
}

// reached is the percentage of this moment, without regard to earlier ones.
func (s state) reached() int {
	part, total := s.bytes, s.totalBytes
	if total <= 0 {
		part, total = s.images, s.totalImages
	}
	if total <= 0 {
		return unknown
	}
	if s.done && s.bytes >= s.totalBytes && s.images >= s.totalImages {
		return 100
	}
	return int(min(max(float64(part)/float64(total)*100, 0), 99))
}
