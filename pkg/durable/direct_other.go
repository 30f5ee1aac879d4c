//go:build !linux

package durable

import (
	"errors"
	"os"
)

// DirectAlign is what nothing is aligned to here.
const DirectAlign = 4 << 10

// OpenDirect fails: there is no such way here.
func OpenDirect(path string) (*os.File, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: errors.ErrUnsupported}
}

// DirectBuffer is false for all buffers.
func DirectBuffer([]byte) bool { return false }
