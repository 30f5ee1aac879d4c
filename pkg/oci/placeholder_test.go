package oci

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// S7.7, S9 row 92: the digest is part of what a target looks like after a
// publish; changing it makes every later publish rewrite every discovery tag.
func TestPlaceholderIsConstant(t *testing.T) {
	p := NewPlaceholder()
	if got, want := p.Descriptor.Digest, Digest("sha256:0f1dab9f2c3e3bc8982c23813de8efff8bfa8a445279d16deceb6cc2e1838387"); got != want {
		t.Errorf("placeholder digest is %s, want %s", got, want)
	}
	m, err := ParseManifest(MediaTypeDockerManifest, p.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range m.Blobs {
		if got := DigestOf(p.Blobs[i].Content); got != d.Digest {
			t.Errorf("blob %d hashes to %s, the manifest says %s", i, got, d.Digest)
		}
	}
	zr, err := gzip.NewReader(bytes.NewReader(p.Blobs[1].Content))
	if err != nil {
		t.Fatal(err)
	}
	tar, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := DigestOf(tar), Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"); got != want {
		t.Errorf("the layer's diff id is %s, the config says %s", got, want)
	}
}
