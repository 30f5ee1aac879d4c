package probe

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"ferry/pkg/contract"
	"ferry/pkg/registry"
)

// Bounds of the request bodies that are tried, in bytes. Whoever takes fewer than
// the smallest takes no images; to find out more than the largest is to move data.
const (
	SmallestBody = 64 << 10
	LargestBody  = 256 << 20
)

// body asks how many bytes a request may carry (Q8), by zeros in uploads that are
// cancelled: chunks first, and where there are none, blobs that are whole and have
// another digest.
func (r *run) body(ctx context.Context) error {
	var steps []int64
	for size := int64(SmallestBody); size < r.Body; size *= 2 {
		steps = append(steps, size)
	}
	steps = append(steps, r.Body)
	sent := steps[0]
	first, err := r.send(ctx, sent, false)
	if err != nil {
		return err
	}
	minimum := chunkMinimum(first.Begin)
	r.spec.ChunkMinimum = minimum
	if minimum > sent && minimum <= r.Body { // fewer say nothing about chunks
		sent = minimum
		if first, err = r.send(ctx, sent, false); err != nil {
			return err
		}
	}
	chunks := judge(first.Sent)
	if minimum > r.Body || tooLarge(first.Sent) { // too few bytes, or too many, whatever they are
		chunks = contract.VerdictUnknown
	}
	r.note(contract.FeatureChunks, chunks, evidence(first.Sent))
	var accepted int64
	if chunks == contract.VerdictYes { // so much is known
		accepted = sent
		steps = slices.DeleteFunc(steps, func(size int64) bool { return size <= sent })
	}
	r.spec.Body, err = search(steps, accepted, func(size int64) (contract.Verdict, contract.Evidence, error) {
		a, err := r.send(ctx, size, chunks == contract.VerdictNo)
		return sized(a.Sent, chunks == contract.VerdictNo), evidence(a.Sent), err
	})
	return err
}

// send sends zeros into an upload that is cancelled then.
func (r *run) send(ctx context.Context, size int64, whole bool) (registry.UploadAnswer, error) {
	a, err := r.Registry.AskUpload(ctx, r.home, registry.Trial{Zeros: size, Whole: whole})
	r.cancelled(r.home, a)
	if whole && a.Sent.Success() {
		r.left("a blob of %d zero bytes in %s, which the registry took for another digest", size, r.home)
	}
	sent := &a.Sent
	if !a.Begin.Success() {
		sent = &a.Begin
	}
	answer, err := answered(ctx, *sent, err)
	a.Sent = answer
	return a, err
}

// sized is whether a body of its size was taken. That the digest of a whole one is
// wrong is found out by who has all of it.
func sized(a registry.Answer, whole bool) contract.Verdict {
	switch {
	case a.Success(), whole && (a.Status == http.StatusBadRequest || a.Code == "DIGEST_INVALID"):
		return contract.VerdictYes
	case tooLarge(a):
		return contract.VerdictNo
	}
	return contract.VerdictUnknown
}

// tooLarge reports whether an answer complains of the size; some registries say
// 416.
func tooLarge(a registry.Answer) bool {
	return a.Status == http.StatusRequestEntityTooLarge || a.Status == http.StatusRequestedRangeNotSatisfiable
}

// chunkMinimum is what the start of an upload says of the size of chunks.
func chunkMinimum(a registry.Answer) int64 {
	minimum, err := strconv.ParseInt(http.Header(a.Header).Get("OCI-Chunk-Min-Length"), 10, 64)
	if err != nil || minimum < 0 {
		return 0
	}
	return minimum
}
