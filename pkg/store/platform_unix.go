//go:build unix

package store

import "syscall"

// openNoFollow refuses a symbolic link in the place of a file.
const openNoFollow = syscall.O_NOFOLLOW
