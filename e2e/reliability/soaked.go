package reliability

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// SoakLog is the file, below the root of the repository, to which "make soak" adds
// a line for each run that came to its end.
const SoakLog = "e2e/reliability/soak.txt"

// Soaked is what one soak did. Seconds is how long, Losses what was missing or
// wrong at the end of a loop.
type Soaked struct{ Seconds, Loops, Runs, Faults, Kills, Losses int64 }

var soakLine = regexp.MustCompile(`^([0-9]+) s: ([0-9]+) loops, ([0-9]+) runs of stages, ([0-9]+) faults \([^)]*\), ([0-9]+) kills, ([0-9]+) losses, seed [0-9]+$`)

// ReadSoaked reads a log.
func ReadSoaked(path string) ([]Soaked, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var soaked []Soaked
	for line := range strings.Lines(string(text)) {
		m := soakLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			return nil, fmt.Errorf("%s:%d: %q is not a soak", path, len(soaked)+1, line)
		}
		var s Soaked
		for i, to := range []*int64{&s.Seconds, &s.Loops, &s.Runs, &s.Faults, &s.Kills, &s.Losses} {
			if *to, err = strconv.ParseInt(m[i+1], 10, 64); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, len(soaked)+1, err)
			}
		}
		soaked = append(soaked, s)
	}
	return soaked, nil
}
