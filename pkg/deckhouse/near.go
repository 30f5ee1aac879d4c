package deckhouse

import (
	"cmp"
	"slices"
	"strings"
)

// near returns up to three of the names that someone who wrote name may have
// meant, the most likely first.
func near(name string, names []string) []string {
	type guess struct {
		name     string
		distance int
	}
	var guesses []guess
	for _, n := range names {
		d := distance(name, n)
		if d <= 1+len(name)/4 || strings.Contains(n, name) || strings.Contains(name, n) {
			guesses = append(guesses, guess{n, d})
		}
	}
	slices.SortFunc(guesses, func(a, b guess) int { return cmp.Or(a.distance-b.distance, strings.Compare(a.name, b.name)) })
	var out []string
	for _, g := range guesses[:min(3, len(guesses))] {
		out = append(out, g.name)
	}
	return out
}

// distance is the number of bytes to insert, delete or replace to get from a to
// b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
