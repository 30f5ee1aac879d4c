package results

import (
	"fmt"
	"strings"

	"ferry/e2e/scale"
)

// growthTable shows how the stages grow.
func growthTable(r *scale.Result) string {
	var b strings.Builder
	b.WriteString("| source | stage | images | seconds | CPU s | memory, MiB | document, MB |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, source := range r.Sources {
		for _, stage := range source.Stages {
			for _, p := range stage.Points {
				fmt.Fprintf(&b, "| %s | %s | %d | %.2f | %.2f | %.0f | %.1f |\n", source.Name, stage.Name, p.Images,
					p.Wall, p.CPU, float64(p.Peak)/(1<<20), float64(p.Document)/1e6)
			}
		}
	}
	return b.String()
}

// growthGoals are the exponents of growth.
func growthGoals(r *scale.Result) []Goal {
	var goals []Goal
	for _, source := range r.Sources {
		for _, stage := range source.Stages {
			for _, fitted := range []struct {
				what string
				scale.Fit
			}{{"time", stage.Time}, {"memory", stage.Memory}} {
				if len(fitted.Points) == 0 {
					continue // lost in what starting the program costs
				}
				text := fmt.Sprintf("%s of %s: exponent over %d to %d images", fitted.what, stage.Name,
					fitted.Points[0], fitted.Points[len(fitted.Points)-1])
				goals = append(goals, Goal{Edition: source.Name, Text: text, Got: fitted.Exponent, Most: 1.1})
			}
		}
	}
	return goals
}
