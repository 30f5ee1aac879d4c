package bundle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ferry/pkg/contract"
	"ferry/pkg/durable"
	"ferry/pkg/oci"
)

// draftLog remembers, across runs that are killed, what of an archive has been
// received. It is a file beside the archive: a line that says what is laid out
// there, and then a line for each step:
//
//   - HEX SIZE OFFSET   the blob is durable, at OFFSET (and wherever else the
//     archive has it)
//     = HEX N             N bytes of the blob are there, perhaps
//   - HEX               it is not there after all
//
// A line without its end was being written when the machine died, and counts for
// nothing. It is safe for concurrent use.
type draftLog struct {
	path string

	mu sync.Mutex
	f  *os.File
}

// laidOut says what an archive's files are laid out for.
type laidOut struct {
	MadeFrom oci.Digest      `json:"madeFrom"`
	Files    []contract.File `json:"files"` // names and sizes
}

// layoutFor is what the files of p are laid out for. The size of chunks counts: the
// same archive lies in other files then.
func layoutFor(p *archivePlan) laidOut { return laidOut{MadeFrom: p.madeFrom, Files: p.files} }

func (l laidOut) equal(other laidOut) bool {
	return l.MadeFrom == other.MadeFrom && slices.Equal(l.Files, other.Files)
}

// progressOf is what a log says.
type progressOf struct {
	laidOut
	received map[oci.Digest]byteRange
	held     map[oci.Digest]byteRange // of the bytes that are there, perhaps
	length   int64                    // of the log's whole lines, in bytes
}

// byteRange is a range of an archive.
type byteRange struct{ size, offset int64 }

// createLog begins the log of a new layout, durably.
func createLog(path string, what laidOut) (*draftLog, error) {
	head, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, append(head, '\n'), 0o644); err != nil {
		return nil, err
	}
	return openLog(path, int64(len(head))+1)
}

// openLog opens a log to go on behind its first length bytes.
func openLog(path string, length int64) (*draftLog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		err = f.Truncate(length)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, durable.Fault(path, err)
	}
	return &draftLog{path: path, f: f}, nil
}

// readLog reads a log. A file that is none is fault-free and says nothing: ok is
// false.
func readLog(path string) (said progressOf, ok bool, err error) {
	data, err := readIfThere(path)
	if err != nil || data == nil {
		return progressOf{}, false, err
	}
	said, ok = parseLog(data)
	return said, ok, nil
}

func parseLog(data []byte) (progressOf, bool) {
	said := progressOf{received: map[oci.Digest]byteRange{}, held: map[oci.Digest]byteRange{}}
	lines := bufio.NewReader(bytes.NewReader(data))
	for first := true; ; first = false {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return said, said.MadeFrom.Valid()
		}
		if first {
			err = json.Unmarshal([]byte(line), &said.laidOut)
		} else {
			err = said.add(line)
		}
		if err != nil { // what follows cannot be trusted to be ours
			return said, said.MadeFrom.Valid()
		}
		said.length += int64(len(line))
	}
}

// add takes one line in.
func (p *progressOf) add(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return errors.New("too short")
	}
	digest, err := oci.ParseDigest("sha256:" + fields[1])
	if err != nil {
		return err
	}
	numbers := make([]int64, len(fields)-2)
	for i, text := range fields[2:] {
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil || numbers[i] < 0 {
			return fmt.Errorf("%q is no number of bytes", text)
		}
	}
	switch {
	case fields[0] == "+" && len(numbers) == 2:
		p.received[digest] = byteRange{numbers[0], numbers[1]}
		delete(p.held, digest)
	case fields[0] == "=" && len(numbers) == 2:
		p.held[digest] = byteRange{numbers[0], numbers[1]}
	case fields[0] == "-" && len(numbers) == 0:
		delete(p.received, digest)
		delete(p.held, digest)
	default:
		return errors.New("not a line of this log")
	}
	return nil
}

func receivedLine(d oci.Digest, r byteRange) string {
	return fmt.Sprintf("+ %s %d %d\n", d.Hex(), r.size, r.offset)
}

func heldLine(d oci.Digest, r byteRange) string {
	return fmt.Sprintf("= %s %d %d\n", d.Hex(), r.size, r.offset)
}

func lostLine(d oci.Digest) string { return fmt.Sprintf("- %s\n", d.Hex()) }

// append adds lines. They survive the process; the machine only after sync.
func (l *draftLog) append(lines string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.f.WriteString(lines)
	return durable.Fault(l.path, err)
}

func (l *draftLog) sync() error { return durable.Fault(l.path, l.f.Sync()) }

func (l *draftLog) Close() { l.f.Close() }
