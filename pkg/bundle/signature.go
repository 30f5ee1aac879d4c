package bundle

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// signatureLimit bounds what is read of a signature, in bytes; a larger file is
// handed over cut, and is none.
const signatureLimit = 1 << 20

// ReadSignature reads the signature of the Bundle document of a directory.
// Kinds: fault.NotFound when there is none, fault.Damaged where something else
// than a file has its name, fault.Local.
func ReadSignature(dir string) ([]byte, error) {
	path := filepath.Join(dir, SignatureName)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil, fault.Newf(fault.NotFound, path, "the directory has no signature")
	}
	f, err := openRegular(dir, SignatureName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, signatureLimit))
	return text, durable.Fault(path, err)
}

// WriteSignature puts the signature of its Bundle document into a directory that
// [Finish] has completed. One that is there already is not written again, so
// that a medium that cannot be written to serves as well. Kinds: fault.Local.
func WriteSignature(dir string, signature []byte) error {
	if have, err := ReadSignature(dir); err == nil && bytes.Equal(have, signature) {
		return nil
	}
	return durable.WriteFile(filepath.Join(dir, SignatureName), signature, 0o644)
}
