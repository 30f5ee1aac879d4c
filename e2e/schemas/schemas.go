// Package schemas makes the JSON Schemas of the documents from their Go types,
// so that types, comments and schemas cannot tell different stories.
package schemas

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

const contractPath = "ferry/pkg/contract"

// Generate returns the schema of every document kind by file name
// ("plan.schema.json"). Comments and enumerations are read from the sources of
// pkg/contract below root, the directory of the product's go.mod.
func Generate(root string) (map[string][]byte, error) {
	dir := filepath.Join(root, "pkg", "contract")
	enums, err := enumerations(dir)
	if err != nil {
		return nil, err
	}
	reflector, err := newReflector(dir, enums)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for kind, document := range map[contract.Kind]any{
		contract.KindCatalog:     contract.Catalog{},
		contract.KindSelection:   contract.Selection{},
		contract.KindPlan:        contract.Plan{},
		contract.KindInventory:   contract.Inventory{},
		contract.KindBundle:      contract.Bundle{},
		contract.KindReceipt:     contract.Receipt{},
		contract.KindReport:      contract.Report{},
		contract.KindExplanation: contract.Explanation{},
		contract.KindTarget:      contract.Target{},
	} {
		schema := reflector.Reflect(document)
		schema.ID = jsonschema.ID("urn:" + strings.ReplaceAll(contract.APIVersion, "/", ":") + ":" + strings.ToLower(string(kind)))
		schema.Title = string(kind)
		constant(schema, "apiVersion", contract.APIVersion)
		constant(schema, "kind", string(kind))
		text, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		files[FileName(kind)] = append(text, '\n')
	}
	return files, nil
}

// FileName is the name of the schema file of a kind.
func FileName(kind contract.Kind) string { return strings.ToLower(string(kind)) + ".schema.json" }

func newReflector(dir string, enums map[string][]any) (*jsonschema.Reflector, error) {
	comments := &jsonschema.Reflector{}
	if err := comments.AddGoComments("", dir, jsonschema.WithFullComment()); err != nil {
		return nil, fmt.Errorf("comments of %s: %w", dir, err)
	}
	return &jsonschema.Reflector{
		Anonymous:      true,
		ExpandedStruct: true,
		Namer:          typeName,
		// The library keys comments by directory; only the types of one
		// package are looked up, so their names suffice.
		LookupComment: func(t reflect.Type, field string) string {
			name := typeName(t)
			if field != "" {
				name += "." + field
			}
			return comments.CommentMap[filepath.ToSlash(filepath.Clean(dir))+"."+name]
		},
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t == reflect.TypeFor[oci.Digest]() {
				return &jsonschema.Schema{Type: "string", Pattern: "^sha256:[0-9a-f]{64}$"}
			}
			if values := enums[t.Name()]; values != nil && t.PkgPath() == contractPath {
				return &jsonschema.Schema{Type: "string", Enum: values}
			}
			return nil
		},
	}, nil
}

// typeName is the name without type parameters: Document[CatalogSpec] is
// Document.
func typeName(t reflect.Type) string {
	name, _, _ := strings.Cut(t.Name(), "[")
	return name
}

func constant(schema *jsonschema.Schema, property, value string) {
	field, _ := schema.Properties.Get(property)
	schema.Properties.Set(property, &jsonschema.Schema{Const: value, Description: field.Description})
}

// enumerations returns the values of the string constants in dir by their named
// type. Types without such constants are not enumerations.
func enumerations(dir string) (map[string][]any, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	enums := map[string][]any{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, decl := range source.Decls {
			if group, ok := decl.(*ast.GenDecl); ok && group.Tok == token.CONST {
				for _, spec := range group.Specs {
					addConstant(enums, spec.(*ast.ValueSpec))
				}
			}
		}
	}
	return enums, nil
}

func addConstant(enums map[string][]any, spec *ast.ValueSpec) {
	named, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, value := range spec.Values {
		if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				enums[named.Name] = append(enums[named.Name], text)
			}
		}
	}
}

// ReadDir returns the content of the JSON files in dir by name.
func ReadDir(dir string) (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(path)] = text
	}
	return files, nil
}
