// Command reliability writes docs/reliability.md from the output of a run of the
// tests:
//
//	go test -json ./... ./e2e/... | reliability [ROOT]
//
// ROOT is the directory of the product's go.mod, the current one without an
// argument. It fails when a rule did not hold, or names a test that did not run.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"ferry/e2e/reliability"
)

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		os.Exit(1)
	}
}

func run(args []string, events io.Reader) error {
	root := "."
	if len(args) == 1 {
		root = args[0]
	}
	in := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	results, err := reliability.ReadResults(events)
	if err != nil {
		return err
	}
	rows, err := reliability.ReadRows(in(reliability.Failures))
	if err != nil {
		return err
	}
	var logs reliability.Logs
	if logs.Fuzzed, err = reliability.ReadFuzzed(in(reliability.FuzzLog)); err != nil {
		return err
	}
	if logs.Soaked, err = reliability.ReadSoaked(in(reliability.SoakLog)); err != nil {
		return err
	}
	page := reliability.Write(rows, results, logs)
	if err := os.WriteFile(in(reliability.Page), page, 0o644); err != nil {
		return err
	}
	if n := strings.Count(string(page), "| **"); n > 0 {
		return fmt.Errorf("%d rules did not hold: see %s", n, reliability.Page)
	}
	return nil
}
