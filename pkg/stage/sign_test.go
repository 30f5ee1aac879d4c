package stage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/fault"
)

// signing is the copier, whose output is signed.
type signing struct {
	copier
	sign Signer
}

func (c *signing) command() Command {
	cmd := c.copier.command()
	cmd.Run = func(ctx context.Context, s *Session) error {
		if err := s.SignOutput(c.sign); err != nil {
			return err
		}
		return c.copier.run(ctx, s)
	}
	return cmd
}

func signedBy(name string) Signer {
	return func(document []byte) ([]byte, error) { return []byte(name + " signs " + string(document)), nil }
}

// exists tells which of the files are there.
func exists(files ...string) []string {
	var there []string
	for _, file := range files {
		if _, err := os.Lstat(file); err == nil {
			there = append(there, filepath.Base(file))
		}
	}
	return there
}

// The signature is over the very bytes of the file, whether these were made now,
// or kept, and however the kept file came to be written.
func TestSignOutput(t *testing.T) {
	dir := t.TempDir()
	out, kept := filepath.Join(dir, "out.json"), filepath.Join(dir, "kept.json")
	in := catalog(t, "a.example/b")
	signedNow := func(made int, args ...string) {
		t.Helper()
		c := signing{sign: signedBy("anna")}
		expect(t, runIn(t.Context(), c.command(), Env{}, in, append(args, "-o", out)...), 0)
		if diff := cmp.Diff("anna signs "+contentOf(t, out), contentOf(t, out+".sig")); diff != "" || c.made != made {
			t.Errorf("%q: made %d times; the signature (-want +got):\n%s", args, c.made, diff)
		}
	}
	signedNow(1)
	signedNow(1, "--keep", kept)
	signedNow(0, "--keep", kept)
	// Other bytes of the same document.
	writeFile(t, kept, strings.ReplaceAll(contentOf(t, kept), "\n", "\r\n"))
	signedNow(0, "--keep", kept)
	if contentOf(t, out) != contentOf(t, kept) {
		t.Error("the kept document was not passed on as it is")
	}
}

// Never a document beside the signature of an older one (N22): it goes before the
// document, whatever happens then, and stays where there is no document.
func TestSignOutputAfterAnother(t *testing.T) {
	in := catalog(t, "a.example/b")
	prepare := func(t *testing.T) string {
		out := filepath.Join(t.TempDir(), "out.json")
		c := signing{sign: signedBy("anna")}
		expect(t, runIn(t.Context(), c.command(), Env{}, in, "-o", out), 0)
		return out
	}
	t.Run("unsigned", func(t *testing.T) {
		out := prepare(t)
		var c signing
		expect(t, runIn(t.Context(), c.command(), Env{}, in, "-o", out), 0)
		if diff := cmp.Diff([]string{"out.json"}, exists(out, out+".sig")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no key that signs", func(t *testing.T) {
		out := prepare(t)
		c := signing{sign: func([]byte) ([]byte, error) { return nil, fault.Newf(fault.Local, "token", "is gone") }}
		expect(t, runIn(t.Context(), c.command(), Env{}, in, "-o", out), 74, "token: is gone")
		if diff := cmp.Diff([]string{"out.json"}, exists(out, out+".sig")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no document", func(t *testing.T) {
		out := prepare(t)
		c := signing{sign: signedBy("bert")}
		c.extra = func(context.Context, *Session) error { return errors.New("odd") }
		expect(t, runIn(t.Context(), c.command(), Env{}, in, "-o", out), 1)
		if diff := cmp.Diff("anna signs "+contentOf(t, out), contentOf(t, out+".sig")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("of a program that signs nothing", func(t *testing.T) {
		out := prepare(t)
		var c copier
		expect(t, runIn(t.Context(), c.command(), Env{}, in, "-o", out), 0)
		if diff := cmp.Diff([]string{"out.json", "out.json.sig"}, exists(out, out+".sig")); diff != "" {
			t.Error(diff) // it does not know what the file is
		}
	})
}

// What cannot be signed is refused before the work, and before anything is read.
func TestSignOutputRefuses(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.json")
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"standard output": {nil, []string{"standard output", "-o FILE"}},
		"-":               {[]string{"-o", "-"}, []string{"standard output", "-o FILE"}},
		"kept there":      {[]string{"-o", out, "--keep", out + ".sig"}, []string{"the signature of " + out + " goes there"}},
		"reported there":  {[]string{"-o", out, "--report", dir + "/./out.json.sig"}, []string{"the signature of " + out + " goes there"}},
		"summed up there": {[]string{"-o", out, "--summary", out + ".sig"}, []string{"the signature of " + out + " goes there"}},
		"read there":      {[]string{"-o", out, "--input", out + ".sig"}, []string{"the signature of " + out + " goes there"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := signing{sign: signedBy("anna")}
			expect(t, runIn(t.Context(), c.command(), Env{}, "", tc.args...), 64, tc.want...)
			if c.made != 0 {
				t.Error("it was worked for nothing")
			}
		})
	}
}
