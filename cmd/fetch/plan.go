package main

import (
	"context"
	"fmt"

	"ferry/pkg/bundle"
	"ferry/pkg/contract"
	"ferry/pkg/progress"
	"ferry/pkg/stage"
	"ferry/pkg/store"
	"ferry/pkg/summary"
)

func (f *flags) producePlan(ctx context.Context, s *stage.Session, j *job, inputs []contract.Input) error {
	s.Summary.Title, s.Summary.Outcome = "Plan", summary.Planned
	if f.Bundle != "" {
		s.Summary.To = f.Bundle
	}
	var files []contract.ArchiveFiles
	return stage.Produce(ctx, s, stage.Product[contract.PlanSpec]{
		Inputs: inputs,
		// A kept Plan is checked against the directory and the store of now.
		Valid: func(_ context.Context, doc *contract.Plan) (err error) {
			files, err = f.preview(&doc.Spec.Contents)
			return err
		},
		Make: func(ctx context.Context) (contract.PlanSpec, error) {
			contents, err := f.fetch(ctx, s, j, nil)
			if err != nil {
				return contract.PlanSpec{}, err
			}
			if files, err = f.preview(&contents); err != nil {
				return contract.PlanSpec{}, err
			}
			return contract.PlanSpec{Archives: sizes(files), Contents: contents}, nil
		},
		Tell: func(spec *contract.PlanSpec) {
			s.Summary.Overview, s.Summary.Archives = spec.Contents.Overview, files
			s.Summary.Facts = f.figures(spec, files, j.store)
			s.Summary.State = "nothing was pulled yet; fetching this Plan brings exactly this"
		},
	})
}

func (f *flags) preview(contents *contract.Contents) ([]contract.ArchiveFiles, error) {
	return bundle.Preview(f.Bundle, contents, f.options())
}

func sizes(files []contract.ArchiveFiles) []contract.ArchiveSize {
	list := make([]contract.ArchiveSize, len(files))
	for i, a := range files {
		list[i] = contract.ArchiveSize{Name: a.Name, Size: a.Size}
	}
	return list
}

// figures are what a person decides by: how much there is to download, and the
// disk that both sides need.
func (f *flags) figures(plan *contract.PlanSpec, files []contract.ArchiveFiles, st *store.Dir) []summary.Fact {
	var total, missing, largest, packed int64
	parts := plan.Contents.Parts()
	for _, p := range parts {
		total, largest = total+p.Size, max(largest, p.Size)
		if size, err := st.Stat(p.Digest); err != nil || size != p.Size {
			missing += p.Size
		}
	}
	for _, a := range files {
		packed += a.Size
	}
	facts := []summary.Fact{
		transferFact(int64(len(parts)), total, missing),
		{Label: "Largest blob", Text: progress.Size(largest) + f.againstChunks(largest)},
		{Label: "This side", Text: fmt.Sprintf("bundle %s, and a little for what is read to find images; %s where all is kept in a store too",
			progress.Size(packed), progress.Size(total+packed))},
		{Label: "Closed side", Text: fmt.Sprintf("bundle %s, read in place; registry %s", progress.Size(packed), progress.Size(total))},
	}
	if free, known := st.Room(); known && free < missing {
		facts = append(facts, summary.Fact{Label: "Store's disk", Warning: true,
			Text: fmt.Sprintf("only %s are free, %s are to be downloaded: the pull would be refused", progress.Size(free), progress.Size(missing))})
	}
	return facts
}

// againstChunks tells what becomes of the largest blob; archives are cut
// wherever a chunk is full.
func (f *flags) againstChunks(largest int64) string {
	switch size := int64(f.ChunkSize); {
	case size == 0:
		return ""
	case largest > size:
		return fmt.Sprintf(", more than a chunk of %s: it lies in several, which does no harm", progress.Size(size))
	default:
		return fmt.Sprintf(", less than a chunk of %s", progress.Size(size))
	}
}

// transferFact tells how much of all content is still to come.
func transferFact(blobs, bytes, missing int64) summary.Fact {
	return summary.Fact{Label: "Download", Text: fmt.Sprintf("%s of %s in %d distinct blobs and manifests; %s are in the store already",
		progress.Size(missing), progress.Size(bytes), blobs, progress.Size(bytes-missing))}
}
