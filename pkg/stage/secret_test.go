package stage

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"ferry/pkg/contract"
)

// asksSecret reads a password from stdin, and then the document.
func asksSecret(got *string) Command {
	return Command{
		Name: "publish", Summary: "send", Reads: []contract.Kind{contract.KindCatalog}, Writes: []contract.Kind{contract.KindSelection},
		Run: func(ctx context.Context, s *Session) (err error) {
			if *got, err = s.StdinSecret(ctx, "the password"); err != nil {
				return err
			}
			if again, err := s.StdinSecret(ctx, "the password"); err != nil || again != *got {
				return errors.New("the second answer differs")
			}
			if _, _, err := DecodeInput[contract.CatalogSpec](ctx, s); err != nil {
				return err
			}
			return Produce(ctx, s, Product[contract.SelectionSpec]{Make: func(context.Context) (contract.SelectionSpec, error) {
				return contract.SelectionSpec{Vendor: "v"}, nil
			}})
		},
	}
}

// S2.2.3: the first line of stdin is the password, and nothing else comes from
// there; what is no password is refused, and never quoted.
func TestStdinSecret(t *testing.T) {
	document := writeFile(t, filepath.Join(t.TempDir(), "catalog.json"), catalog(t, "s"))
	const secret = "hunter2"
	for _, tc := range []struct {
		name, stdin string
		args        []string
		terminal    bool
		code        int
		want, said  string
	}{
		{"a line", secret + "\n", []string{"-i", document}, false, 0, secret, ""},
		{"no end of the line", secret, []string{"-i", document}, false, 0, secret, ""},
		{"of another system", secret + "\r\n", []string{"-i", document}, false, 0, secret, ""},
		{"blanks are part of it", " " + secret + " \nmore", []string{"-i", document}, false, 0, " " + secret + " ", ""},
		{"the document behind it", secret + "\n" + catalog(t, "s"), nil, false, 64, secret, "standard input is for the password"},
		{"named by -", secret + "\n" + catalog(t, "s"), []string{"-i", "-"}, false, 64, secret, "--input FILE"},
		{"nothing", "", []string{"-i", document}, false, 64, "", "first line is empty"},
		{"an empty line", "\n" + secret, []string{"-i", document}, false, 64, "", "first line is empty"},
		{"too long", strings.Repeat(secret, 10000), []string{"-i", document}, false, 64, "", "longer than"},
		{"a terminal", secret, []string{"-i", document}, true, 64, "", "is a terminal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			r := runIn(t.Context(), asksSecret(&got), Env{StdinTerminal: tc.terminal}, tc.stdin, tc.args...)
			expect(t, r, tc.code, tc.said)
			if got != tc.want || strings.Contains(r.stderr+r.stdout, secret) {
				t.Errorf("the password is %q, want %q; stderr:\n%s", got, tc.want, r.stderr)
			}
		})
	}
	var got string
	expect(t, runIn(t.Context(), asksSecret(&got), Env{Stdin: iotest.ErrReader(errors.New("broken"))}, "", "-i", document), 74, "broken")
	// Who never writes the line does not keep an interrupt from ending the run.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, _ := io.Pipe()
	expect(t, runIn(ctx, asksSecret(&got), Env{Stdin: silent}, "", "-i", document), 130)
}
