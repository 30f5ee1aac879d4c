package bundle

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/fault"
)

// gostSuffix makes the name of the file that has the GOST sum of an archive or
// chunk, and nothing else, not even a newline (S6.7.1).
const gostSuffix = ".gostsum"

// gostFilesIn lists the files of dir, sorted, that hold sums of archives or
// chunks by their names.
func gostFilesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, durable.Fault(dir, err)
	}
	var names []string
	for _, e := range entries {
		file, found := strings.CutSuffix(e.Name(), gostSuffix)
		if _, _, ok := archiveOf(file); found && ok && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// HasGostSums tells whether a GOST sum of any archive or chunk lies in dir.
// Kinds: fault.Local.
func HasGostSums(dir string) (bool, error) {
	names, err := gostFilesIn(dir)
	return len(names) > 0, err
}

// putGostSums makes the files of sums in dir what the archive's files say: with
// a sum they are written, durably, without one removed.
func putGostSums(dir string, archive contract.ArchiveFiles) error {
	for _, f := range archive.Files {
		path := filepath.Join(dir, f.Name+gostSuffix)
		if f.Gost == "" {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return durable.Fault(path, err)
			}
			continue
		}
		if have, err := os.ReadFile(path); err == nil && string(have) == f.Gost {
			continue
		}
		if err := durable.WriteFile(path, []byte(f.Gost), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// gostSums are sums that the files of an archive must have, by file.
type gostSums map[string]string

// readGostSums reads the sums that stand beside the files of an archive: those
// that the document promises must be there, and say the same.
// Kinds: fault.Damaged for all that is wrong, fault.Local.
func readGostSums(dir string, files []contract.File) (gostSums, error) {
	sums := gostSums{}
	var problems []error
	for _, f := range files {
		sum, err := readGostSum(dir, f)
		if err != nil && !errors.Is(err, fault.Damaged) {
			return nil, err
		}
		problems = append(problems, err)
		if sum != "" {
			sums[f.Name] = sum
		}
	}
	return sums, errors.Join(problems...)
}

// CheckGostSum tells whether the sum that the document has of a file of dir
// stands beside it. The file itself is not read.
// Kinds: fault.Damaged, fault.Local.
func CheckGostSum(dir string, f contract.File) error {
	_, err := readGostSum(dir, f)
	return err
}

// readGostSum returns "" where there is no sum, and none is promised.
func readGostSum(dir string, f contract.File) (string, error) {
	name := f.Name + gostSuffix
	if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) && f.Gost == "" {
		return "", nil
	}
	file, err := openRegular(dir, name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 1<<10))
	if err != nil {
		return "", durable.Fault(filepath.Join(dir, name), err)
	}
	sum := strings.TrimRight(string(text), "\r\n") // what an editor adds
	switch {
	case !contract.ValidGost(sum):
		return "", damagedGost(name, fmt.Errorf("want 64 lowercase hex digits, found %.80q", text))
	case f.Gost != "" && sum != f.Gost:
		return "", damagedGost(name, fmt.Errorf("the sum is %s, %s says %s", sum, DocumentName, f.Gost))
	}
	return sum, nil
}

func damagedGost(name string, err error) error {
	return fault.New(fault.Damaged, name, err).
		Hint("copy it again from the medium; without it %s is not checked by this sum", strings.TrimSuffix(name, gostSuffix))
}

// compare compares files as they are with their sums; proven says that digests
// have shown already that the files are what they were.
func (sums gostSums) compare(got []contract.File, proven bool) error {
	var problems []error
	for _, f := range got {
		want, ok := sums[f.Name]
		switch {
		case !ok || f.Gost == want:
		case proven:
			problems = append(problems, damagedGost(f.Name+gostSuffix, fmt.Errorf("the sum is %s, but that of the file is %s", want, f.Gost)))
		default:
			problems = append(problems, fault.Newf(fault.Damaged, f.Name, "the content has the GOST sum %s, %s%s says %s", f.Gost, f.Name, gostSuffix, want).
				Hint("copy both files again from the medium"))
		}
	}
	return errors.Join(problems...)
}

// keep drops the sums that stand nowhere: where one chunk of an archive has a sum,
// all are hashed.
func (sums gostSums) keep(files []contract.File) {
	for i := range files {
		files[i].Gost = sums[files[i].Name]
	}
}

// missingOf lists the files whose sums are in dir although they themselves are
// not: without a document that is how a lost archive, or a lost last chunk, can
// be noticed. wanted tells of which archives the files matter.
func missingOf(dir string, files []string, wanted func(archive string) bool) ([]error, error) {
	sums, err := gostFilesIn(dir)
	var problems []error
	for _, name := range sums {
		file := strings.TrimSuffix(name, gostSuffix)
		archive, _, _ := archiveOf(file)
		if _, found := slices.BinarySearch(files, file); !found && wanted(archive) {
			problems = append(problems, fault.Newf(fault.Damaged, file, "the file is missing, but %s is there", name).
				Hint("copy the file from the medium, or remove its sum if it is not wanted"))
		}
	}
	return problems, err
}
