package bundle

import (
	"errors"
	"os"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
)

// Preview tells the files, by name and size, that [Write] makes of valid,
// normalized contents with the same options, and refuses what Write refuses,
// before there is any content. It writes nothing. Digests are not known yet.
// Without a dir, "", only the archives are planned.
//
// Kinds: fault.Usage when other archives are in dir, or would be too many;
// fault.Local.
func Preview(dir string, contents *contract.Contents, opts Options) ([]contract.ArchiveFiles, error) {
	plans, err := planArchives(contents, opts.ChunkSize)
	if err != nil {
		return nil, err
	}
	switch _, err := os.Stat(dir); {
	case dir == "", errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, durable.Fault(dir, err)
	default:
		if _, _, err := inspectDir(dir, plans, opts.Force); err != nil {
			return nil, err
		}
	}
	archives := make([]contract.ArchiveFiles, len(plans))
	for i, p := range plans {
		archives[i] = contract.ArchiveFiles{Name: p.name, Size: p.size, Files: p.files}
	}
	return archives, nil
}
