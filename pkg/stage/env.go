package stage

import (
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/term"
)

// Env is the world around a program, as fields, so that tests run programs in
// their own process.
type Env struct {
	// Args are the arguments without the program's name.
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// StdinTerminal and StderrTerminal say that a person sits there.
	StdinTerminal, StderrTerminal bool
	// StderrWidth is the width of that terminal in characters, 0 where it is
	// not known.
	StderrWidth int
	// Now is the clock, for elapsed times alone; nil is time.Now.
	Now func() time.Time
	// Version is the program's: "0.1.0".
	Version string
}

// SystemEnv is the Env of this process.
func SystemEnv() Env {
	width, _, _ := term.GetSize(int(os.Stderr.Fd())) // 0 where it is none
	return Env{
		StderrWidth: width,
		Args:        os.Args[1:],
		Stdin:       os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv:         os.Getenv,
		StdinTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		StderrTerminal: term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb",
		Version:        buildVersion(version, debug.ReadBuildInfo),
	}
}

// version is stamped by the linker: -X ferry/pkg/stage.version=0.1.0.
var version string

// buildVersion is the stamped version, or what "go install ...@v0.1.0" left in
// the binary, or "devel".
func buildVersion(stamped string, read func() (*debug.BuildInfo, bool)) string {
	if stamped != "" {
		return stamped
	}
	if info, ok := read(); ok && strings.HasPrefix(info.Main.Version, "v") {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	return "devel"
}
