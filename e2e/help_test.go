package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// flagRE is a long flag where it is spoken of.
var flagRE = regexp.MustCompile(`(?:^|[^-\w])(--[a-z][a-z0-9-]*)`)

func flagsIn(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range flagRE.FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return found
}

// manPage is the page without the marks of roff.
func manPage(t *testing.T, program string) string {
	t.Helper()
	return strings.NewReplacer(`\-`, "-", `\fB`, "", `\fR`, "", `\fI`, "").Replace(run(t, "", program, "--man"))
}

var (
	stages  = []string{"ferry-discover", "ferry-select", "ferry-fetch", "ferry-pack", "ferry-unpack", "ferry-publish"}
	scripts = map[string]string{"ferry-pull": "pull", "ferry-push": "push", "ferry-mirror-modules": "mirror-modules"}
	// verbs are the subcommands, which have flags of their own.
	verbs = map[string][]string{"ferry-discover": {"deckhouse", "generic", "modules"}, "ferry-select": {"explain"}, "ferry-publish": {"verify", "probe"}}
)

// helpOf is all help of a program.
func helpOf(t *testing.T, program string) string {
	t.Helper()
	text := run(t, "", program, "--help")
	for _, verb := range verbs[program] {
		text += run(t, "", program, verb, "--help")
	}
	return text
}

// Help names every flag in groups, and the manual page names the same flags.
func TestManualsAgreeWithHelp(t *testing.T) {
	t.Parallel()
	for _, program := range slices.Concat(stages, slices.Sorted(maps.Keys(scripts))) {
		help, man := helpOf(t, program), manPage(t, program)
		inHelp, inMan := flagsIn(help), flagsIn(man)
		if len(inHelp) < 8 {
			t.Errorf("%s --help names %d flags:\n%s", program, len(inHelp), help)
		}
		for flag := range inHelp {
			if !inMan[flag] {
				t.Errorf("%s: %s is in --help, and not in the manual", program, flag)
			}
		}
		for flag := range inMan {
			if !inHelp[flag] && !inHelp[strings.Replace(flag, "--", "--[no-]", 1)] && !strings.Contains(strings.SplitN(man, ".SH OPTIONS", 2)[0], flag) {
				t.Errorf("%s: %s is in the manual, and not in --help", program, flag)
			}
		}
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS"} {
			if !strings.Contains(strings.ReplaceAll(man, `"`, ""), "\n.SH "+section+"\n") {
				t.Errorf("%s: the manual has no %s", program, section)
			}
		}
	}
	for _, program := range stages {
		if help := helpOf(t, program); !strings.Contains(help, "Common flags") {
			t.Errorf("%s --help has no groups:\n%s", program, help)
		}
	}
}

// theirFlags are all flags of the commands that the scripts stand for (S2.2, S2.5,
// S8.1, S8.1.1).
var theirFlags = map[string]string{
	"ferry-pull": `--source --source-login --source-password --license -l --since-version --include-platform --deckhouse-tag --installer-tag
		--deckhouse-cli-tag --include-module -i --exclude-module -e --modules-path-suffix --include-package --exclude-package --include-plugin
		--images-bundle-chunk-size -c --gost-digest --force --no-pull-resume --ignore-suspend --no-platform --no-security-db --no-modules
		--no-packages --no-installer --only-extra-images --skip-vex-images --proxy-registry --dry-run --verbose-summary --tls-skip-verify
		--insecure --tmp-dir`,
	"ferry-push": `--registry-login -u --registry-password -p --tls-skip-verify --insecure --tmp-dir --modules-path-suffix --file`,
	"ferry-mirror-modules": `--modules-dir -d --module-source -m --registry -r --registry-login -u --registry-password -p --modules-filter
		--filter -f --tls-skip-verify --insecure`,
}

// What a script's help says it takes: every flag of a case pattern is in the
// help, and every flag of the help in a pattern.
func TestScriptsTakeWhatTheirHelpSays(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(`(?m)^  (-[-a-z |]*)\)$`)
	for program, script := range scripts {
		text, err := os.ReadFile(filepath.Join("..", "scripts", script))
		if err != nil {
			t.Fatal(err)
		}
		taken := map[string]bool{}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			for flag := range strings.SplitSeq(m[1], " | ") {
				taken[flag] = true
			}
		}
		help := run(t, "", program, "--help")
		said := flagsIn(help)
		for _, m := range regexp.MustCompile(`(?m)^  (-[a-z]),`).FindAllStringSubmatch(help, -1) {
			said[m[1]] = true
		}
		for flag := range taken {
			if !said[flag] && !slices.Contains([]string{"-h", "--help", "--man"}, flag) {
				t.Errorf("%s takes %s, and its help does not say so", program, flag)
			}
		}
		for flag := range said {
			if !taken[flag] {
				t.Errorf("%s --help names %s, which it does not take", program, flag)
			}
		}
		for _, flag := range strings.Fields(theirFlags[program]) {
			if !taken[flag] {
				t.Errorf("%s does not take %s", program, flag)
			}
		}
		if groups := regexp.MustCompile(`(?m)^[A-Zf][^\n]*\n  -`).FindAllString(help, -1); len(groups) < 3 {
			t.Errorf("%s --help has %d groups of flags", program, len(groups))
		}
	}
}

// d8Flags are those of d8 that the rule book speaks of as d8's alone.
var d8Flags = []string{"--release", "--min-version", "--validation", "--images-bundle-path"}

// otherFlags are of programs that the pages tell to run.
var otherFlags = []string{"--insecure-policy", "--switch", "--flag", "--for", "--man"}

// begins reports whether flag is the beginning of one, which a program completes:
// "--exclude-" of "--exclude-module".
func begins(known map[string]bool, flag string) bool {
	for name := range known {
		if strings.HasSuffix(flag, "-") && strings.HasPrefix(name, flag) {
			return true
		}
	}
	return false
}

// S9 row 100: no hint and no page names a flag that nobody takes.
func TestFlagsThatAreSpokenOfExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, program := range slices.Concat(stages, slices.Sorted(maps.Keys(scripts))) {
		maps.Copy(known, flagsIn(helpOf(t, program)))
	}
	for _, flag := range slices.Concat(d8Flags, otherFlags) {
		known[flag] = true
	}
	checked := 0
	check := func(where, text string) {
		for flag := range flagsIn(text) {
			checked++
			if !known[flag] && !begins(known, flag) {
				t.Errorf("%s speaks of %s, which no program takes", where, flag)
			}
		}
	}
	for _, page := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "docs/deckhouse.md", "docs/failures.md"} {
		text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(page)))
		if err != nil {
			t.Fatal(err)
		}
		check(page, string(text))
	}
	for _, dir := range []string{"cmd", "pkg"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					check(path, lit.Value)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if checked < 200 {
		t.Errorf("only %d mentions were found; is the pattern right?", checked)
	}
}
