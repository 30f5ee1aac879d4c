package stage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// Product describes the document that a run makes.
type Product[S any] struct {
	// Inputs are what the document is made from, see [InputsOf]. They go
	// into its metadata, and a kept document with others is out of date.
	Inputs []contract.Input
	// Valid tells why a kept document is of no use any more although it was
	// made from Inputs, such as a blob gone from the store. May be nil.
	Valid func(context.Context, *contract.Document[S]) error
	// Make computes the document's spec.
	Make func(context.Context) (S, error)
	// Tell puts what the document says, made or kept, into the session's
	// summary. May be nil.
	Tell func(*S)
}

// Produce makes the run's document, or takes the one that --keep names, and
// hands it over; it is written when Run has returned without an error. Errors
// of Make pass unchanged. Kinds of its own: fault.Local, Usage, Cancelled.
func Produce[S any, P contract.SpecOf[S]](ctx context.Context, s *Session, p Product[S]) error {
	kept, doc, err := keptDocument[S, P](ctx, s, p)
	if err != nil {
		return err
	}
	if kept != nil {
		s.Log.Info("nothing to do: the kept document is up to date", "file", s.flags.Keep)
		p.tell(&doc.Spec)
		return s.emit(doc.Kind, kept)
	}
	spec, err := p.Make(ctx)
	if err != nil {
		return err
	}
	// Work that was cut off must not pass for whole (S9 row 84), nor work
	// with failed items.
	if err := ctx.Err(); err != nil {
		return err
	}
	doc = contract.New[S, P](s.Generator(), p.Inputs, spec)
	data, err := contract.Encode[S, P](doc)
	if err != nil {
		return defect("%w", err)
	}
	p.tell(&doc.Spec)
	if s.flags.Keep != "" {
		if err := durable.WriteFile(s.flags.Keep, data, 0o644); err != nil {
			return err
		}
	}
	return s.emit(doc.Kind, data)
}

func (p Product[S]) tell(spec *S) {
	if p.Tell != nil {
		p.Tell(spec)
	}
}

// keptDocument returns the file of --keep, as text and read, or nil where it must be
// made. A file that is something else is not ours to overwrite.
func keptDocument[S any, P contract.SpecOf[S]](ctx context.Context, s *Session, p Product[S]) ([]byte, *contract.Document[S], error) {
	if s.flags.Keep == "" {
		return nil, nil, nil
	}
	if info, err := os.Stat(s.flags.Keep); err == nil && !info.Mode().IsRegular() {
		return nil, nil, fault.Newf(fault.Usage, "--keep "+s.flags.Keep, "it is not a regular file")
	}
	f, err := os.Open(s.flags.Keep)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, durable.Fault(s.flags.Keep, err)
	}
	defer f.Close()
	in, err := readLimited(s.flags.Keep, f, contract.Limit)
	if err != nil {
		return nil, nil, err
	}
	doc, err := contract.Decode[S, P](in.Data)
	if errors.Is(err, contract.ErrKind) || errors.Is(err, contract.ErrSyntax) {
		return nil, nil, fault.New(fault.Usage, "--keep "+s.flags.Keep, err).Hint("name another file, or remove this one; it would be overwritten")
	}
	if err == nil && !slices.Equal(doc.Metadata.Inputs, p.Inputs) {
		err = errors.New("it was made from another input or with other options")
	}
	if err == nil && p.Valid != nil {
		err = p.Valid(ctx, doc)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		s.Log.Info("making the kept document anew", "file", s.flags.Keep, "why", err)
		return nil, nil, nil
	}
	return in.Data, doc, nil
}

// emit takes the document over for deliver.
func (s *Session) emit(kind contract.Kind, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.cmd.Writes, kind) || s.document != nil {
		return defect("%s made a %s that it does not declare, or a second document", s.cmd.Name, kind)
	}
	s.document = data
	return nil
}

// deliver ends a run that succeeded. The document comes last: who reads it may
// act on it at once.
func (s *Session) deliver(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.document == nil {
		return defect("%s ended without a document", s.cmd.Name)
	}
	if err := s.writeReport(outcome{code: exitSuccess}); err != nil {
		return err
	}
	if s.toFile() {
		return s.deliverFile()
	}
	if _, err := s.env.Stdout.Write(s.document); err != nil {
		return fault.New(fault.Local, "standard output", err).Because(durable.Cause(err)).
			Hint("the next program in the pipe ended early, or the disk is full; look at its message")
	}
	return nil
}
