//go:build !linux

package durable

import "os"

// Allocate makes f size bytes long, of zeros; whether there is room for them only
// writing tells here.
func Allocate(f *os.File, size int64) error { return f.Truncate(size) }
