package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ferry/e2e/edition"
	"ferry/pkg/contract"
	"ferry/pkg/registry/registrytest"
)

// S2.6: what is known of a failure is printed below it and stands in the report,
// from whichever stage it comes.
func TestCausesThroughThePrograms(t *testing.T) {
	t.Parallel()
	src, _ := source(t, edition.Tiny())
	disk := packed(t, src.Host)
	catalog := run(t, "", "ferry-discover", discoverArgs(src.Host)...)
	selection := run(t, catalog, "ferry-select")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	refusing := func(f registrytest.Fault) string {
		srv := registrytest.Start(t, registrytest.New())
		f.Times = registrytest.Always
		srv.Inject(f)
		return srv.Host
	}
	inventory := run(t, "", "ferry-unpack", disk)
	publish := func(host string) []string {
		return []string{"ferry-publish", host + "/mirror", "--insecure", "--parallel=1"}
	}
	for _, tc := range []struct {
		cause string
		stdin string
		args  []string
		code  int
		text  string // a part of what is printed
	}{
		{"unauthorized", inventory, publish(refusing(registrytest.Fault{Method: "POST", Status: 401})), 77, "give a login for"},
		{"forbidden", "", append([]string{"ferry-discover"}, discoverArgs(refusing(registrytest.Fault{Status: 403}))...), 77, "licence"},
		{"no-tls", "", []string{"ferry-discover", "deckhouse", "--source", src.Host + "/deckhouse/ee"}, 76, "--insecure speaks plain HTTP"},
		{"no-release-channels", run(t, "", "ferry-discover", "deckhouse", "--source", src.Host+"/nothing", "--insecure"),
			[]string{"ferry-select"}, 3, "--deckhouse-tag"},
		{"repository-not-found", inventory, publish(refusing(registrytest.Fault{Method: "POST", Status: 404})), 76, "create the project"},
		{"artifact-refused", inventory, publish(refusing(registrytest.Fault{Method: "PUT", Match: isTrivyManifest, Status: 400,
			Body: `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}`})), 76, "FEATURE_GENERAL_OCI_SUPPORT: true"},
		{"body-too-large", inventory, publish(refusing(registrytest.Fault{Method: "PUT", Kind: registrytest.KindUpload, Status: 413})), 76, "client_max_body_size"},
		{"empty-constraint", catalog, []string{"ferry-select", "--include-module", "mod-00@"}, 64, "quote the whole value"},
		{"path-like-constraint", catalog, []string{"ferry-select", "--include-platform", "/media/disk"}, 64, "next word became the value"},
		{"image-not-found", strings.ReplaceAll(selection, "/install:v", "/install:w"), []string{"ferry-fetch", "--store", t.TempDir(), "--insecure"}, 76, "compare the reference"},
		{"timeout", "", append([]string{"ferry-discover"}, append(discoverArgs(refusing(registrytest.Fault{Stall: true})), "--timeout=1ms")...), 75, "D8_MIRROR_TIMEOUT"},
		{"unreachable", "", append([]string{"ferry-discover"}, append(discoverArgs(closed), "--timeout=20s")...), 75, "nothing listens"},
	} {
		t.Run(tc.cause, func(t *testing.T) {
			t.Parallel()
			report := filepath.Join(t.TempDir(), "report.json")
			r := try(t, tc.stdin, tc.args[0], append(tc.args[1:], "--report", report)...)
			program := tc.args[0]
			if r.code != tc.code || r.stdout != "" || !strings.Contains(r.stderr, tc.text) ||
				!strings.Contains(r.stderr, "\n"+program+": likely: ") || !strings.Contains(r.stderr, "\n"+program+": hint: ") {
				t.Errorf("exit status %d, want %d with %q\n%s", r.code, tc.code, tc.text, r.stderr)
			}
			text, err := os.ReadFile(report)
			if err != nil {
				t.Fatal(err)
			}
			items := decode[contract.ReportSpec](t, string(text)).Spec.Items
			if len(items) == 0 || items[0].CauseName != tc.cause || len(items[0].Likely) == 0 || len(items[0].Advice) == 0 {
				t.Errorf("the report has %+v, want the cause %s", items, tc.cause)
			}
		})
	}
	// Standard output on a full device.
	if r := shell(t, t.TempDir(), "ferry-unpack "+disk+" >/dev/full"); r.code != 74 || !strings.Contains(r.stderr, "the file system is full") {
		t.Errorf("disk-full: exit status %d\n%s", r.code, r.stderr)
	}
}

// S2.6: the table of causes is complete: each is told somewhere, proven by a
// test, and stands in the rule book.
func TestCausesAreUsed(t *testing.T) {
	t.Parallel()
	causes := declaredCauses(t, filepath.Join("..", "pkg", "fault", "cause.go"))
	if len(causes) < 15 {
		t.Fatalf("only %d causes were found in the source", len(causes))
	}
	book := strings.Join(lines(t, filepath.Join("..", "docs", "deckhouse.md")), "\n")
	var code, tests string
	for _, path := range goFiles(t, "cmd", "pkg", "e2e") {
		text := strings.Join(lines(t, path), "\n")
		switch {
		case strings.HasSuffix(path, "_test.go"):
			tests += text
		case filepath.Base(path) != "cause.go":
			code += text
		}
	}
	for variable, name := range causes {
		if !strings.Contains(code, "fault."+variable) {
			t.Errorf("nothing fails with fault.%s", variable)
		}
		if !strings.Contains(tests, "fault."+variable) && !strings.Contains(tests, strconv.Quote(name)) {
			t.Errorf("no test proves fault.%s", variable)
		}
		if !strings.Contains(book, "| `"+name+"` |") {
			t.Errorf("docs/deckhouse.md does not list the cause %s", name)
		}
	}
}

// declaredCauses returns the name of each cause by its variable.
func declaredCauses(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	causes := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		call, ok := spec.Values[0].(*ast.CallExpr)
		if !ok {
			return true
		}
		if literal, ok := call.Args[0].(*ast.BasicLit); ok {
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Error(err)
			}
			causes[spec.Names[0].Name] = name
		}
		return true
	})
	return causes
}

func goFiles(t *testing.T, dirs ...string) []string {
	t.Helper()
	var paths []string
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(paths)
	return paths
}
