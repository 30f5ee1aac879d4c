package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
	"ferry/pkg/registry/registrytest"
)

// The proof must fail for whatever could be wrong.
func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(c *comparison)
		want  string // in the error, "" for none
	}{
		{"all there", func(*comparison) {}, ""},
		{"target lacks a tag", func(c *comparison) { c.target.Delete("mirror/dkp/install", "v1") }, "install:v1: 404"},
		{"target has another image", func(c *comparison) { c.target.PutImage("mirror/dkp/install", "v1", []byte("other")) }, "install:v1 is sha256"},
		{"source has another image", func(c *comparison) { c.source.PutImage("deckhouse/ee/install", "v1", []byte("other")) }, "install:v1 is sha256"},
		{"receipt lacks a tag", func(c *comparison) { c.receipt.Tags = nil }, `the receipt has "" for install:v1`},
		{"bundle lacks an image", func(c *comparison) { c.expected["install:v2"] = c.expected["install:v1"] }, `the bundle has "" for install:v2`},
		{"bundle has one too many", func(c *comparison) { clear(c.expected) }, "which nobody wants"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newComparison(t)
			tc.spoil(c)
			var out bytes.Buffer
			err := compare(t.Context(), c.write(t), &out)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error is %v, want one with %q", err, tc.want)
			case tc.want == "" && !strings.Contains(out.String(), "all 1 tags"):
				t.Errorf("it says: %s", out.String())
			}
		})
	}
}

type comparison struct {
	source, target *registrytest.Server
	expected       map[string]oci.Digest
	bundle         contract.BundleSpec
	receipt        contract.ReceiptSpec
}

func newComparison(t *testing.T) *comparison {
	c := &comparison{
		source: registrytest.Start(t, registrytest.New()),
		target: registrytest.Start(t, registrytest.New()),
	}
	im := c.source.PutImage("deckhouse/ee/install", "v1", []byte("layer"))
	c.target.PutImage("mirror/dkp/install", "v1", []byte("layer"))
	c.expected = map[string]oci.Digest{"install:v1": im.Digest}
	c.bundle = contract.BundleSpec{
		Archives: []contract.ArchiveFiles{{Name: "platform", Size: 1, Digest: im.Digest, Files: []contract.File{{Name: "platform.tar", Size: 1, Digest: im.Digest}}}},
		Contents: contract.Contents{
			Archives:  []contract.Archive{{Name: "platform", Layouts: []string{}}},
			Manifests: []contract.Manifest{{Digest: im.Digest, MediaType: im.MediaType, Size: im.Size}},
			Images: []contract.Image{{
				Archive: "platform", Path: "install", Tag: "v1", Digest: im.Digest,
				Source: c.source.Repository("deckhouse/ee/install").WithTag("v1").String(),
			}},
		},
	}
	c.receipt = contract.ReceiptSpec{
		Target: c.target.Repository("mirror/dkp").String(),
		Tags: []contract.ReceiptTag{
			{Repository: c.target.Repository("mirror/dkp/install").String(), Tag: "v1", Digest: im.Digest},
			{Repository: c.target.Repository("mirror/dkp/modules").String(), Tag: "m", Digest: im.Digest, Discovery: true},
		},
	}
	return c
}

// write returns the arguments of compare.
func (c *comparison) write(t *testing.T) []string {
	dir := t.TempDir()
	bundle, err := contract.Encode(contract.New("test", nil, c.bundle))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := contract.Encode(contract.New("test", nil, c.receipt))
	if err != nil {
		t.Fatal(err)
	}
	expected, err := json.Marshal(c.expected)
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for name, text := range map[string][]byte{"1": expected, "2": bundle, "3": receipt} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"1", "2", "3"} {
		args = append(args, filepath.Join(dir, name))
	}
	return args
}

// The table is made of the very examples of the documents.
func TestTable(t *testing.T) {
	const examples = "../../../schemas/v1alpha1/examples/"
	var out bytes.Buffer
	if err := table([]string{"=" + examples + "catalog.json", "discover=" + examples + "catalog.json", "publish=" + examples + "receipt.json"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"discover  0.00", "9 repositories with 18 tags, 3 channels", "13 tags stand at registry.closed.example:5000/mirror/dkp, 1 skipped"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if err := table([]string{"x=main.go"}, &out); err == nil {
		t.Error("a file that is no document is accepted")
	}
}
