package stage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// programs are ferry's, in the order of the pipe.
var programs = []string{"discover", "select", "fetch", "pack", "unpack", "publish"}

// manual returns the manual page in roff, for man(1). It names no date, so that
// the same release has the same page.
func manual(env Env, cmd Command, model *kong.Application) string {
	var m page
	m.macro("TH", strings.ToUpper(cmd.program()), "1", "", "ferry "+env.Version, "ferry manual")
	m.section("NAME")
	m.text(cmd.program() + " - " + cmd.Summary)
	m.section("SYNOPSIS")
	if model.DefaultCmd != nil {
		m.macro("B", cmd.program())
		m.text(strings.Join(append(defaultWords(model), "[flags]"), " "))
		m.macro("br")
	}
	for _, node := range append([]*kong.Node{model.Node}, model.Leaves(true)...) {
		if node.Leaf() {
			m.macro("B", cmd.program())
			m.text(node.Summary())
			m.macro("br")
		}
	}
	m.section("DESCRIPTION")
	m.prose(cmd.Description)
	m.section("OPTIONS")
	if model.DefaultCmd != nil {
		m.options(model.DefaultCmd)
	}
	m.options(model.Node)
	for _, node := range model.Leaves(true) {
		if node.Type == kong.CommandNode {
			m.macro("SS", node.Path())
			m.text(node.Help)
			m.options(node)
		}
	}
	m.section("DOCUMENTS")
	m.literal(contracts(cmd))
	m.section("EXIT STATUS")
	for _, e := range exits {
		m.item(fmt.Sprint(e.code), e.meaning)
	}
	m.environment(cmd, model)
	m.section("SEE ALSO")
	var others []string
	for _, name := range programs {
		if name != cmd.Name {
			others = append(others, "ferry-"+name+"(1)")
		}
	}
	m.text(strings.Join(others, ", "))
	return m.String()
}

// page writes roff, and escapes what would be taken for it.
type page struct{ strings.Builder }

func (m *page) macro(name string, args ...string) {
	m.WriteString("." + name)
	for _, arg := range args {
		m.WriteString(` "` + strings.ReplaceAll(escape(arg), `"`, `\(dq`) + `"`)
	}
	m.WriteByte('\n')
}

func (m *page) section(title string) { m.macro("SH", title) }

// text writes lines that man fills.
func (m *page) text(s string) {
	for line := range strings.Lines(s) {
		line = escape(strings.TrimSpace(line))
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line // else a macro call
		}
		m.WriteString(line + "\n")
	}
}

// literal writes lines that stay as they are.
func (m *page) literal(s string) {
	m.macro("nf")
	m.text(s)
	m.macro("fi")
}

// prose writes paragraphs; one whose first line is indented is literal.
func (m *page) prose(s string) {
	for i, paragraph := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		if i > 0 {
			m.macro("PP")
		}
		if strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t") {
			m.macro("RS", "4")
			m.literal(paragraph)
			m.macro("RE")
			continue
		}
		m.text(paragraph)
	}
}

func (m *page) item(name, help string) {
	m.macro("TP")
	m.macro("B", name)
	m.text(help)
}

func (m *page) options(node *kong.Node) {
	for _, p := range node.Positional {
		m.item(p.Summary(), helpText(p))
	}
	for _, f := range node.Flags {
		if !f.Hidden {
			m.item(f.String(), helpText(f.Value))
		}
	}
}

// environment lists the variables behind flags and those of the command.
func (m *page) environment(cmd Command, model *kong.Application) {
	variables := append(slices.Clone(cmd.Environment),
		Variable{"NO_COLOR, FORCE_COLOR", "The summary has colours on a terminal; the first removes them, the second has them in files too."},
		Variable{startedVariable, "When the chain of programs began, in seconds since 1970: the summary then tells the time of the whole chain."})
	for _, node := range append([]*kong.Node{model.Node}, model.Leaves(true)...) {
		for _, f := range node.Flags {
			for _, name := range f.Envs {
				variables = append(variables, Variable{name, "Stands for --" + f.Name + " where that is not given."})
			}
		}
	}
	m.section("ENVIRONMENT")
	for _, v := range variables {
		m.item(v.Name, v.Help)
	}
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(s)
}
