// Package tools knows how other programs carry a list of images across a gap,
// with the defaults that their users get: an adapter is a script for each side.
package tools

import (
	"bytes"
	"context"
	"os/exec"
	"path"
	"strings"

	"ferry/e2e/bench/content"
)

// Tool is a program that carries images.
//
// The scripts are bash's, with -eu and pipefail. They find what they need in the
// environment:
//
//	SOURCE, TARGET  the registries' host:port, which speak plain HTTP
//	LIST            a file with the lines REPOSITORY TAG DIGEST
//	BUNDLE          the directory that crosses the gap
//	SCRATCH         a directory for anything else, empty again on the other side
type Tool struct {
	// Name is the program's name.
	Name string
	// Way says how it carries a list, for people.
	Way string
	// Edition is the only one that it can carry; "" is any.
	Edition string
	// version are the arguments with which it tells its version.
	version []string
	// Pull fills BUNDLE, Push publishes what is there below TARGET/mirror.
	Pull, Push string
	// Landed is where an image stands at the target afterwards, PATH:TAG or
	// PATH@DIGEST.
	Landed func(im content.Image) string
}

// All are the tools that there are adapters for.
func All() []Tool {
	return []Tool{imgpkg(), skopeo(), crane(), oras(), regctl(), regsync(), hauler(), ocMirror(), zarf(), d8()}
}

// Version asks the tool for its version; "" says that it is not installed.
func (t Tool) Version(ctx context.Context) string {
	program, err := exec.LookPath(t.Name)
	if err != nil {
		return ""
	}
	out, err := exec.CommandContext(ctx, program, t.version...).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	words := strings.Fields(line) // "skopeo version 1.9.3"
	return words[len(words)-1]
}

// ByTag is where ferry and most tools put an image: where it was, below a root.
func ByTag(im content.Image) string { return path.Join("mirror", im.Repository) + ":" + im.Tag }

// inOne is where those put them that know one repository only.
func inOne(im content.Image) string { return "mirror/all@" + string(im.Digest) }
