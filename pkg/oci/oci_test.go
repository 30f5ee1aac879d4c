package oci

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var someDigest = DigestOf([]byte("x"))

func TestParseReference(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Reference
		bad  bool
	}{
		{in: "h.example/a/b:v1", want: Reference{Repository: Repository{"h.example", "a/b"}, Tag: "v1"}},
		{in: "127.0.0.1:5000/a:v1", want: Reference{Repository: Repository{"127.0.0.1:5000", "a"}, Tag: "v1"}},
		{in: "[::1]:5000/a:v1", want: Reference{Repository: Repository{"[::1]:5000", "a"}, Tag: "v1"}},
		{in: "h/a@" + string(someDigest), want: Reference{Repository: Repository{"h", "a"}, Digest: someDigest}},
		{in: "h/a:t@" + string(someDigest), want: Reference{Repository: Repository{"h", "a"}, Tag: "t", Digest: someDigest}},
		{in: "h:5000/a", bad: true},      // a port is no tag, and latest is not guessed
		{in: "a:v1", bad: true},          // no host
		{in: "h/A:v1", bad: true},        // upper case
		{in: "h/a/../b:v1", bad: true},   // climbs
		{in: "h/a//b:v1", bad: true},     // empty segment
		{in: "h/a:", bad: true},          // empty tag
		{in: "h/a:-x", bad: true},        // tag begins with a dash
		{in: "h/a@sha256:12", bad: true}, // short digest
		{in: "h/a@" + strings.ToUpper(string(someDigest)), bad: true},
		{in: "https://h/a:v1", bad: true},
	} {
		got, err := ParseReference(tc.in)
		if (err != nil) != tc.bad {
			t.Errorf("%s: error %v, want an error: %v", tc.in, err, tc.bad)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.in, diff)
		}
		if err == nil && got.String() != tc.in {
			t.Errorf("%s prints as %s", tc.in, got)
		}
	}
}

// The grammar as distribution-spec has it, over all short words of one letter of
// each kind.
func TestNamesFollowTheGrammar(t *testing.T) {
	path := regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tag := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	check := func(s string) {
		if got, want := ValidPath(s), len(s) <= 255 && path.MatchString(s); got != want {
			t.Errorf("ValidPath(%q) is %v", s, got)
		}
		if got, want := ValidTag(s), tag.MatchString(s); got != want {
			t.Errorf("ValidTag(%q) is %v", s, got)
		}
	}
	var spell func(s string, more int)
	spell = func(s string, more int) {
		check(s)
		for _, c := range []string{"a", "9", "Z", ".", "_", "-", "/", ":", "\n", "\u00e9"} {
			if more > 0 {
				spell(s+c, more-1)
			}
		}
	}
	spell("", 5)
	for c := range 256 {
		check(string([]byte{byte(c)}))
		check(string([]byte{'a', byte(c)}))
	}
	for _, n := range []int{127, 128, 129, 254, 255, 256} {
		check(strings.Repeat("a", n))
		check("a" + strings.Repeat("-", n-2) + "a")
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("h.example:5000/a/b:v1")
	f.Add("h/a@" + string(someDigest))
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			return
		}
		if again, err := ParseReference(ref.String()); err != nil || again != ref {
			t.Errorf("%q parses as %v, which reads back as %v, %v", s, ref, again, err)
		}
	})
}

func TestParseManifest(t *testing.T) {
	d := `"digest":"` + string(someDigest) + `","size":1`
	image := `{"schemaVersion":2,"config":{"mediaType":"c",` + d + `},"layers":[{"mediaType":"l",` + d + `}]}`
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"` + MediaTypeManifest + `",` + d + `},{"mediaType":"application/x",` + d + `}]}`
	for _, tc := range []struct {
		name, header, body string
		want               string // media type, or part of the error behind "!"
	}{
		{"image by shape", "", image, MediaTypeManifest},
		{"image by header", MediaTypeDockerManifest + "; charset=utf-8", image, MediaTypeDockerManifest},
		{"index by shape", "application/json", index, MediaTypeIndex},
		{"body wins over a generic header", "application/octet-stream", strings.Replace(index, "{", `{"mediaType":"`+MediaTypeDockerList+`",`, 1), MediaTypeDockerList},
		{"header and body differ", MediaTypeIndex, strings.Replace(image, "{", `{"mediaType":"`+MediaTypeManifest+`",`, 1), "!says it is"},
		{"header says index, shape image", MediaTypeIndex, image, "!has layers"},
		{"header says image, shape index", MediaTypeManifest, index, "!has manifests"},
		{"both shapes", "", strings.Replace(image, `"config"`, `"manifests":[],"config"`, 1), "!both manifests and layers"},
		{"schema 1", "", `{"schemaVersion":1,"fsLayers":[]}`, "!schema version 1"},
		{"no schema version", "", `{"layers":[]}`, "!schema version 0"},
		{"no config", "", `{"schemaVersion":2,"layers":[]}`, "!no config"},
		{"unknown type", "", `{"schemaVersion":2,"mediaType":"text/html"}`, "!not a manifest"},
		{"bad digest", "", strings.Replace(image, "sha256:", "sha256:../", 1), "!not a sha256 digest"},
		{"negative size", "", strings.Replace(image, `"size":1`, `"size":-1`, 1), "!size -1"},
		{"HTML", "", `<html>`, "!not JSON"},
		{"null", "", `null`, "!schema version 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := ParseManifest(tc.header, []byte(tc.body))
			if want, bad := strings.CutPrefix(tc.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.MediaType != tc.want {
				t.Errorf("media type %s, want %s", m.MediaType, tc.want)
			}
			if n := len(m.References()); n != 1 {
				t.Errorf("%d references, want the one digest once", n)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("", []byte(`{"schemaVersion":2,"manifests":[null]}`))
	f.Add(MediaTypeManifest, []byte(`{"schemaVersion":2,"config":{},"layers":null}`))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		m, err := ParseManifest(header, body)
		if err != nil {
			return
		}
		for _, d := range m.References() {
			if !d.Digest.Valid() || d.Size < 0 {
				t.Errorf("accepted a manifest that refers to %+v", d)
			}
		}
	})
}
