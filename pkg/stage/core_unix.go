//go:build unix

package stage

import "syscall"

// forbidCore keeps this process and its children from leaving a core file: a
// password in memory would be in it, with the rights of whoever may read the
// directory. Only who may raise limits can allow it again.
func forbidCore() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
