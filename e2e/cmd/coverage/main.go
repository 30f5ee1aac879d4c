// Command coverage writes docs/coverage.md: which test proves which rule.
//
//	coverage [ROOT]
//
// ROOT is the directory of the product's go.mod, the current one without an
// argument.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ferry/e2e/coverage"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
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
	page, gaps, err := coverage.Generate(root)
	if err != nil {
		return err
	}
	for _, rule := range gaps {
		fmt.Fprintln(os.Stderr, "coverage: no test cites", rule)
	}
	return os.WriteFile(filepath.Join(root, filepath.FromSlash(coverage.Page)), page, 0o644)
}
