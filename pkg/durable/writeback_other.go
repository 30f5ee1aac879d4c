//go:build !linux

package durable

import "os"

// StartWriteback does nothing here: the sync at the end does all.
func StartWriteback(*os.File, int64, int64) {}
