package main

import (
	"context"
	"errors"
	"fmt"

	"ferry/pkg/contract"
	"ferry/pkg/progress"
	"ferry/pkg/stage"
	"ferry/pkg/summary"
	"ferry/pkg/transfer"
)

func (f *flags) verify(ctx context.Context, s *stage.Session) error {
	if err := f.refuse(s, "verify asks for all blobs anyway, and writes nothing", nil); err != nil {
		return err
	}
	target, prefixes, err := f.place(f.Verify.Target)
	if err != nil {
		return err
	}
	in, err := s.Input(ctx)
	if err != nil {
		return err
	}
	contents, err := contentsOf(in)
	if err != nil {
		return err
	}
	s.Summary.Title, s.Summary.Words = "Verification", summary.Standing()
	s.Summary.To, s.Summary.Overview = target.String(), contents.Overview
	inputs, err := stage.InputsOf(struct {
		Target   string
		Prefixes []transfer.Prefix
		Content  bool
	}{target.String(), prefixes, f.Verify.Content}, in)
	if err != nil {
		return err
	}
	verifier := &transfer.Verifier{
		Root: target, Prefixes: prefixes, ReadBlobs: f.Verify.Content,
		Parallel: f.InFlight(), Retry: f.Retry(), Log: s.Log, Progress: s.Progress,
	}
	return stage.Produce(ctx, s, stage.Product[contract.ReceiptSpec]{
		Inputs: inputs,
		Valid: func(context.Context, *contract.Receipt) error {
			return errors.New("a Receipt of an earlier day proves nothing of today")
		},
		Tell: func(spec *contract.ReceiptSpec) {
			s.Summary.Overview = spec.Overview
			s.Summary.State = fmt.Sprintf("%d tags stand at the target, with all below them", len(spec.Tags))
		},
		Make: func(ctx context.Context) (contract.ReceiptSpec, error) {
			return f.prove(ctx, s, verifier, contents)
		},
	})
}

func (f *flags) prove(ctx context.Context, s *stage.Session, v *transfer.Verifier, contents *contract.Contents) (contract.ReceiptSpec, error) {
	client, err := f.Client(ctx, s, v.Root.Host)
	if err != nil {
		return contract.ReceiptSpec{}, err
	}
	defer client.Close()
	v.Target = client
	receipt, figures, err := v.Verify(ctx, contents)
	found := fmt.Sprintf("%d tags, %d manifests below them, %d blobs", figures.Tags, figures.Children, figures.Blobs)
	if f.Verify.Content {
		found += fmt.Sprintf(" of %s, read and hashed", progress.Size(figures.BytesRead))
	}
	s.Summary.Facts = []summary.Fact{{Label: "Found", Text: found}}
	if figures.Gaps > 0 {
		s.Summary.Facts = append(s.Summary.Facts, summary.Fact{Label: "Gaps", Text: fmt.Sprint(figures.Gaps), Warning: true})
	}
	s.Count("tags", figures.Tags)
	s.Count("children", figures.Children)
	s.Count("blobs", figures.Blobs)
	s.Count("bytesRead", figures.BytesRead)
	s.Count("gaps", figures.Gaps)
	if err == nil {
		s.Log.Info(fmt.Sprintf("all stands at %s%s: %s", v.Root, elsewhere(&receipt), found))
	}
	return receipt, err
}
