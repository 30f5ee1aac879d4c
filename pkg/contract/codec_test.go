package contract

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/pkg/oci"
)

var (
	digestA = oci.DigestOf([]byte("a"))
	digestB = oci.DigestOf([]byte("b"))
	digestC = oci.DigestOf([]byte("c"))
)

// contents is an index with one child that has one blob, under two tags.
func contents() Contents {
	return Contents{
		Vendor:   "generic",
		Source:   "",
		Archives: []Archive{{Name: "images", Layouts: []string{}}},
		Images: []Image{
			{Archive: "images", Path: "a", Tag: "v1", Digest: digestA, Source: "h/a:v1", Reason: "listed <here>"},
			{Archive: "images", Path: "a", Tag: "stable", Phase: PhaseChannel, Digest: digestA, Source: "h/a:stable", Reason: "listed"},
		},
		Manifests: []Manifest{
			{Digest: digestB, MediaType: oci.MediaTypeManifest, Size: 2, Repository: "h/a", References: []oci.Digest{digestC}},
			{Digest: digestA, MediaType: oci.MediaTypeIndex, Size: 1, Repository: "h/a", References: []oci.Digest{digestB}},
		},
		Blobs: []Blob{{Digest: digestC, Size: 3, Repository: "h/a"}},
	}
}

func planText(t testing.TB) string {
	t.Helper()
	text, err := Encode(New("ferry-fetch 1.0", []Input{{Kind: KindSelection, Digest: digestA}}, PlanSpec{Archives: []ArchiveSize{{Name: "images", Size: 2560}}, Contents: contents()}))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEncodeIsCanonical(t *testing.T) {
	text := planText(t)
	if again := planText(t); again != text {
		t.Errorf("two encodings differ:\n%s", cmp.Diff(text, again))
	}
	// Sorted, an element a line, and '<' as itself, so that grep finds it.
	want := fmt.Sprintf(`      "images": [
        {"archive":"images","path":"a","tag":"stable","phase":20,"digest":"%[1]s","source":"h/a:stable","reason":"listed"},
        {"archive":"images","path":"a","tag":"v1","phase":0,"digest":"%[1]s","source":"h/a:v1","reason":"listed <here>"}
      ],
`, digestA)
	if !strings.Contains(text, want) {
		t.Errorf("images are not written as\n%s\nbut\n%s", want, text)
	}
	if !strings.HasSuffix(text, "}\n") {
		t.Error("no newline at the end")
	}
	doc, err := Decode[PlanSpec]([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(doc)
	if err != nil || string(again) != text {
		t.Errorf("decode and encode change the text (%v):\n%s", err, cmp.Diff(text, string(again)))
	}
}

// A reader behind the air gap must notice every change that was not meant.
func TestDecodeRefuses(t *testing.T) {
	text := planText(t)
	replace := func(old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("the document has no %q", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	for _, tc := range []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ErrEmpty},
		{"blanks", " \n", ErrEmpty},
		{"cut", text[:len(text)/2], ErrTruncated},
		{"last brace gone", strings.TrimRight(text, "}\n"), ErrTruncated},
		{"second document", text + text, ErrSecondDocument},
		{"second value", text + "1", ErrSecondDocument},
		{"second document, cut", text + text[:30], ErrSecondDocument},
		{"trailing text", text + "done", ErrTrailing},
		{"not JSON", "error: no such host", ErrSyntax},
		{"a list", "[]", ErrSyntax},
		{"not UTF-8", replace("listed <", "\xff\xfe"), ErrSyntax},
		{"unknown field", replace(`"vendor":`, `"colour": 1, "vendor":`), ErrUnknownField},
		{"unknown field in a list", replace(`{"archive":`, `{"x":1,"archive":`), ErrUnknownField},
		{"folded key", replace(`"vendor":`, `"Vendor":`), ErrFoldedKey},
		{"folded key of the envelope", replace(`"metadata":`, `"METADATA":`), ErrFoldedKey},
		{"duplicate key", replace(`"vendor":`, `"vendor": "x", "vendor":`), ErrDuplicateKey},
		{"duplicate key of the envelope", replace(`"kind": "Plan"`, `"kind": "Plan", "kind": "Plan"`), ErrDuplicateKey},
		{"missing field", replace(`"tag":"v1",`, ``), ErrMissingField},
		{"null list", replace(`"discovery": []`, `"discovery": null`), ErrType},
		{"null string", replace(`"vendor": "generic"`, `"vendor": null`), ErrType},
		{"string for a number", replace(`"phase":0`, `"phase":"0"`), ErrType},
		{"fraction", replace(`"phase":0`, `"phase":0.5`), ErrType},
		{"object for a list", replace(`"discovery": []`, `"discovery": {}`), ErrType},
		{"other version", replace("ferry/v1alpha1", "ferry/v2"), ErrVersion},
		{"other kind", replace(`"kind": "Plan"`, `"kind": "Bundle"`), ErrKind},
		{"not closed", replace(fmt.Sprintf(`["%s"]`, digestC), fmt.Sprintf(`["%s"]`, oci.DigestOf(nil))), ErrInvalid},
		{"path that climbs", replace(`"path":"a"`, `"path":"../a"`), ErrInvalid},
		{"digest that is a path", replace(fmt.Sprintf(`"digest":"%s","size":3`, digestC), `"digest":"sha256:../../x","size":3`), ErrInvalid},
		{"tag twice", replace(`"tag":"v1"`, `"tag":"stable"`), ErrInvalid},
		{"orphan", replace(`"blobs": [`, fmt.Sprintf(`"blobs": [{"digest":%q,"size":1},`, oci.DigestOf([]byte("o")))), ErrInvalid},
		{"metadata digest", replace(`"kind":"Selection","digest":"sha256`, `"kind":"Selection","digest":"md5`), ErrInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := Decode[PlanSpec]([]byte(tc.text)); !errors.Is(err, tc.want) {
				t.Errorf("got error %v, want %v", err, tc.want)
			}
		})
	}
}

func TestDecodeNamesThePlace(t *testing.T) {
	text := strings.Replace(planText(t), `"tag":"v1"`, `"tag":7`, 1)
	_, err := Decode[PlanSpec]([]byte(text))
	if want := `Plan.spec.contents.images[1].tag: value of the wrong type: want a string, found "7"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Every cut of a document is noticed, wherever it falls.
func TestDecodeRefusesEveryCut(t *testing.T) {
	text := planText(t)
	for n := range len(strings.TrimRight(text, "\n")) {
		if _, err := Decode[PlanSpec]([]byte(text[:n])); err == nil {
			t.Fatalf("a document cut at byte %d of %d is accepted", n, len(text))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(planText(f)))
	f.Add([]byte(`{"apiVersion":"ferry/v1alpha1","kind":"Plan","metadata":{},"spec":null}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Decode[PlanSpec](data)
		if err != nil {
			return
		}
		text, err := Encode(doc)
		if err != nil {
			t.Fatalf("accepted, but cannot be encoded: %v", err)
		}
		again, err := Decode[PlanSpec](text)
		if err != nil {
			t.Fatalf("accepted, but its canonical text is refused: %v\n%s", err, text)
		}
		if diff := cmp.Diff(doc, again); diff != "" {
			t.Errorf("canonical text means something else:\n%s", diff)
		}
	})
}

// The codec relies on documents being plain: tagged fields of types that it can
// check, nothing embedded, no pointers and maps (their order and null).
func TestDocumentTypes(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var check func(reflect.Type)
	check = func(typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		for _, own := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
			if typ.Implements(own) || reflect.PointerTo(typ).Implements(own) {
				t.Errorf("%s has a form of its own in JSON, which the codec would not write", typ)
			}
		}
		switch typ.Kind() {
		case reflect.Slice:
			check(typ.Elem())
		case reflect.Struct:
			if typ.NumField() > maxFields {
				t.Errorf("%s has %d fields", typ, typ.NumField())
			}
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Anonymous || f.Tag.Get("json") == "" {
					t.Errorf("%s.%s is embedded or has no json tag", typ, f.Name)
				}
				check(f.Type)
			}
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		default:
			t.Errorf("%s cannot be part of a document", typ)
		}
	}
	for _, doc := range []any{Catalog{}, Selection{}, Plan{}, Inventory{}, Bundle{}, Receipt{}, Report{}, Explanation{}, Target{}} {
		check(reflect.TypeOf(doc))
	}
}

// What the codec writes itself is what encoding/json would write, and comes back
// as what it was.
func TestCodecAgreesWithJSON(t *testing.T) {
	for _, text := range []string{
		"", "plain", "<&>", `"`, `\`, "\x00", "\x1f", " ", "~", "\x7f", "\n\r\t\b\f", "\u2028\u2029", "h\u00e9", "\U0001F6A2", "\xff", "a\xc3",
	} {
		var spec SelectionSpec
		spec.Vendor = "v" + text
		spec.Archives = []Archive{{Name: "x", Layouts: []string{}}}
		spec.Images = []SelectedImage{
			{Source: "h/p:t", Archive: "x", Path: "p", Tag: "t", Phase: -1, Optional: true, Reason: text, Links: []Link{
				{Kind: LinkTags, File: "f" + text, Repository: "h/p", Path: "q", Links: []Link{{Kind: LinkDigests, File: "g", Unless: text, Repository: "h/p", Path: "q"}}},
			}},
			{Source: "h/p:t2", Archive: "x", Path: "p", Tag: "t2", Reason: text, Links: []Link{}},
		}
		written, err := Encode(New("test", nil, spec))
		if err != nil {
			t.Fatal(err)
		}
		spec.Normalize()
		for _, im := range spec.Images {
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(im); err != nil {
				t.Fatal(err)
			}
			if line := bytes.TrimSpace(want.Bytes()); !bytes.Contains(written, line) {
				t.Errorf("%q: the text has no line\n%s\nbut is\n%s", text, line, written)
			}
		}
		read, err := Decode[SelectionSpec](written)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var want Selection
		if err := json.Unmarshal(written, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, read); diff != "" {
			t.Errorf("%q: encoding/json reads something else (-json +codec):\n%s", text, diff)
		}
	}
}

// Lists lie in lists as deep as somebody writes them, and are whole at every depth.
func TestDecodeListsInLists(t *testing.T) {
	var links []Link
	for depth := range 2 * countedDepth {
		links = []Link{
			{Kind: LinkTags, File: fmt.Sprint("first of ", depth), Repository: "h/p"},
			{Kind: LinkTags, File: fmt.Sprint("second of ", depth), Repository: "h/p", Links: links},
			{Kind: LinkTags, File: fmt.Sprint("third of ", depth), Repository: "h/p", Optional: true},
		}
	}
	spec := SelectionSpec{
		Vendor: "v", Archives: []Archive{{Name: "x"}},
		Images: []SelectedImage{{Source: "h/p:t", Archive: "x", Path: "p", Tag: "t", Links: links}},
	}
	text, err := Encode(New("test", nil, spec))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode[SelectionSpec](text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(links, doc.Spec.Images[0].Links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	spoilt := strings.Replace(string(text), `"file":"third of 0"`, `"file":3`, 1)
	_, err = Decode[SelectionSpec]([]byte(spoilt))
	where := "Selection.spec.images[0]" + strings.Repeat(".links[1]", 2*countedDepth-1) + ".links[2].file"
	if err == nil || !strings.HasPrefix(err.Error(), where+": ") {
		t.Errorf("got %v, want an error at %s", err, where)
	}
}

// Blanks and escapes stand where JSON lets them, and the order of fields is free.
func TestDecodeReadsWhatIsWellFormed(t *testing.T) {
	text := planText(t)
	want, err := Decode[PlanSpec]([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var blown bytes.Buffer
	if err := json.Indent(&blown, []byte(text), " \t", "\r\n "); err != nil {
		t.Fatal(err)
	}
	var tight bytes.Buffer
	if err := json.Compact(&tight, []byte(text)); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{
		"blanks":           " \n" + strings.ReplaceAll(blown.String(), ":", " : ") + "\t\r\n",
		"no blanks":        tight.String(),
		"escaped key":      strings.Replace(text, `"vendor"`, `"vend\u006fr"`, 1),
		"escaped string":   strings.Replace(text, `listed <here>`, `list\u0065d \u003chere>`, 1),
		"escaped kind":     strings.Replace(text, `"kind": "Plan"`, `"k\u0069nd": "Pl\u0061n"`, 1),
		"order of fields":  strings.Replace(text, `"path":"a","tag":"v1"`, `"tag":"v1","path":"a"`, 1),
		"kind behind spec": strings.Replace(strings.Replace(text, `"kind": "Plan",`, ``, 1), "\n}\n", ",\n\"kind\": \"Plan\"}", 1),
	} {
		if other == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if name == "blanks" { // every colon, those of references too
			other = strings.NewReplacer("sha256 : ", "sha256:", "h/a : ", "h/a:").Replace(other)
		}
		got, err := Decode[PlanSpec]([]byte(other))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What a document says it is, is read as encoding/json reads it, whatever else
// stands there.
func TestSniff(t *testing.T) {
	version := `"apiVersion":"` + APIVersion + `"`
	for _, tc := range []struct {
		text string
		want Kind
		err  error
	}{
		{`{` + version + `,"kind":"Plan"}`, "Plan", nil},
		{` {"spec":{"kind":"Bundle","x":["}",{"kind":"\\"}]} , "kind" : "Plan",` + version + `} `, "Plan", nil},
		{`{` + version + `,"kind":"Plan","kind":"Bundle"}`, "Bundle", nil},
		{`{` + version + `,"KIND":"Plan"}`, "Plan", nil}, // Decode refuses it
		{`{` + version + `,"kind":"Plan","kind":null}`, "Plan", nil},
		{`{` + version + `,"spec":1e3,"ok":true}`, "", nil},
		{`{` + version + `,"kind":7}`, "", ErrType},
		{`{"kind":"Plan"}`, "", ErrVersion},
		{`{}`, "", ErrVersion},
		{`[` + version + `]`, "", ErrSyntax},
		{`{` + version + `,"kind":"Plan"}` + "\v", "", ErrType},
	} {
		got, err := Sniff([]byte(tc.text))
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: got %q, %v, want %q, %v", tc.text, got, err, tc.want, tc.err)
		}
	}
}
