package outlook_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/contract"
	"ferry/pkg/fault"
	"ferry/pkg/oci"
	"ferry/pkg/outlook"
	"ferry/pkg/store"
)

const yes, no, unknown = contract.VerdictYes, contract.VerdictNo, contract.VerdictUnknown

// memory is content in memory.
type memory map[oci.Digest][]byte

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

func (m memory) Stat(d oci.Digest) (int64, error) {
	b, err := m.Open(d)
	if err != nil {
		return 0, err
	}
	return b.Size(), nil
}

func (m memory) Open(d oci.Digest) (store.Blob, error) {
	data, ok := m[d]
	if !ok {
		return nil, fault.New(fault.NotFound, string(d), nil)
	}
	return blob{bytes.NewReader(data)}, nil
}

// load is contents under way, and their bytes.
type load struct {
	contract.Contents
	memory
}

func newLoad() *load { return &load{memory: memory{}} }

func (l *load) blob(text string) oci.Digest {
	d := oci.DigestOf([]byte(text))
	l.memory[d] = []byte(text)
	l.Blobs = append(l.Blobs, contract.Blob{Digest: d, Size: int64(len(text))})
	return d
}

func (l *load) put(path, tag string, phase int, mediaType, body string, subject oci.Digest) oci.Digest {
	d := oci.DigestOf([]byte(body))
	l.memory[d] = []byte(body)
	m, err := oci.ParseManifest(mediaType, []byte(body))
	if err != nil {
		panic(err)
	}
	entry := contract.Manifest{Digest: d, MediaType: mediaType, Size: int64(len(body)), Subject: subject}
	for _, r := range m.References() {
		if _, ok := l.memory[r.Digest]; ok {
			entry.References = append(entry.References, r.Digest)
		}
	}
	l.Manifests = append(l.Manifests, entry)
	if tag != "" {
		l.Images = append(l.Images, contract.Image{Path: path, Tag: tag, Phase: phase, Digest: d})
	}
	return d
}

const (
	imageConfig = "application/vnd.oci.image.config.v1+json"
	imageLayer  = "application/vnd.oci.image.layer.v1.tar+gzip"
	wholeConfig = `{"rootfs":{"type":"layers"},"history":[{}]}`
)

// image is a manifest whose config has the text and type, with layers of the types.
func (l *load) image(path, tag string, phase int, mediaType, configType, config string, layerTypes ...string) oci.Digest {
	part := func(mediaType, text string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, l.blob(text), len(text))
	}
	var layers []string
	for i, t := range layerTypes {
		layers = append(layers, part(t, fmt.Sprintf("layer %d of %s:%s", i, path, tag)))
	}
	return l.put(path, tag, phase, mediaType, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, mediaType, part(configType, config), strings.Join(layers, ",")), "")
}

func (l *load) index(path, tag string, children ...oci.Digest) oci.Digest {
	var list []string
	for _, c := range children {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, oci.MediaTypeManifest, c))
	}
	return l.put(path, tag, 0, oci.MediaTypeIndex, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeIndex, strings.Join(list, ",")), "")
}

func (l *load) attach(to oci.Digest) {
	layer := l.blob("signature of " + string(to))
	l.put("", "", 0, oci.MediaTypeManifest, fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":1}}`,
		oci.MediaTypeManifest, imageConfig, layer, len(l.memory[layer]), oci.MediaTypeManifest, to), to)
}

// target is a registry that has all, but for changes.
func target(change func(*contract.TargetSpec)) *contract.TargetSpec {
	spec := &contract.TargetSpec{Target: "r.example/org"}
	for _, f := range []contract.Feature{
		"write", "chunks", "mount", "referrers-api", "tag-overwrite", "oci-image", "docker-image", "oci-index", "docker-index", "sparse-index",
		"artifact", "bare-config", "subject", "docker-subject",
	} {
		spec.Features = append(spec.Features, contract.TargetFeature{Feature: f, Has: yes})
	}
	if change != nil {
		change(spec)
	}
	return spec
}

func without(f contract.Feature, has contract.Verdict, status int) func(*contract.TargetSpec) {
	return func(spec *contract.TargetSpec) {
		for i := range spec.Features {
			if spec.Features[i].Feature == f {
				spec.Features[i].Has, spec.Features[i].Evidence = has, contract.Evidence{Status: status, Code: "CODE"}
			}
		}
	}
}

// everything has something of each kind that a registry may not take.
func everything() *load {
	l := newLoad()
	v1 := l.image("app", "v1", contract.PhaseVersion, oci.MediaTypeManifest, imageConfig, wholeConfig, imageLayer)
	docker := l.image("app/old", "v1", 0, oci.MediaTypeDockerManifest, "application/vnd.docker.container.image.v1+json", wholeConfig+" ", "application/vnd.docker.image.rootfs.diff.tar.gzip")
	l.image("app/release", "stable", contract.PhaseChannel, oci.MediaTypeManifest, imageConfig, wholeConfig+"  ", imageLayer)
	l.image("bare", "v1", 0, oci.MediaTypeManifest, imageConfig, `{}`, imageLayer)
	l.image("db", "1", 0, oci.MediaTypeManifest, "application/vnd.trivy.config.v1+json", "db config", "application/vnd.trivy.db.layer.v1.tar+gzip")
	l.image("db", "2", 0, oci.MediaTypeManifest, "application/vnd.trivy.config.v1+json", "java config", "application/vnd.trivy.javadb.layer.v1.tar+gzip")
	l.image("db", "3", 0, oci.MediaTypeManifest, "application/vnd.trivy.config.v1+json", "db config, again", "application/vnd.trivy.db.layer.v1.tar+gzip")
	l.image("chart", "1", 0, oci.MediaTypeManifest, "application/vnd.cncf.helm.config.v1+json", "chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/vnd.cncf.helm.chart.provenance.v1.prov")
	l.index("multi", "v1", v1)
	l.index("sparse", "v1", v1, oci.DigestOf([]byte("of another platform")))
	l.attach(v1)
	l.attach(docker)
	l.blob(strings.Repeat("x", 1000))
	l.Discovery = []contract.DiscoveryTag{{Path: "disc", Tag: "d"}}
	return l
}

func findings(t *testing.T, l *load, spec *contract.TargetSpec) (sure, perhaps []string) {
	t.Helper()
	root, err := oci.ParseRepository(spec.Target)
	if err != nil {
		t.Fatal(err)
	}
	found, err := outlook.Journey{Target: spec, Contents: &l.Contents, Place: root.Join, Content: l.memory}.Findings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if fault.KindOf(f.Err) != fault.Policy || fault.HintOf(f.Err) == "" {
			t.Errorf("%v is of kind %v, with the hint %q", f.Err, fault.KindOf(f.Err), fault.HintOf(f.Err))
		}
		if f.Sure {
			sure = append(sure, f.Err.Error())
		} else {
			perhaps = append(perhaps, f.Err.Error())
		}
	}
	return sure, perhaps
}

// What the registry does not take is warned of with what of it is carried, and
// what is unknown is not.
func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*contract.TargetSpec)
		want   []string
	}{
		"takes all": {nil, nil},
		"Q18: OCI images": {without("oci-image", no, 415), []string{
			"application/vnd.oci.image.manifest.v1+json: 9 manifests of this type, such as r.example/org/app:v1, and the target does not take it: it answered 415 CODE"}},
		"Q18: Docker images, and the placeholder": {without("docker-image", no, 415), []string{
			"application/vnd.docker.distribution.manifest.v2+json: 2 manifests of this type, such as r.example/org/app/old:v1, and the target does not take it: it answered 415 CODE"}},
		"Q18: indexes": {without("oci-index", no, 400), []string{
			"application/vnd.oci.image.index.v1+json: 2 manifests of this type, such as r.example/org/multi:v1, and the target does not take it: it answered 400 CODE"}},
		"Q18: Docker lists, of which there are none": {without("docker-index", no, 400), nil},
		"Q18: unknown": {without("oci-image", unknown, 403), nil},
		"Q19: artifacts": {without("artifact", no, 400), []string{
			"r.example/org/chart:1: the target takes only images (it answered 400 CODE), and would have to take application/vnd.cncf.helm.config.v1+json: [application/vnd.cncf.helm.chart.content.v1.tar+gzip, application/vnd.cncf.helm.chart.provenance.v1.prov]",
			"r.example/org/db:1: the target takes only images (it answered 400 CODE), and would have to take application/vnd.trivy.config.v1+json: [application/vnd.trivy.db.layer.v1.tar+gzip, application/vnd.trivy.javadb.layer.v1.tar+gzip]",
		}},
		"Q20: bare configs": {without("bare-config", no, 400), []string{
			"r.example/org/bare:v1: 3 images have configs that say nothing of their layers, and the target does not take such ones: it answered 400 CODE"}},
		"Q21: no referrers API": {without("referrers-api", no, 404), []string{
			"DIGEST: 2 manifests are attached to others, and the target lists none by its referrers API: it answered 404 CODE"}},
		"Q22: Docker subjects": {without("docker-subject", no, 400), []string{
			"DIGEST: 1 manifests are attached to others, and the target does not take such ones (docker-subject): it answered 400 CODE"}},
		"Q22: subjects": {without("subject", no, 400), []string{
			"DIGEST: 1 manifests are attached to others, and the target does not take such ones (subject): it answered 400 CODE"}},
		"Q24: tags stay": {without("tag-overwrite", no, 409), []string{
			"r.example/org/app/release:stable: tags at the target keep their first image (it answered 409 CODE), and 1 channels here are to move with updates"}},
		"Q34: sparse indexes": {without("sparse-index", no, 400), []string{
			"r.example/org/sparse:v1: 1 indexes name manifests that are not carried, and the target does not take such ones: it answered 400 CODE"}},
		"Q8: small requests, in chunks": {func(s *contract.TargetSpec) {
			s.Body = contract.Bound{Accepted: 500, Refused: 1000, Verdict: no, Evidence: contract.Evidence{Status: 413}}
		}, nil},
		"Q8: small requests, and no chunks": {func(s *contract.TargetSpec) {
			without("chunks", no, 404)(s)
			s.Body = contract.Bound{Accepted: 500, Refused: 1000, Verdict: no, Evidence: contract.Evidence{Status: 413}}
		}, []string{"DIGEST: 1 blobs have 1000 bytes and more, up to 1000, which are too many for one request (it answered 413), and in chunks the target does not take them"}},
		"Q8: chunks that must be larger than a request": {func(s *contract.TargetSpec) {
			s.ChunkMinimum = 2000
			s.Body = contract.Bound{Accepted: 500, Refused: 1000, Verdict: no, Evidence: contract.Evidence{Status: 416}}
		}, []string{"DIGEST: 1 blobs have 1000 bytes and more, up to 1000, which are too many for one request (it answered 416), and in chunks the target does not take them"}},
		"no chunks, no limit": {without("chunks", no, 404), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sure, got := findings(t, everything(), target(tc.change))
			for i := range got {
				if strings.HasPrefix(got[i], "sha256:") {
					got[i] = "DIGEST" + got[i][len("sha256:")+64:]
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if len(sure) > 0 {
				t.Errorf("refused: %v", sure)
			}
		})
	}
}

// Q36: every registry has to take manifests of 4 MiB, and none a larger one.
func TestLargeManifests(t *testing.T) {
	t.Parallel()
	l := newLoad()
	l.image("app", "v1", 0, oci.MediaTypeManifest, imageConfig, wholeConfig, imageLayer)
	l.Manifests[0].Size = 4 << 20
	if _, got := findings(t, l, target(nil)); got != nil {
		t.Errorf("4 MiB: %v", got)
	}
	l.Manifests[0].Size++
	if _, got := findings(t, l, target(nil)); len(got) != 1 || !strings.Contains(got[0], "r.example/org/app:v1") {
		t.Errorf("a byte more: %v", got)
	}
}

// Q1, Q4, Q41: names are judged by what was asked of the very repository, else by the
// rules; a refusal that may have other reasons only warns.
func TestNames(t *testing.T) {
	t.Parallel()
	said := func(repo string, has contract.Verdict, status int) func(*contract.TargetSpec) {
		return func(s *contract.TargetSpec) {
			s.Repositories = append(s.Repositories, contract.RepositoryAccess{Repository: repo, Writable: has, Evidence: contract.Evidence{Status: status}})
		}
	}
	depth := func(has contract.Verdict) func(*contract.TargetSpec) {
		return func(s *contract.TargetSpec) {
			s.Depth = contract.Bound{Accepted: 3, Refused: 4, Verdict: has, Evidence: contract.Evidence{Status: 403}}
		}
	}
	form := func(form contract.NameForm, has contract.Verdict) func(*contract.TargetSpec) {
		return func(s *contract.TargetSpec) {
			s.Names = append(s.Names, contract.NameRule{Form: form, Example: "r.example/org/EXAMPLE", Accepted: has, Evidence: contract.Evidence{Status: 400}})
		}
	}
	all := func(changes ...func(*contract.TargetSpec)) func(*contract.TargetSpec) {
		return func(s *contract.TargetSpec) {
			for _, change := range changes {
				change(s)
			}
		}
	}
	for name, tc := range map[string]struct {
		path          string
		change        func(*contract.TargetSpec)
		sure, perhaps string // a part of what is said; "" where nothing is
	}{
		"shallow enough":              {"a/b", depth(no), "", ""},
		"too deep":                    {"a/b/c", depth(no), "the path has 4 segments, and the target takes 3: with 4 it answered 403", ""},
		"perhaps too deep":            {"a/b/c", depth(unknown), "", "the path has 4 segments"},
		"too deep, but asked":         {"a/b/c", all(depth(no), said("r.example/org/a/b/c", yes, 202)), "", ""},
		"absent":                      {"a", said("r.example/org/a", no, 404), "lets nobody write to this repository, or does not have it: it answered 404", ""},
		"another is absent":           {"a", said("r.example/org/ab", no, 404), "", ""},
		"asked in vain, and too deep": {"a/b/c", all(depth(no), said("r.example/org/a/b/c", unknown, 500)), "the path has 4 segments", ""},
		"a dot":                       {"a.b/c", form("dot", no), "the target refuses such names (dot): of r.example/org/EXAMPLE it answered 400", ""},
		"a dot, unknown":              {"a.b/c", form("dot", unknown), "", ""},
		"no dot":                      {"a-b/c", form("dot", no), "", ""},
		"underscores":                 {"a__b", form("double-underscore", no), "(double-underscore)", ""},
		"not one":                     {"a__b", form("underscore", no), "", ""},
		"one":                         {"a__b_c", form("underscore", no), "(underscore)", ""},
		"dashes":                      {"a--b", form("dashes", no), "(dashes)", ""},
		"a dash":                      {"a-b", form("dashes", no), "", ""},
		"digits":                      {"a/007/b", form("digits", no), "(digits)", ""},
		"digits lead":                 {"a/007/b", form("leading-digit", no), "", ""},
		"a digit leads":               {"0a", form("leading-digit", no), "(leading-digit)", ""},
		"one letter":                  {"ab/c", form("one-letter", no), "(one-letter)", ""},
		"two letters":                 {"ab/cd", form("one-letter", no), "", ""},
		"nothing new may be made":     {"ab/cd", without("write", no, 404), "", "could not be written to (it answered 404 CODE), and this one was not asked for, nor 0 others"},
		"nothing new, but asked":      {"ab/cd", all(without("write", no, 404), said("r.example/org/ab/cd", yes, 202)), "", ""},
		"too long": {"abcdef", func(s *contract.TargetSpec) {
			s.Length = contract.Bound{Accepted: 9, Refused: 10, Verdict: no}
		}, "", "the path has 10 characters"},
		"not too long": {"abcde", func(s *contract.TargetSpec) {
			s.Length = contract.Bound{Accepted: 9, Refused: 10, Verdict: no}
		}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLoad()
			l.image(tc.path, "v1", 0, oci.MediaTypeManifest, imageConfig, wholeConfig, imageLayer)
			sure, perhaps := findings(t, l, target(tc.change))
			for _, part := range []struct {
				what string
				got  []string
				want string
			}{{"refused", sure, tc.sure}, {"warned of", perhaps, tc.perhaps}} {
				if text := strings.Join(part.got, "\n"); (text == "") != (part.want == "") || !strings.Contains(text, part.want) || len(part.got) > 1 {
					t.Errorf("%s: %q, want %q", part.what, part.got, part.want)
				}
			}
		})
	}
}

// The target's own path is none of what the rules are about: it was asked for.
func TestRootIsGiven(t *testing.T) {
	t.Parallel()
	l := newLoad()
	l.image("app", "v1", 0, oci.MediaTypeManifest, imageConfig, wholeConfig, imageLayer)
	spec := target(func(s *contract.TargetSpec) {
		s.Target = "r.example/my.org/0x"
		s.Names = []contract.NameRule{{Form: "dot", Accepted: no}, {Form: "leading-digit", Accepted: no}}
	})
	if sure, perhaps := findings(t, l, spec); sure != nil || perhaps != nil {
		t.Errorf("refused %v, warned of %v", sure, perhaps)
	}
}

// Content that is not what the contents say is no matter of taste.
func TestDamagedContent(t *testing.T) {
	t.Parallel()
	l := newLoad()
	d := l.image("app", "v1", 0, oci.MediaTypeManifest, imageConfig, wholeConfig, imageLayer)
	l.memory[d] = bytes.Replace(l.memory[d], []byte("+gzip"), []byte("+zstd"), 1)
	_, err := outlook.Journey{
		Target: target(without("artifact", no, 400)), Contents: &l.Contents, Content: l.memory,
		Place: oci.Repository{Host: "r.example"}.Join,
	}.Findings(t.Context())
	if fault.KindOf(err) != fault.Damaged {
		t.Errorf("got %v, want damaged", err)
	}
}
