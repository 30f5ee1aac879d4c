//go:build !linux && !darwin

package durable

// Free does not know here.
func Free(string) (int64, bool) { return 0, false }

func roomOf(string) room { return room{block: smallestBlock} }
