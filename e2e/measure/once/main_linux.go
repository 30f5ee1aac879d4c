// Command once runs a program and writes what it used to a file:
//
//	once FILE PROGRAM [ARGUMENT...]
//
// It ends with the program's exit status. See measure.Runner for why it is a
// process of its own.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"ferry/e2e/measure"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: once FILE PROGRAM [ARGUMENT...]")
		os.Exit(64)
	}
	code, err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "once:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(file, program string, args []string) (code int, err error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	text, err := json.Marshal(measure.Of(cmd.ProcessState, time.Since(began)))
	if err != nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), os.WriteFile(file, text, 0o600)
}
