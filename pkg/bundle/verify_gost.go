package bundle

import (
	"context"
	"encoding/hex"

	"ferry/pkg/contract"
	"ferry/pkg/streebog"
)

// gostHasher makes the GOST sums of files while others use the same buffers.
type gostHasher struct {
	pieces chan gostPiece
	hashed chan []contract.File
}

// gostPiece is what follows of a file, or its end, when it has the file's name.
type gostPiece struct {
	piece
	ended string
}

// newGostHasher starts the goroutine that hashes. When ctx is done it only drops
// what comes.
func newGostHasher(ctx context.Context) *gostHasher {
	g := &gostHasher{pieces: make(chan gostPiece, readAheadCount), hashed: make(chan []contract.File, 1)}
	go func() { g.hashed <- g.hash(ctx) }()
	return g
}

func (g *gostHasher) hash(ctx context.Context) []contract.File {
	sum := streebog.New256()
	var files []contract.File
	for p := range g.pieces {
		if p.ended != "" {
			files = append(files, contract.File{Name: p.ended, Gost: hex.EncodeToString(sum.Sum(nil))})
			sum.Reset()
			continue
		}
		if ctx.Err() == nil {
			sum.Write(p.data)
		}
		p.done()
	}
	return files
}

func (g *gostHasher) add(p piece) { g.pieces <- gostPiece{piece: p} }

func (g *gostHasher) endFile(name string) { g.pieces <- gostPiece{ended: name} }

// finish returns the files with their sums, without sizes and digests.
func (g *gostHasher) finish() []contract.File {
	close(g.pieces)
	return <-g.hashed
}
