package bundle

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const tarSuffix = ".tar"

var chunkRE = regexp.MustCompile(`^(.+)\.tar\.([0-9]{4,9})\.chunk$`)

// chunkName is the name of chunk i of an archive (S6.6.1).
func chunkName(archive string, i int) string { return fmt.Sprintf("%s.tar.%04d.chunk", archive, i) }

// archiveOf tells which archive the file name belongs to, and which of its
// chunks it is, -1 for the whole (S7.1). Other files are no archives.
func archiveOf(file string) (archive string, chunk int, ok bool) {
	if name, found := strings.CutSuffix(file, tarSuffix); found && name != "" {
		return name, -1, true
	}
	m := chunkRE.FindStringSubmatch(file)
	if m == nil {
		return "", 0, false
	}
	n, err := strconv.Atoi(m[2])
	return m[1], n, err == nil
}
