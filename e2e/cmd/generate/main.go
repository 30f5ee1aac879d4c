// Command generate writes what is made from other files: the JSON Schemas of all
// documents, from the Go types of pkg/contract, the canonical form of their
// examples, and docs/coverage.md, which says which test proves which rule:
//
//	generate [ROOT]
//
// ROOT is the directory of the product's go.mod, the current one without an
// argument. The files are
// ROOT/schemas/v1alpha1/*.schema.json and ROOT/schemas/v1alpha1/examples/*.json;
// examples are written by hand, and only their form and the digests by which
// they name each other are changed.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ferry/e2e/coverage"
	"ferry/e2e/schemas"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("want the directory of the product's go.mod as the only argument")
	}
	root := "."
	if len(args) == 1 {
		root = args[0]
	}
	files, err := schemas.Generate(root)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "schemas", "v1alpha1")
	if err := write(dir, files); err != nil {
		return err
	}
	examples, err := schemas.ReadDir(filepath.Join(dir, "examples"))
	if err != nil {
		return err
	}
	examples, err = schemas.Relink(examples)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "examples"), examples); err != nil {
		return err
	}
	page, gaps, err := coverage.Generate(root)
	if err != nil {
		return err
	}
	for _, rule := range gaps {
		fmt.Fprintln(os.Stderr, "generate: no test cites", rule)
	}
	return os.WriteFile(filepath.Join(root, filepath.FromSlash(coverage.Page)), page, 0o644)
}

func write(dir string, files map[string][]byte) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
