package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/imagefs"
	"ferry/pkg/oci"
)

// This file resolves links, one function a kind: resolvers below. A resolver
// turns a link and what it is read from into further wanted images.

// linkOrigin is what a link is followed from.
type linkOrigin struct {
	image    wanted
	ref      oci.Reference
	digest   oci.Digest
	file     []byte // the content of the link's file
	attaches bool   // the link is one of the Selection's Attached
}

// place is where a link's images are read, and where they land: what is attached
// to an image mostly stands beside it.
func (o linkOrigin) place(link contract.Link) (oci.Repository, string, error) {
	if link.Repository == "" {
		return o.ref.Repository, o.image.Path, nil
	}
	repo, err := oci.ParseRepository(link.Repository)
	if err != nil {
		return repo, "", fault.New(fault.Damaged, o.image.Source, err)
	}
	return repo, link.Path, nil
}

// derive makes a tag of a template. ok is false for one that needs a tag where the
// image has none, and for a tag of 128 characters, which leaves no room for a
// suffix: nothing can be attached to it.
func (o linkOrigin) derive(template string) (tag string, ok bool) {
	if strings.Contains(template, "{tag}") && o.ref.Tag == "" {
		return "", false
	}
	tag = strings.NewReplacer("{tag}", o.ref.Tag, "{digest}", "sha256-"+o.digest.Hex()).Replace(template)
	return tag, oci.ValidTag(tag)
}

// target is one image that a link leads to.
type target struct {
	repository string // HOST/PATH
	reference  string // tag or digest
	path, tag  string
}

type resolver func(ctx context.Context, k *closing, link contract.Link, from linkOrigin) ([]target, error)

var resolvers = map[contract.LinkKind]resolver{
	contract.LinkDigests:   inFile(digestsInFile),
	contract.LinkTags:      inFile(tagsInFile),
	contract.LinkNamedTags: inFile(namedTagsInFile),
	contract.LinkAttached:  attachedTags,
	contract.LinkReferrers: referrers,
}

// inFile is a resolver that needs a file and nothing else. That it cannot be read
// is the source's fault.
func inFile(resolve func(contract.Link, linkOrigin) ([]target, error)) resolver {
	return func(_ context.Context, _ *closing, link contract.Link, from linkOrigin) ([]target, error) {
		targets, err := resolve(link, from)
		if err != nil {
			return nil, fault.New(fault.Protocol, from.image.Source, err)
		}
		return targets, nil
	}
}

type filesKey struct {
	digest oci.Digest
	names  string
}

// follow starts everything that w's links lead to. Files are read in the image,
// or in each image of an index.
func (k *closing) follow(ctx context.Context, w wanted, ref oci.Reference, digest oci.Digest, m *oci.Manifest) error {
	if err := k.startLinks(ctx, w, linkOrigin{image: w, ref: ref, digest: digest, attaches: w.attached}, nil); err != nil {
		return err
	}
	if err := k.followAttached(ctx, w, ref, digest, m); err != nil {
		return err
	}
	names := fileNames(w.Links)
	if len(names) == 0 {
		return nil
	}
	return k.eachImage(ctx, ref.Repository, digest, m, func(digest oci.Digest, m *oci.Manifest) error {
		files, err := k.read(ctx, ref.Repository, digest, m, names)
		if err != nil {
			return err
		}
		return k.startLinks(ctx, w, linkOrigin{image: w, ref: ref, digest: digest}, files)
	})
}

// eachImage calls f for the image, or for each image of the index; require has
// bounded the depth.
func (k *closing) eachImage(ctx context.Context, repo oci.Repository, digest oci.Digest, m *oci.Manifest, f func(oci.Digest, *oci.Manifest) error) error {
	if !oci.IsIndex(m.MediaType) {
		return f(digest, m)
	}
	for _, child := range m.Manifests {
		manifest, err := k.load(ctx, repo, child.Digest)
		if err != nil {
			return fault.Part(repo.String(), err)
		}
		if !oci.IsIndex(manifest.MediaType) && !hasFiles(manifest) {
			continue // an attestation that a builder put beside the images
		}
		if err := k.eachImage(ctx, repo, child.Digest, manifest, f); err != nil {
			return err
		}
	}
	return nil
}

// hasFiles reports whether an image has a file system: layers that are tar
// archives of any compression.
func hasFiles(m *oci.Manifest) bool {
	return slices.ContainsFunc(m.Layers, func(d oci.Descriptor) bool { return strings.Contains(d.MediaType, "tar") })
}

// startLinks starts the targets of those links that need a file, or, when files is
// nil, of those that need none.
func (k *closing) startLinks(ctx context.Context, w wanted, from linkOrigin, files map[string][]byte) error {
	for _, link := range w.Links {
		if (link.File == "") != (files == nil) || len(files[link.Unless]) > 0 {
			continue
		}
		if files != nil {
			content, ok := files[link.File]
			if !ok && link.Required {
				return fault.Newf(fault.Protocol, w.Source, "the image has no %s, which names the images it needs", link.File)
			}
			if !ok {
				continue
			}
			from.file = content
		}
		targets, err := resolvers[link.Kind](ctx, k, link, from)
		if err != nil {
			return err
		}
		for _, t := range targets {
			w := linked(from, link, t)
			k.crew.goNext(w.Source, func(ctx context.Context) error { return k.want(ctx, w) })
		}
	}
	return nil
}

func linked(origin linkOrigin, link contract.Link, t target) wanted {
	from := origin.image
	separator, reason := ":", "attached to "+from.Source
	if strings.HasPrefix(t.reference, "sha256:") {
		separator = "@"
	}
	if link.File != "" {
		reason = link.File + " of " + from.Source
	}
	w := wanted{
		SelectedImage: contract.SelectedImage{
			Source:   t.repository + separator + t.reference,
			Archive:  from.Archive,
			Path:     t.path,
			Tag:      t.tag,
			Phase:    link.Phase,
			Optional: link.Optional || origin.attaches && link.Kind == contract.LinkAttached,
			Reason:   reason,
			Links:    link.Links,
		},
		depth:    from.depth + 1,
		attached: origin.attaches,
		guessed:  link.Kind == contract.LinkAttached,
	}
	if origin.attaches {
		w.Needs = from.Needs // no signature of a channel that is not carried
	}
	return w
}

func fileNames(links []contract.Link) []string {
	names := map[string]bool{}
	for _, l := range links {
		names[l.File], names[l.Unless] = true, true
	}
	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}

// read returns those of the named files that the image has, once per image. A
// layer is brought into the store before it is read, the top one first, and no
// further than needed: it has to be carried anyway.
func (k *closing) read(ctx context.Context, repo oci.Repository, digest oci.Digest, m *oci.Manifest, names []string) (map[string][]byte, error) {
	return k.files.Get(filesKey{digest, strings.Join(names, "\n")}, func() (map[string][]byte, error) {
		layers := make([]imagefs.Layer, len(m.Layers))
		for i, desc := range m.Layers {
			layers[i] = imagefs.Layer{
				Name: string(desc.Digest),
				Open: func(ctx context.Context) (io.ReadCloser, error) { return k.openLayer(ctx, repo, desc) },
			}
		}
		return imagefs.Find(ctx, layers, names)
	})
}

func (k *closing) openLayer(ctx context.Context, repo oci.Repository, desc oci.Descriptor) (io.ReadCloser, error) {
	err := k.crew.slot(func() error {
		if err := k.blob(ctx, repo, desc); err != nil {
			return fault.Part(repo.String(), err)
		}
		return k.store.Sync(ctx)
	})
	if err != nil {
		return nil, err
	}
	return k.store.Open(desc.Digest)
}

var digestRE = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// digestsInFile takes every digest in the text, whatever JSON is around it
// (S1.6.1); that it is JSON at all is asked for, so that a damaged file is not
// taken for one that names nothing.
func digestsInFile(link contract.Link, from linkOrigin) ([]target, error) {
	if len(from.file) > 0 && !json.Valid(from.file) {
		return nil, fmt.Errorf("%s is not JSON", link.File)
	}
	if len(from.file) == 0 && link.Required {
		return nil, fmt.Errorf("%s is empty", link.File) // S1.5.2
	}
	found := digestRE.FindAllString(string(from.file), -1)
	slices.Sort(found)
	var out []target
	for _, d := range slices.Compact(found) {
		out = append(out, target{link.Repository, d, link.Path, oci.Digest(d).Hex()})
	}
	return out, nil
}

// tagsInFile takes the strings of a two-level JSON object as tags (S1.5.1).
func tagsInFile(link contract.Link, from linkOrigin) ([]target, error) {
	if len(from.file) == 0 {
		return nil, nil
	}
	var groups map[string]map[string]string
	if err := json.Unmarshal(from.file, &groups); err != nil {
		return nil, fmt.Errorf("%s: want an object of objects of tags: %w", link.File, err)
	}
	tags := map[string]bool{}
	for _, group := range groups {
		for _, tag := range group {
			if !oci.ValidTag(tag) {
				return nil, fmt.Errorf("%s: %q is not a tag", link.File, tag)
			}
			tags[tag] = true
		}
	}
	var out []target
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, target{link.Repository, tag, link.Path, tag})
	}
	return out, nil
}

// namedTagsInFile takes a flat object of name to tag; numbers are tags too, all
// else is passed over (S1.6.2).
func namedTagsInFile(link contract.Link, from linkOrigin) ([]target, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(from.file, &values); err != nil {
		return nil, fmt.Errorf("%s: want an object of names and tags: %w", link.File, err)
	}
	var out []target
	for _, name := range slices.Sorted(maps.Keys(values)) {
		tag, ok := tagOf(values[name])
		if !ok {
			continue
		}
		if !oci.ValidTag(tag) || !oci.ValidPath(name) {
			return nil, fmt.Errorf("%s: %q: %q is not an image's name and tag", link.File, name, tag)
		}
		out = append(out, target{link.Repository + "/" + name, tag, link.Path + "/" + name, tag})
	}
	return out, nil
}

// tagOf reads a string, or a number without its decimals: 5 and 5.0 are "5".
func tagOf(value json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text, true
	}
	var number float64
	if json.Unmarshal(value, &number) == nil {
		return fmt.Sprintf("%.0f", number), true
	}
	return "", false
}
