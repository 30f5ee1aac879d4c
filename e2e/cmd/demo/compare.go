package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/oci"
)

// compare proves that the target holds what the source offers, in three ways
// that do not rely on one another: the edition's own list against the bundle,
// the bundle against the receipt, and both registries, asked over plain HTTP.
func compare(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 3 {
		return errors.New("compare: want EXPECTED, BUNDLE and RECEIPT")
	}
	var expected map[string]oci.Digest
	if err := readJSON(args[0], &expected); err != nil {
		return err
	}
	bundle, err := readDocument[contract.BundleSpec](args[1])
	if err != nil {
		return err
	}
	receipt, err := readDocument[contract.ReceiptSpec](args[2])
	if err != nil {
		return err
	}
	carried := map[string]oci.Digest{}
	for _, im := range bundle.Spec.Contents.Images {
		carried[im.Path+":"+im.Tag] = im.Digest
	}
	published, discovery := received(&receipt.Spec)
	problems := slices.Concat(
		differences("the bundle", expected, carried),
		differences("the receipt", carried, published),
		registries(ctx, bundle.Spec.Contents.Images, receipt.Spec.Target))
	if len(problems) > 0 {
		return fmt.Errorf("source and target differ:\n  %s", strings.Join(problems, "\n  "))
	}
	fmt.Fprintf(out, "PROOF: all %d tags that a pull must carry stand at %s;\n"+
		"both registries, asked one by one, answer the same digest for each of them.\n"+
		"Besides, %d discovery tags were written, and %d images skipped.\n",
		len(published), receipt.Spec.Target, discovery, len(receipt.Spec.Skipped))
	return nil
}

// received returns the digests by "path:tag" below the target, and the number
// of discovery tags.
func received(r *contract.ReceiptSpec) (tags map[string]oci.Digest, discovery int) {
	tags = map[string]oci.Digest{}
	for _, t := range r.Tags {
		if t.Discovery {
			discovery++
			continue
		}
		path := strings.TrimPrefix(strings.TrimPrefix(t.Repository, r.Target), "/")
		tags[path+":"+t.Tag] = t.Digest
	}
	return tags, discovery
}

func differences(where string, want, got map[string]oci.Digest) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			list = append(list, fmt.Sprintf("%s has %q for %s, want %s", where, got[key], key, want[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			list = append(list, fmt.Sprintf("%s has %s, which nobody wants", where, key))
		}
	}
	return list
}

func registries(ctx context.Context, images []contract.Image, target string) []string {
	var problems []string
	for _, im := range images {
		at := target
		if im.Path != "" {
			at += "/" + im.Path
		}
		for _, ref := range []string{im.Source, at + ":" + im.Tag} {
			if digest, err := ask(ctx, ref); err != nil {
				problems = append(problems, err.Error())
			} else if digest != im.Digest {
				problems = append(problems, fmt.Sprintf("%s is %s, want %s", ref, digest, im.Digest))
			}
		}
	}
	return problems
}

// ask reads a manifest and hashes it; what the registry says of it is not
// believed.
func ask(ctx context.Context, reference string) (oci.Digest, error) {
	ref, err := oci.ParseReference(reference)
	if err != nil {
		return "", err
	}
	name := ref.Tag
	if ref.Digest != "" {
		name = string(ref.Digest)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ref.Host+"/v2/"+ref.Path+"/manifests/"+name, nil)
	if err != nil {
		return "", err
	}
	req.Header["Accept"] = []string{oci.MediaTypeIndex, oci.MediaTypeManifest, oci.MediaTypeDockerList, oci.MediaTypeDockerManifest}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, oci.ManifestLimit))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", reference, resp.Status)
	}
	return oci.DigestOf(body), nil
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

func readDocument[S any, P contract.SpecOf[S]](path string) (*contract.Document[S], error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc, err := contract.Decode[S, P](text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return doc, nil
}
