package registrytest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/registry"
)

// Conformance checks that target keeps the promises of registry.Target against
// a registry that is empty below root. The same suite runs against the registry
// of this package and against real ones.
func Conformance(t *testing.T, target registry.Target, root oci.Repository) {
	t.Helper()
	for _, tt := range []struct {
		name string
		run  func(*testing.T, registry.Target, oci.Repository)
	}{
		{"absent", conformAbsent},
		{"access", conformAccess},
		{"image", conformImage},
		{"mount", conformMount},
		{"resume", conformResume},
		{"tags", conformTags},
		{"referrers", conformReferrers},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, target, root.Join(tt.name)) })
	}
}

// WantKind fails the test unless err is of the kind.
func WantKind(t testing.TB, err error, want *fault.Kind) {
	t.Helper()
	if fault.KindOf(err) != want {
		t.Errorf("error kind %v (%v), want %v", fault.KindOf(err), err, want)
	}
}

func conformAbsent(t *testing.T, target registry.Target, repo oci.Repository) {
	ctx := t.Context()
	nothing := oci.Descriptor{Digest: oci.DigestOf([]byte("nothing")), Size: 7}
	_, err := target.Resolve(ctx, repo.WithTag("v1"))
	WantKind(t, err, fault.NotFound)
	_, _, err = target.Manifest(ctx, repo.WithDigest(nothing.Digest))
	WantKind(t, err, fault.NotFound)
	if tags, err := target.Tags(ctx, repo); err != nil || len(tags) > 0 { // some list nothing instead
		WantKind(t, err, fault.NotFound)
	}
	_, _, err = target.Blob(ctx, repo, nothing, nil)
	WantKind(t, err, fault.NotFound)
	list, err := target.Referrers(ctx, repo, nothing.Digest)
	if kind := fault.KindOf(err); len(list) > 0 || err != nil && kind != fault.NotFound && kind != fault.Unsupported {
		t.Errorf("Referrers of nothing = %v, %v", list, err)
	}
	if has, err := target.HasBlob(ctx, repo, nothing); has || err != nil {
		t.Errorf("HasBlob = %t, %v", has, err)
	}
	_, err = target.BlobSize(ctx, repo, nothing.Digest)
	WantKind(t, err, fault.NotFound)
}

// conformAccess: asking for access leaves nothing that a reader could see.
func conformAccess(t *testing.T, target registry.Target, repo oci.Repository) {
	if err := target.CheckWrite(t.Context(), repo); err != nil {
		t.Fatalf("CheckWrite: %v", err)
	}
	tags, err := target.Tags(t.Context(), repo)
	if err != nil {
		WantKind(t, err, fault.NotFound)
	}
	if len(tags) > 0 {
		t.Errorf("the check left the tags %v", tags)
	}
}

// pushBlob uploads data and checks that it is there.
func pushBlob(t *testing.T, target registry.Target, repo oci.Repository, mediaType string, data []byte) oci.Descriptor {
	t.Helper()
	desc := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
	if err := target.PutBlob(t.Context(), repo, desc, bytes.NewReader(data)); err != nil {
		t.Fatalf("PutBlob: %v", err)
	}
	if has, err := target.HasBlob(t.Context(), repo, desc); !has || err != nil {
		t.Fatalf("HasBlob = %t, %v", has, err)
	}
	if size, err := target.BlobSize(t.Context(), repo, desc.Digest); size != desc.Size && size != -1 || err != nil {
		t.Fatalf("BlobSize = %d, %v, want %d", size, err, desc.Size)
	}
	return desc
}

func conformImage(t *testing.T, target registry.Target, repo oci.Repository) {
	ctx := t.Context()
	config := pushBlob(t, target, repo, "application/vnd.oci.image.config.v1+json", []byte("{}"))
	empty := pushBlob(t, target, repo, "application/vnd.oci.image.layer.v1.tar", nil)
	large := pushBlob(t, target, repo, "application/vnd.oci.image.layer.v1.tar", bytes.Repeat([]byte("ferry"), 1<<20))
	image := ImageManifest(config, empty, large)
	desc := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf(image), Size: int64(len(image))}
	index := IndexManifest(desc)
	if err := target.PutManifest(ctx, repo.WithDigest(desc.Digest), desc.MediaType, image); err != nil {
		t.Fatalf("PutManifest by digest: %v", err)
	}
	tagged := repo.WithTag("v1")
	tagged.Digest = oci.DigestOf(index)
	if err := target.PutManifest(ctx, tagged, oci.MediaTypeIndex, index); err != nil {
		t.Fatalf("PutManifest by tag: %v", err)
	}
	err := target.PutManifest(ctx, repo.WithDigest(oci.DigestOf(nil)), desc.MediaType, image)
	WantKind(t, err, fault.Damaged)

	want := oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: oci.DigestOf(index), Size: int64(len(index))}
	if got, err := target.Resolve(ctx, repo.WithTag("v1")); got != want || err != nil {
		t.Errorf("Resolve = %v, %v, want %v", got, err, want)
	}
	if got, body, err := target.Manifest(ctx, repo.WithTag("v1")); got != want || !bytes.Equal(body, index) || err != nil {
		t.Errorf("Manifest by tag = %v, %q, %v", got, body, err)
	}
	if got, body, err := target.Manifest(ctx, repo.WithDigest(desc.Digest)); got != desc || !bytes.Equal(body, image) || err != nil {
		t.Errorf("Manifest by digest = %v, %q, %v", got, body, err)
	}
	for _, blob := range []oci.Descriptor{config, empty, large} {
		body, start, err := target.Blob(ctx, repo, blob, nil)
		if err != nil || start != 0 {
			t.Fatalf("Blob: start %d, %v", start, err)
		}
		data, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil || oci.DigestOf(data) != blob.Digest {
			t.Errorf("blob of %d bytes came back with %d: %v", blob.Size, len(data), err)
		}
	}
}

func conformMount(t *testing.T, target registry.Target, repo oci.Repository) {
	desc := pushBlob(t, target, repo.Join("a"), "application/octet-stream", []byte("mounted"))
	to := repo.Join("b")
	mounted, err := target.MountBlob(t.Context(), to, desc, repo.Join("a"))
	if err != nil {
		t.Fatalf("MountBlob: %v", err)
	}
	if has, err := target.HasBlob(t.Context(), to, desc); has != mounted || err != nil {
		t.Errorf("mounted is %t, HasBlob = %t, %v", mounted, has, err)
	}
}

func conformResume(t *testing.T, target registry.Target, repo oci.Repository) {
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	desc := pushBlob(t, target, repo, "application/octet-stream", data)
	for _, n := range []int64{0, 1, 123_456, desc.Size - 1, desc.Size} {
		held := io.NewSectionReader(unread{}, 0, n)
		body, start, err := target.Blob(t.Context(), repo, desc, held)
		if err != nil {
			t.Fatalf("%d bytes held: %v", n, err)
		}
		rest, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil {
			t.Fatalf("%d bytes held: %v", n, err)
		}
		if start != 0 && start != n {
			t.Errorf("%d bytes held: the body starts at %d", n, start)
		}
		if !bytes.Equal(rest, data[start:]) {
			t.Errorf("%d bytes held: body of %d bytes from %d is wrong", n, len(rest), start)
		}
	}
}

// unread is held, and nobody's business but the holder's.
type unread struct{}

func (unread) ReadAt([]byte, int64) (int, error) { return 0, errors.New("held bytes were read") }

func conformTags(t *testing.T, target registry.Target, repo oci.Repository) {
	config := pushBlob(t, target, repo, "application/vnd.oci.image.config.v1+json", []byte("{}"))
	image := ImageManifest(config)
	want := strings.Fields("alpha stable v1.0.0 v1.0.1")
	for _, tag := range want {
		if err := target.PutManifest(t.Context(), repo.WithTag(tag), oci.MediaTypeManifest, image); err != nil {
			t.Fatalf("PutManifest %s: %v", tag, err)
		}
	}
	got, err := target.Tags(t.Context(), repo)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Tags = %v, %v, want %v", got, err, want)
	}
}

// conformReferrers: what is attached is listed, once and by its subject alone, or
// the registry says that it has no such list, then and again (S1.7.5).
func conformReferrers(t *testing.T, target registry.Target, repo oci.Repository) {
	ctx := t.Context()
	config := pushBlob(t, target, repo, "application/vnd.oci.empty.v1+json", []byte("{}"))
	put := func(body []byte) oci.Descriptor {
		desc := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.DigestOf(body), Size: int64(len(body))}
		if err := target.PutManifest(ctx, repo.WithTag(desc.Digest.Hex()), desc.MediaType, body); err != nil {
			t.Fatalf("PutManifest: %v", err)
		}
		return desc
	}
	image, other := put(ImageManifest(config)), put(ImageManifest(config, config))
	var want []oci.Descriptor
	for _, kind := range []string{"text/spdx", "application/vnd.example.signature", "application/vnd.example.vex"} {
		want = append(want, put(AttachedManifest(image, kind, config, config)))
	}
	put(AttachedManifest(other, "text/spdx", config, config))
	byDigest := func(a, b oci.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) }
	slices.SortFunc(want, byDigest)
	for range 2 {
		got, err := target.Referrers(ctx, repo, image.Digest)
		slices.SortFunc(got, byDigest)
		if fault.KindOf(err) == fault.Unsupported && got == nil {
			continue
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Referrers = %v, %v, want %v", got, err, want)
		}
		if none, err := target.Referrers(ctx, repo, want[0].Digest); len(none) > 0 || err != nil {
			t.Errorf("Referrers of what nothing is attached to = %v, %v", none, err)
		}
	}
}
