package stage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// Signer makes the text of a signature over the bytes of a document's file.
type Signer func(document []byte) ([]byte, error)

// SignOutput has the file of --output signed: the signature, over the very bytes
// that are written, is put beside it durably when it is there. With nil there is
// none; but one that an earlier run left beside the file goes before another
// document is written, for beside that it would look like a forgery (N22).
// It is called before the work, since without a file to sign there is nothing to
// work for. Kinds: fault.Usage.
func (s *Session) SignOutput(sign Signer) error {
	s.signable, s.sign = true, sign
	if sign == nil {
		return nil
	}
	if !s.toFile() {
		return fault.Newf(fault.Usage, "", "a signature lies beside the document's file, and the document goes to standard output").
			Hint("give the document a file: -o FILE; its signature is FILE%s", contract.SignatureSuffix)
	}
	for _, file := range []string{s.flags.Keep, s.flags.Report, s.flags.Summary, s.flags.Input} {
		if file != "" && filepath.Clean(file) == filepath.Clean(s.signatureFile()) {
			return fault.Newf(fault.Usage, file, "the signature of %s goes there", s.flags.Output).Hint("name another file")
		}
	}
	return nil
}

func (s *Session) toFile() bool { return s.flags.Output != "" && s.flags.Output != "-" }

func (s *Session) signatureFile() string { return s.flags.Output + contract.SignatureSuffix }

// deliverFile writes the document to its file, and then the signature: whoever
// is killed between leaves a document without one, never one beside another's.
func (s *Session) deliverFile() error {
	if err := s.dropSignature(); err != nil {
		return err
	}
	if err := durable.WriteFile(s.flags.Output, s.document, 0o644); err != nil || s.sign == nil {
		return err
	}
	text, err := s.sign(s.document)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.signatureFile(), text, 0o644)
}

// dropSignature removes what an earlier run left. The name says that it belongs
// to the document which is replaced now.
func (s *Session) dropSignature() error {
	if !s.signable {
		return nil
	}
	path := s.signatureFile()
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return durable.Fault(path, err)
	}
	return durable.SyncDir(filepath.Dir(path))
}
