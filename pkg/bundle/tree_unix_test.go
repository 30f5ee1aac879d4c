//go:build unix

package bundle

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ferry/pkg/oci"
)

// Reading a pipe would wait for ever.
func TestLayoutsRefusePipes(t *testing.T) {
	dir, _ := unpackedSample(t)
	name := filepath.Join(dir, blobFile("", oci.DigestOf([]byte("seventy"))))
	must(t, os.Remove(name))
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip(err)
	}
	_, err := FindLayouts(dir)
	wantDamaged(t, err, name, "not a regular file")
}
