package schemas

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	root      = "../.."
	schemaDir = root + "/schemas/v1alpha1"
)

// The committed schemas are those of the Go types: "make generate" was run.
func TestSchemasAreGenerated(t *testing.T) {
	want, err := Generate(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asText(want), asText(readDir(t, schemaDir))); diff != "" {
		t.Errorf("run \"make generate\" (-generated +committed):\n%s", diff)
	}
	for name, text := range want {
		for _, part := range []string{`"additionalProperties": false`, `"const": "ferry/v1alpha1"`, `"required"`, `"description"`} {
			if !bytes.Contains(text, []byte(part)) {
				t.Errorf("%s has no %s", name, part)
			}
		}
	}
}

// The examples are what the programs write, and each names the others' digests.
func TestExamplesAreCanonical(t *testing.T) {
	examples := readDir(t, filepath.Join(schemaDir, "examples"))
	want, err := Relink(examples)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asText(want), asText(examples)); diff != "" {
		t.Errorf("run \"make generate\" (-canonical +committed):\n%s", diff)
	}
}

// The schemas accept the examples and refuse what a strict reader refuses.
func TestSchemasDescribeTheExamples(t *testing.T) {
	for name, text := range readDir(t, filepath.Join(schemaDir, "examples")) {
		schema := compile(t, strings.TrimSuffix(name, ".json")+".schema.json")
		if err := schema.Validate(parse(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, change := range [][2]string{
			{`"apiVersion": "ferry/v1alpha1"`, `"apiVersion": "ferry/v0"`},
			{`"kind": "`, `"kind": "No`},
			{`"generator": `, `"generated": `},
			{`"spec": {`, `"spec": {"colour": 1, `},
			{`"digest":"sha256:`, `"digest":"md5:`},
		} {
			changed := strings.Replace(string(text), change[0], change[1], 1)
			if changed != string(text) && schema.Validate(parse(t, []byte(changed))) == nil {
				t.Errorf("%s: still valid with %s", name, change[1])
			}
		}
	}
}

func compile(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(schemaDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func parse(t *testing.T, text []byte) any {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 9 {
		t.Fatalf("%s has %d documents, want one of each of 9 kinds", dir, len(files))
	}
	return files
}

func asText(files map[string][]byte) map[string]string {
	out := map[string]string{}
	for name, data := range files {
		out[name] = string(data)
	}
	return out
}
