package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"ferry/pkg/oci"
)

// Limit is the largest document that is read, in bytes: 100,000 images are
// below 200 MB, and an endless stream must not fill the memory.
const Limit = 1 << 30

// SignatureSuffix makes the name of a document's signature, a file beside it,
// of the document's.
const SignatureSuffix = ".sig"

// The errors of Decode, found with errors.Is.
var (
	// ErrEmpty: no document at all; the program that should have written it
	// failed.
	ErrEmpty = errors.New("document is empty")
	// ErrTruncated: the document ends in the middle.
	ErrTruncated = errors.New("document is cut short")
	// ErrSyntax: not JSON.
	ErrSyntax = errors.New("document is not JSON")
	// ErrSecondDocument: another JSON value follows.
	ErrSecondDocument = errors.New("a second document follows the first")
	// ErrTrailing: something that is not JSON follows.
	ErrTrailing = errors.New("text follows the document")
	// ErrUnknownField: a key that this version does not know.
	ErrUnknownField = errors.New("unknown field")
	// ErrFoldedKey: a key that differs from a known one by letter case only.
	ErrFoldedKey = errors.New("field name in the wrong letter case")
	// ErrDuplicateKey: a key that stands twice in one object.
	ErrDuplicateKey = errors.New("field stands twice")
	// ErrType: a value of another type than the field's, null included.
	ErrType = errors.New("value of the wrong type")
	// ErrMissingField: a field that every document of the kind has.
	ErrMissingField = errors.New("field is missing")
	// ErrVersion: a document of another API version.
	ErrVersion = errors.New("unsupported document version")
	// ErrKind: a document of another kind.
	ErrKind = errors.New("wrong kind of document")
	// ErrInvalid: well-formed, but what it says cannot be.
	ErrInvalid = errors.New("document contradicts itself")
)

// SpecOf constrains type parameters to structs whose pointer is a Spec.
type SpecOf[S any] interface {
	*S
	Spec
}

// New returns a normalized document around spec.
func New[S any, P SpecOf[S]](generator string, inputs []Input, spec S) *Document[S] {
	doc := &Document[S]{
		APIVersion: APIVersion,
		Kind:       P(&spec).Kind(),
		Metadata:   Metadata{Generator: generator, Inputs: inputs},
		Spec:       spec,
	}
	normalize[S, P](doc)
	return doc
}

func normalize[S any, P SpecOf[S]](doc *Document[S]) {
	P(&doc.Spec).Normalize()
	if doc.Metadata.Inputs == nil {
		doc.Metadata.Inputs = []Input{}
	}
}

// HashOptions returns the Input that stands for options, which must encode as
// JSON in a fixed order (structs do).
func HashOptions(options any) (Input, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return Input{}, fmt.Errorf("options: %w", err)
	}
	return Input{Kind: KindOptions, Digest: oci.DigestOf(text)}, nil
}

// schema is how values of a type are written and read.
type schema struct {
	typ    reflect.Type
	kind   reflect.Kind
	fields []field // of a struct, in order
	elem   *schema // of a list
	// last is the string that was read last here. Neighbours in a list mostly
	// have the repository, the media type or the archive in common, and then
	// one copy serves all.
	last string
}

// field is a struct field as its json tag names it.
type field struct {
	*schema
	name      string
	index     int
	omitEmpty bool
}

// maxFields is how many fields a struct may have: a reader notes in one word which
// it has seen.
const maxFields = 64

// schemaOf describes t. All fields of documents have a json tag, none is embedded
// and no struct has more than maxFields, which TestDocumentTypes holds them to.
func schemaOf(t reflect.Type) *schema { return schemas{}.of(t) }

// schemas are those of structs, which may hold themselves in a list.
type schemas map[reflect.Type]*schema

func (known schemas) of(t reflect.Type) *schema {
	if s, ok := known[t]; ok {
		return s
	}
	s := &schema{typ: t, kind: t.Kind()}
	switch s.kind {
	case reflect.Slice:
		s.elem = known.of(t.Elem())
	case reflect.Struct:
		known[t] = s
		for i := range t.NumField() {
			name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			s.fields = append(s.fields, field{known.of(t.Field(i).Type), name, i, options == "omitempty"})
		}
	}
	return s
}
