// Package imagefs finds single files in a container image, without unpacking
// it: no path that an image names is ever written.
//
// Layers are searched from the top. A layer is opened only when the ones above
// leave a question open, and then read to its end: only then is "the file is
// not here" known, and only then has the reader below checked the digest. A
// layer that breaks off is an error, never an absence (S1.10.3).
package imagefs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"ferry/pkg/fault"
)

// Layer is one layer of an image.
type Layer struct {
	// Name stands for the layer in errors: its digest.
	Name string
	// Open opens the layer's bytes as they are stored: a tar archive, plain
	// or compressed with gzip or zstd. Its errors come back from Find as they
	// are.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// limits bound what a hostile layer can cost (failure: decompression bombs).
type limits struct {
	file    int64 // bytes of one found file
	layer   int64 // bytes of a layer, decompressed
	entries int   // entries of a layer
	ratio   int64 // decompressed bytes for each stored one ...
	free    int64 // ... beyond this many decompressed bytes
	window  uint64
}

// defaultLimits leave ample room for real images: the files that are read have
// at most some hundred kilobytes, layers of vendors some gigabytes.
func defaultLimits() limits {
	return limits{file: 64 << 20, layer: 64 << 30, entries: 2 << 20, ratio: 200, free: 256 << 20, window: 128 << 20}
}

// Find returns the content of those of the named files that the image has, by
// the name asked for. layers are in the order of the manifest, top layer last.
//
// Names are paths from the root of the image; "./a", "/a" and "a" are the same
// (S1.10.1). Whiteouts of a file, of a directory above it and opaque
// directories hide what lower layers have. An empty file is found, with no
// content.
//
// Kinds: fault.Protocol for a layer that is not a whole tar archive or exceeds
// a limit, fault.Unsupported for a name that leads to a link; errors of Open and
// of the opened reader keep their own.
func Find(ctx context.Context, layers []Layer, names []string) (map[string][]byte, error) {
	return find(ctx, layers, names, defaultLimits())
}

func find(ctx context.Context, layers []Layer, names []string, lim limits) (map[string][]byte, error) {
	open := map[string][]string{} // cleaned path to the names asked for
	for _, name := range names {
		p, ok := clean(name)
		if !ok {
			return nil, fault.Newf(fault.Usage, name, "is not a path of a file inside an image")
		}
		open[p] = append(open[p], name)
	}
	found := map[string][]byte{}
	for i := len(layers) - 1; i >= 0 && len(open) > 0; i-- {
		s := scan{limits: lim, open: open, files: map[string][]byte{}, hidden: map[string]bool{}}
		if err := s.layer(ctx, layers[i]); err != nil {
			return nil, err
		}
		for p, names := range open {
			content, ok := s.files[p]
			for _, name := range names {
				if ok {
					found[name] = content
				}
			}
			if ok || s.hidden[p] {
				delete(open, p)
			}
		}
	}
	return found, nil
}

// clean returns the path that an entry or a name means. A path that climbs out
// of the root, or is the root, means no file.
func clean(name string) (string, bool) {
	for segment := range strings.SplitSeq(name, "/") {
		if segment == ".." {
			return "", false
		}
	}
	p := path.Clean("/" + name)[1:]
	return p, p != ""
}

// scan is what one layer says about the paths that are still open.
type scan struct {
	limits
	open   map[string][]string
	files  map[string][]byte // found here
	hidden map[string]bool   // lower layers do not count
}

func (s *scan) layer(ctx context.Context, layer Layer) error {
	raw, err := layer.Open(ctx)
	if err != nil {
		return err
	}
	source := &source{ctx: ctx, reader: raw}
	err = s.read(source)
	if source.err != nil { // tells more than what a decoder made of it
		err = fmt.Errorf("layer %s: %w", layer.Name, source.err)
	}
	if closeErr := raw.Close(); err == nil {
		return closeErr
	}
	if source.err != nil || fault.KindOf(err) != nil {
		return err
	}
	return fault.Newf(fault.Protocol, "layer "+layer.Name, "cannot be read: %w", err).
		Hint("the publisher's image is damaged; what it holds cannot be known")
}

func (s *scan) read(source *source) error {
	plain, err := decompress(source, s.window)
	if err != nil {
		return err
	}
	defer plain.Close()
	counted := &counter{reader: plain, source: source, limits: s.limits}
	archive := tar.NewReader(counted)
	for n := 0; ; n++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n >= s.entries {
			return fmt.Errorf("more than %d entries", s.entries)
		}
		if err := s.entry(header, archive); err != nil {
			return err
		}
	}
	if !counted.endsInZeros() {
		return fmt.Errorf("the archive is cut off: %w", io.ErrUnexpectedEOF)
	}
	// What follows the archive is no content, but a broken end of the
	// compressed stream shows here, and the digest is checked at its end.
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, source)
	return err
}

// entry notes what an entry says about the open paths.
func (s *scan) entry(header *tar.Header, content io.Reader) error {
	name, ok := clean(header.Name)
	if !ok {
		return nil
	}
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" {
		s.hideBelow(dir)
		return nil
	}
	if gone, ok := strings.CutPrefix(base, ".wh."); ok {
		s.hidden[dir+gone] = true
		s.hideBelow(dir + gone + "/")
		return nil
	}
	if header.Typeflag == tar.TypeDir {
		s.hidden[name] = true // what was a file below is a directory now
		return nil
	}
	if _, wanted := s.open[name]; wanted {
		return s.file(name, header, content)
	}
	return s.blocked(name, header)
}

// hideBelow hides what lower layers have below the directory dir: "a/b/", or ""
// for the root.
func (s *scan) hideBelow(dir string) {
	for p := range s.open {
		if strings.HasPrefix(p, dir) {
			s.hidden[p] = true
		}
	}
}

func (s *scan) file(name string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
	case tar.TypeLink, tar.TypeSymlink:
		return linkError(name, header)
	default:
		s.hidden[name] = true
		return nil
	}
	if header.Size > s.limits.file {
		return fmt.Errorf("%s has %d bytes, more than the %d that are read", name, header.Size, s.limits.file)
	}
	data, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	s.files[name] = data
	return nil
}

// blocked deals with a file or link in the place of a directory above an open
// path.
func (s *scan) blocked(name string, header *tar.Header) error {
	for p := range s.open {
		if !strings.HasPrefix(p, name+"/") {
			continue
		}
		if header.Typeflag == tar.TypeSymlink {
			return linkError(name, header)
		}
		s.hidden[p] = true
	}
	return nil
}

// linkError refuses to guess: calling the file absent could lose the images
// that it names.
func linkError(name string, header *tar.Header) error {
	return fault.Newf(fault.Unsupported, name, "is a link to %q inside the image; only regular files are read", header.Linkname)
}
