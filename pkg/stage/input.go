package stage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
)

// Input is the text of a document that was read.
type Input struct {
	// Name is its file, or "standard input".
	Name string
	// Data is the text, at most contract.Limit bytes.
	Data []byte

	// What is asked of the whole text more than once in a run, and computed
	// once; nil for a text that this package has not read.
	sniff  func() (contract.Kind, error)
	digest func() oci.Digest
}

// Kind returns the kind that the document says it is, for commands that read
// several. Kinds of error: fault.Damaged.
func (in Input) Kind() (contract.Kind, error) {
	if in.sniff == nil {
		in.sniff = func() (contract.Kind, error) { return contract.Sniff(in.Data) }
	}
	kind, err := in.sniff()
	return kind, in.damaged(err)
}

// describe names the document for what is made from it.
func (in Input) describe() (contract.Input, error) {
	kind, err := in.Kind()
	if err != nil {
		return contract.Input{}, err
	}
	if in.digest == nil {
		in.digest = func() oci.Digest { return oci.DigestOf(in.Data) }
	}
	return contract.Input{Kind: kind, Digest: in.digest()}, nil
}

// Decode reads the document strictly. Kinds of error: fault.Damaged.
func Decode[S any, P contract.SpecOf[S]](in Input) (*contract.Document[S], error) {
	doc, err := contract.Decode[S, P](in.Data)
	return doc, in.damaged(err)
}

// DecodeInput is Input and Decode, for commands that read one kind.
func DecodeInput[S any, P contract.SpecOf[S]](ctx context.Context, s *Session) (*contract.Document[S], *Input, error) {
	in, err := s.remember(s.Text(ctx, s.flags.Input, string(P(new(S)).Kind())+" document"))
	if err != nil {
		return nil, nil, err
	}
	doc, err := Decode[S, P](*in)
	return doc, in, err
}

func (in Input) damaged(err error) error {
	if err == nil {
		return nil
	}
	f := fault.New(fault.Damaged, in.Name, err)
	switch {
	case errors.Is(err, contract.ErrEmpty), errors.Is(err, contract.ErrTruncated):
		f.Hint("the program that writes this document failed or is still running; look at its message, above or in its log")
	case errors.Is(err, contract.ErrKind):
		f.Hint("--contracts shows which documents a program reads and writes")
	case !errors.Is(err, contract.ErrVersion): // which advises itself
		f.Hint("let the program that made the document make it again")
	}
	return f
}

// InputsOf names what a document is made from: the documents read, and the
// options that shape the result (nil for none), which must encode as JSON in
// one order. Options that leave the result alone, such as parallelism, do not
// belong there, nor does a local path in a portable document.
func InputsOf(options any, docs ...*Input) ([]contract.Input, error) {
	var inputs []contract.Input
	for _, in := range docs {
		described, err := in.describe()
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, described)
	}
	if options == nil {
		return inputs, nil
	}
	hashed, err := contract.HashOptions(options)
	if err != nil {
		return nil, defect("%w", err)
	}
	return append(inputs, hashed), nil
}

const stdin = "standard input"

// Input reads the document of --input, or of stdin. It waits for the program
// before it in the pipe, until ctx is done.
// Kinds: fault.Usage when a person sits at stdin, Damaged, Local, Cancelled.
func (s *Session) Input(ctx context.Context) (*Input, error) {
	return s.remember(s.Text(ctx, s.flags.Input, s.reads()+" document"))
}

// Text reads what need not be a document, such as a list of images, from the
// file path, or from stdin where that is "-" or "". what names it for a person
// who is asked for it. Kinds as [Session.Input].
func (s *Session) Text(ctx context.Context, path, what string) (*Input, error) {
	read := func() (*Input, error) { return readFile(path) }
	if path == "" || path == "-" {
		if err := s.takeStdin("the " + what); err != nil {
			return nil, err
		}
		read = func() (*Input, error) { return readLimited(stdin, s.env.Stdin, contract.Limit) }
	}
	if path == "" && s.env.StdinTerminal {
		return nil, fault.Newf(fault.Usage, "", "there is no %s: standard input is a terminal", what).
			Hint("name a file, or put the program that writes it before this one in a pipe; see --help")
	}
	return interruptible(ctx, read)
}

// interruptible runs a read of a pipe, which a file can be too, and which cannot
// be interrupted. It is left behind when ctx is done; the process ends soon after.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// takeStdin notes what standard input is for. There is one, and who needs it for a
// second thing would read the rest of the first. Kind: fault.Usage.
func (s *Session) takeStdin(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdinFor != "" && s.stdinFor != what {
		return fault.Newf(fault.Usage, "", "standard input is for %s, so it cannot be %s too", s.stdinFor, what).
			Hint("name a file for %s; documents have --input FILE", what)
	}
	s.stdinFor = what
	return nil
}

// secretLimit is the longest line that is a secret, in bytes. Tokens of clouds have
// some thousands.
const secretLimit = 64 << 10

// StdinSecret reads the first line of stdin: a password, which must come neither by
// argument nor, where children inherit it, by environment. A second call returns
// the same. It has to come before anything else is read from stdin, which then is
// refused. No error quotes what was read. what names it for people.
// Kinds: fault.Usage, Local, Cancelled.
func (s *Session) StdinSecret(ctx context.Context, what string) (string, error) {
	if err := s.takeStdin(what); err != nil {
		return "", err
	}
	if s.stdinSecret != "" {
		return s.stdinSecret, nil
	}
	if s.env.StdinTerminal {
		return "", fault.Newf(fault.Usage, "", "standard input is a terminal, which would show %s", what).
			Hint("put the program that knows it before this one in a pipe, or read it from a file that you alone can read")
	}
	line, err := interruptible(ctx, func() (string, error) {
		line, err := bufio.NewReader(io.LimitReader(s.env.Stdin, secretLimit+1)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", durable.Fault(stdin, err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	})
	switch {
	case err != nil:
		return "", err
	case line == "":
		return "", fault.Newf(fault.Usage, "", "%s was to come by standard input, whose first line is empty", what).
			Hint("look at the program before this one in the pipe")
	case len(line) > secretLimit:
		return "", fault.Newf(fault.Usage, "", "%s was to come by standard input, whose first line is longer than %d bytes", what, secretLimit)
	}
	s.stdinSecret = line
	return line, nil
}

func (s *Session) reads() string {
	names := make([]string, len(s.cmd.Reads))
	for i, kind := range s.cmd.Reads {
		names[i] = string(kind)
	}
	return strings.Join(names, " or ")
}

func readFile(path string) (*Input, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Damaged, path, fs.ErrNotExist).Hint("look whether the program that writes it was run, and ended well")
	}
	if err != nil {
		return nil, durable.Fault(path, err)
	}
	defer f.Close()
	return readLimited(path, f, contract.Limit)
}

// readLimited reads a document, but no endless stream. Of a file the size is asked
// first: memory that grows with what is read is twice what is needed.
func readLimited(name string, r io.Reader, limit int64) (*Input, error) {
	var text bytes.Buffer
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			text.Grow(int(min(info.Size(), limit)) + bytes.MinRead)
		}
	}
	if _, err := text.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, durable.Fault(name, err)
	}
	data := text.Bytes()
	if int64(len(data)) > limit {
		return nil, fault.New(fault.Damaged, name, fmt.Errorf("it is larger than the %d bytes that a document may have", limit))
	}
	return &Input{
		Name: name, Data: data,
		sniff:  sync.OnceValues(func() (contract.Kind, error) { return contract.Sniff(data) }),
		digest: sync.OnceValue(func() oci.Digest { return oci.DigestOf(data) }),
	}, nil
}

// remember notes what was read for the report. A text that is no document
// fails where it is decoded.
func (s *Session) remember(in *Input, err error) (*Input, error) {
	if err != nil {
		return nil, err
	}
	if described, err := in.describe(); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inputs = append(s.inputs, described)
	}
	return in, nil
}
