// Command demo is what "make demo" needs besides ferry itself:
//
//	demo run [flags] [--] COMMAND [ARG...]   two registries for COMMAND's time
//	demo table [=FILE] STAGE=FILE...         what the documents say
//	demo compare EXPECTED BUNDLE RECEIPT     the proof
//
// run starts two registries on free ports of the loopback interface, fills the
// first with a synthetic edition, and gives COMMAND their addresses in SOURCE
// and TARGET, the name of a file with what a pull must carry in EXPECTED, and
// this program's own path in DEMO.
// Without COMMAND it prints them as shell variables and waits for an interrupt.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ferry/e2e/edition"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
	"ferry/pkg/registry/registrytest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, os.Args[1:], os.Stdout)
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode()) // COMMAND has said why
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "run":
			return run(ctx, args[1:], out)
		case "table":
			return table(args[1:], out)
		case "compare":
			return compare(ctx, args[1:], out)
		}
	}
	return errors.New("want run, table or compare as the first argument")
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := edition.Default()
	flags := flag.NewFlagSet("demo run", flag.ContinueOnError)
	flags.Int64Var(&opts.LayerSize, "layer-size", 256<<10, "incompressible bytes in each component")
	flags.IntVar(&opts.Minors, "minors", opts.Minors, "minor releases of the platform")
	flags.IntVar(&opts.Modules, "modules", opts.Modules, "modules")
	flags.IntVar(&opts.Packages, "packages", opts.Packages, "packages")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var hosts [2]string
	registries := [2]*registrytest.Registry{registrytest.New(), registrytest.New()}
	for i, reg := range registries {
		host, stop, err := reg.Listen("127.0.0.1:0")
		if err != nil {
			return err
		}
		defer stop()
		hosts[i] = host
	}
	source := oci.Repository{Host: hosts[0], Path: "deckhouse/ee"}
	ed, err := edition.Write(ctx, filler{reg: registries[0]}, source, opts)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ferry-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	expected := filepath.Join(dir, "expected.json")
	if err := writeJSON(expected, ed.Expected); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	environment := []string{"SOURCE=" + source.String(), "TARGET=" + hosts[1] + "/mirror/dkp", "EXPECTED=" + expected, "DEMO=" + self}
	if flags.NArg() == 0 {
		for _, variable := range environment {
			fmt.Fprintln(out, variable)
		}
		<-ctx.Done()
		return nil
	}
	return command(ctx, flags.Args(), environment)
}

func command(ctx context.Context, args, environment []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// filler fills a registry of this process past HTTP. Only the two methods that
// edition.Write needs are there.
type filler struct {
	registry.Target
	reg *registrytest.Registry
}

func (f filler) PutBlob(_ context.Context, repo oci.Repository, desc oci.Descriptor, body io.ReadSeeker) error {
	var data bytes.Buffer
	if _, err := io.Copy(&data, body); err != nil {
		return err
	}
	if got := f.reg.PutBlob(repo.Path, data.Bytes()); got.Digest != desc.Digest {
		return fmt.Errorf("content is %s, announced as %s", got.Digest, desc.Digest)
	}
	return nil
}

func (f filler) PutManifest(_ context.Context, ref oci.Reference, mediaType string, body []byte) error {
	f.reg.PutManifest(ref.Path, ref.Tag, mediaType, body)
	return nil
}
