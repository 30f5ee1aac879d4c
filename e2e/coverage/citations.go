package coverage

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Citation matches what comments, tests and pages cite: "S3.6.7", "S3.2 row
// 14", "S9 rows 52, 55 and 82", "S3.2 rows 1 to 34", "B1".
var Citation = regexp.MustCompile(`\b(?:(S[0-9]+(?:\.[0-9]+)*)(?: rows? ([0-9]+(?:(?:, | and | to )[0-9]+)*))?|[BNQ][0-9]+)\b`)

var numberOrTo = regexp.MustCompile(`[0-9]+| to `)

// Cited returns the names that text cites, in its order.
func Cited(text string) []string {
	var names []string
	for _, m := range Citation.FindAllStringSubmatch(text, -1) {
		if m[2] == "" {
			names = append(names, m[0])
			continue
		}
		for _, row := range rows(m[2]) {
			names = append(names, m[1]+" row "+strconv.Itoa(row))
		}
	}
	return names
}

// rows expands "1 to 3, 7 and 9".
func rows(list string) []int {
	var out []int
	to := false
	for _, word := range numberOrTo.FindAllString(list, -1) {
		n, err := strconv.Atoi(word)
		if err != nil {
			to = true
			continue
		}
		for to && len(out) > 0 && out[len(out)-1] < n-1 {
			out = append(out, out[len(out)-1]+1)
		}
		to = false
		out = append(out, n)
	}
	return out
}

// Test is a test function, or a function of a suite that tests call.
type Test struct {
	Package string // "pkg/deckhouse"
	File    string // "pkg/deckhouse/select_test.go"
	Name    string // "TestSelect"
}

// Citations returns the tests below root's directories by the rule that they
// cite: in comments or strings, their own or those of what they use in their
// package's test code.
func Citations(root string, dirs ...string) (map[string][]Test, error) {
	out := map[string][]Test{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() || d.Name() == "testdata" {
				return err
			}
			return readPackage(root, path, out)
		})
		if err != nil {
			return nil, err
		}
	}
	for rule, tests := range out {
		slices.SortFunc(tests, func(a, b Test) int { return strings.Compare(a.File+" "+a.Name, b.File+" "+b.Name) })
		out[rule] = slices.Compact(tests)
	}
	return out, nil
}

// decl is a top-level declaration of test code.
type decl struct {
	file  string
	test  bool // a test function
	table bool // a variable or constant
	cites map[string]bool
	uses  map[string]bool // names of the package that it mentions
}

// readPackage adds what the tests of one directory cite.
func readPackage(root, dir string, out map[string][]Test) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	decls := map[string][]*decl{}
	for _, file := range files {
		if err := readFile(file, decls); err != nil {
			return err
		}
	}
	pkg, err := filepath.Rel(root, dir)
	if err != nil {
		return err
	}
	for name, list := range decls {
		for _, d := range list {
			if !d.test {
				continue
			}
			test := Test{Package: filepath.ToSlash(pkg), File: filepath.ToSlash(filepath.Join(pkg, d.file)), Name: name}
			for rule := range reach(d, decls) {
				out[rule] = append(out[rule], test)
			}
		}
	}
	return nil
}

// reach collects the citations of d and of the tables that it uses, through
// whatever functions. Those of functions do not count: a fixture that cites a
// rule does not make every test that uses it a proof.
func reach(d *decl, decls map[string][]*decl) map[string]bool {
	cites := maps.Clone(d.cites)
	seen := map[*decl]bool{d: true}
	queue := []*decl{d}
	for len(queue) > 0 {
		d, queue = queue[0], queue[1:]
		for name := range d.uses {
			for _, used := range decls[name] {
				if !seen[used] && !used.test {
					seen[used] = true
					queue = append(queue, used)
					if used.table {
						maps.Copy(cites, used.cites)
					}
				}
			}
		}
	}
	return cites
}

// readFile adds the declarations of a test file, or of a file with a suite:
// exported functions that take a *testing.T.
func readFile(path string, decls map[string][]*decl) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	isTestFile := strings.HasSuffix(path, "_test.go")
	if !isTestFile && !slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing"` }) {
		return nil
	}
	for _, node := range file.Decls {
		for name, d := range declarations(node, isTestFile) {
			d.file = filepath.Base(path)
			start, end := node.Pos(), node.End()
			if doc := docOf(node); doc != nil {
				start = doc.Pos()
			}
			for _, group := range file.Comments {
				if group.Pos() >= start && group.Pos() <= sameLine(fset, end) {
					cite(d, group.Text())
				}
			}
			decls[name] = append(decls[name], d)
		}
	}
	return nil
}

// sameLine is the last position of the line of pos: a comment behind a
// declaration belongs to it.
func sameLine(fset *token.FileSet, pos token.Pos) token.Pos {
	file := fset.File(pos)
	if line := file.Line(pos); line < file.LineCount() {
		return file.LineStart(line+1) - 1
	}
	return token.Pos(file.Base() + file.Size())
}

func docOf(node ast.Decl) *ast.CommentGroup {
	switch node := node.(type) {
	case *ast.FuncDecl:
		return node.Doc
	case *ast.GenDecl:
		return node.Doc
	}
	return nil
}

// declarations returns what node declares, by name.
func declarations(node ast.Decl, isTestFile bool) map[string]*decl {
	d := &decl{cites: map[string]bool{}, uses: map[string]bool{}}
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			d.uses[n.Name] = true
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				cite(d, n.Value)
			}
		}
		return true
	})
	out := map[string]*decl{}
	switch node := node.(type) {
	case *ast.FuncDecl:
		d.test = node.Recv == nil && isTest(node, isTestFile)
		out[node.Name.Name] = d
	case *ast.GenDecl:
		d.table = true
		for _, spec := range node.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					out[name.Name] = d
				}
			case *ast.TypeSpec:
				out[spec.Name.Name] = d
			}
		}
	}
	return out
}

// isTest tells what is run as a test: by go test, or by a test of another
// package that hands in its *testing.T.
func isTest(f *ast.FuncDecl, isTestFile bool) bool {
	if isTestFile {
		return strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")
	}
	return f.Name.IsExported() && slices.ContainsFunc(f.Type.Params.List, func(p *ast.Field) bool {
		star, ok := p.Type.(*ast.StarExpr)
		if !ok {
			return false
		}
		sel, ok := star.X.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "T"
	})
}

func cite(d *decl, text string) {
	for _, name := range Cited(text) {
		d.cites[name] = true
	}
}
