package transfer

import "ferry/pkg/oci"

// Landing tells in which repository of the target a path of contents lands.
func Landing(root oci.Repository, prefixes []Prefix) func(path string) oci.Repository {
	l := landing{root, prefixes}
	return func(path string) oci.Repository {
		repo, _ := l.repository(path)
		return repo
	}
}
