package results

import (
	_ "embed"
	"strings"
	"text/template"
)

//go:embed page.md.tmpl
var pageText string

// Page renders docs/performance.md from the runs.
func Page(runs []*Run) (string, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"goals": func(r *Run) string { return GoalTable(r.Goals()) },
		"gb":    gb,
		"mb":    func(bytes int64) float64 { return float64(bytes) / 1e6 },
	}).Parse(pageText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, runs)
	return b.String(), err
}
