package progress

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Size writes n bytes for people: "1.5 GiB".
func Size(n int64) string {
	const units = "KMGTPE"
	value, unit := float64(n), -1
	// 1023.95 would be printed as 1024.0.
	for (value >= 1023.95 || value <= -1023.95) && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if unit < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// line writes a state for people, without the program's name.
func (s state) line() string {
	var parts []string
	if s.percent != unknown {
		parts = append(parts, fmt.Sprintf("%d %%", s.percent))
	}
	if s.bytes > 0 || s.totalBytes > 0 {
		parts = append(parts, of(s.bytes, s.totalBytes, Size))
	}
	if s.images > 0 || s.totalImages > 0 {
		parts = append(parts, of(s.images, s.totalImages, func(n int64) string { return fmt.Sprint(n) })+" images")
	}
	if s.bytes > 0 {
		parts = append(parts, Size(int64(s.rate))+"/s")
	}
	switch {
	case s.done:
		parts = append(parts, "in "+s.elapsed.Round(time.Second).String())
	case s.secondsLeft != unknown:
		parts = append(parts, (time.Duration(s.secondsLeft)*time.Second).String()+" left")
	}
	text := strings.Join(parts, ", ")
	if s.phase == "" || text == "" {
		return s.phase + text
	}
	return s.phase + ": " + text
}

// of writes "n of total", or n alone where the total is not known or outgrown.
func of(n, total int64, format func(int64) string) string {
	if total < n || total == 0 {
		return format(n)
	}
	return format(n) + " of " + format(total)
}

// event is a state for programs: one JSON object a line, no clock time.
type event struct {
	// Event is "progress", which tells the line from other JSON on stderr.
	Event          string  `json:"event"`
	Program        string  `json:"program"`
	Phase          string  `json:"phase"`
	Bytes          int64   `json:"bytes"`
	TotalBytes     int64   `json:"totalBytes"`
	Images         int64   `json:"images"`
	TotalImages    int64   `json:"totalImages"`
	BytesPerSecond int64   `json:"bytesPerSecond"`
	ElapsedSeconds float64 `json:"elapsedSeconds"`
	// SecondsLeft and Percent are absent while they cannot be told.
	SecondsLeft *int64 `json:"secondsLeft,omitempty"`
	Percent     *int   `json:"percent,omitempty"`
	// Done marks the last event of a run, a failed one too.
	Done bool `json:"done"`
}

func (s state) event(program string) []byte {
	e := event{
		Event: "progress", Program: program, Phase: s.phase,
		Bytes: s.bytes, TotalBytes: s.totalBytes, Images: s.images, TotalImages: s.totalImages,
		BytesPerSecond: int64(s.rate), ElapsedSeconds: s.elapsed.Round(time.Millisecond).Seconds(), Done: s.done,
	}
	if s.secondsLeft != unknown {
		e.SecondsLeft = &s.secondsLeft
	}
	if s.percent != unknown {
		e.Percent = &s.percent
	}
	text, err := json.Marshal(e)
	if err != nil { // a struct of strings and numbers cannot fail
		panic(err)
	}
	return append(text, '\n')
}
