package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"ferry/pkg/oci"
)

// Limit is the largest document that is read, in bytes: 100,000 images are
// below 200 MB, and an endless stream must not fill the memory.
const Limit = 1 << 30

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

// Encode returns the canonical text of doc: fixed key order, sorted lists, one
// list element a line, a final newline. A spec that Validate refuses is not
// written.
func Encode[S any, P SpecOf[S]](doc *Document[S]) ([]byte, error) {
	normalize[S, P](doc)
	if err := P(&doc.Spec).Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", doc.Kind, ErrInvalid, err)
	}
	var buf bytes.Buffer
	if err := encodeValue(&buf, reflect.ValueOf(doc).Elem(), ""); err != nil {
		return nil, fmt.Errorf("%s: %w", doc.Kind, err)
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}

// encodeValue writes structs a field a line and lists an element a line;
// elements themselves are compact.
func encodeValue(buf *bytes.Buffer, v reflect.Value, indent string) error {
	inner := indent + "  "
	switch v.Kind() {
	case reflect.Struct:
		buf.WriteByte('{')
		separator := "\n"
		for _, f := range fieldsOf(v.Type()) {
			if f.omitEmpty && v.Field(f.index).IsZero() {
				continue
			}
			fmt.Fprintf(buf, "%s%s%q: ", separator, inner, f.name)
			if err := encodeValue(buf, v.Field(f.index), inner); err != nil {
				return err
			}
			separator = ",\n"
		}
		buf.WriteString("\n" + indent + "}")
		return nil
	case reflect.Slice:
		if v.Len() == 0 {
			buf.WriteString("[]")
			return nil
		}
		buf.WriteByte('[')
		separator := "\n"
		for i := range v.Len() {
			buf.WriteString(separator + inner)
			if err := encodeCompact(buf, v.Index(i).Interface()); err != nil {
				return err
			}
			separator = ",\n"
		}
		buf.WriteString("\n" + indent + "]")
		return nil
	}
	return encodeCompact(buf, v.Interface())
}

func encodeCompact(buf *bytes.Buffer, v any) error {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	buf.Truncate(buf.Len() - 1) // the encoder's newline
	return nil
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

// Sniff returns the kind that a document says it is, checking no more than
// that it is one.
func Sniff(data []byte) (Kind, error) {
	if err := checkText(data); err != nil {
		return "", err
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       Kind   `json:"kind"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return "", fmt.Errorf("%w: %w", ErrType, err)
	}
	if head.APIVersion != APIVersion {
		return "", versionError(head.APIVersion)
	}
	return head.Kind, nil
}

// Decode reads exactly one document of S's kind, and refuses everything that a
// reader could silently misunderstand: see the errors above.
func Decode[S any, P SpecOf[S]](data []byte) (*Document[S], error) {
	kind, err := Sniff(data)
	if err != nil {
		return nil, err
	}
	var doc Document[S]
	want := P(&doc.Spec).Kind()
	if kind != want {
		return nil, fmt.Errorf("%w: it is a %q, this needs a %s", ErrKind, kind, want)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	check := checker{dec: dec, path: []string{string(want)}, fields: map[reflect.Type][]field{}}
	if err := check.value(reflect.TypeOf(doc)); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrType, err)
	}
	for _, in := range doc.Metadata.Inputs {
		if !in.Digest.Valid() {
			return nil, fmt.Errorf("%s: %w: metadata.inputs: %q is not a sha256 digest", want, ErrInvalid, in.Digest)
		}
	}
	normalize[S, P](&doc)
	if err := P(&doc.Spec).Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", want, ErrInvalid, err)
	}
	return &doc, nil
}

func versionError(found string) error {
	return fmt.Errorf("%w %q: this build reads %s; use the same ferry release on both sides", ErrVersion, found, APIVersion)
}

// checkText tells whether data is one complete JSON value and nothing else.
func checkText(data []byte) error {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 {
		return ErrEmpty
	}
	if !utf8.Valid(trimmed) {
		return fmt.Errorf("%w: it is not UTF-8 text", ErrSyntax)
	}
	dec := json.NewDecoder(bytes.NewReader(trimmed))
	var first json.RawMessage
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("%w after %d bytes", ErrTruncated, len(data))
	case err != nil:
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if first[0] != '{' {
		return fmt.Errorf("%w: it does not begin with {", ErrSyntax)
	}
	rest := bytes.TrimSpace(trimmed[dec.InputOffset():])
	switch {
	case len(rest) == 0:
		return nil
	case json.Valid(rest) || rest[0] == '{':
		return fmt.Errorf("%w, at byte %d", ErrSecondDocument, dec.InputOffset())
	}
	return fmt.Errorf("%w, at byte %d", ErrTrailing, dec.InputOffset())
}

// field is a struct field as its json tag names it.
type field struct {
	name      string
	index     int
	omitEmpty bool
}

// fieldsOf lists t's fields in order. All fields of documents have a json tag
// and none is embedded, which TestDocumentTypes holds them to.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields = append(fields, field{name: name, index: i, omitEmpty: options == "omitempty"})
	}
	return fields
}

// checker walks a document beside its Go type and refuses what encoding/json
// would let pass: unknown, duplicate and case-folded keys, null, absent fields.
type checker struct {
	dec    *json.Decoder
	path   []string // where it is, for errors; "[]" stands for a list
	counts []int    // position in each list of path
	fields map[reflect.Type][]field
}

func (c *checker) where() string {
	var b strings.Builder
	lists := 0
	for i, step := range c.path {
		switch {
		case step == "[]":
			fmt.Fprintf(&b, "[%d]", c.counts[lists])
			lists++
		case i > 0:
			b.WriteString("." + step)
		default:
			b.WriteString(step)
		}
	}
	return b.String()
}

func (c *checker) fail(err error, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", c.where(), err, fmt.Sprintf(format, args...))
}

func (c *checker) value(t reflect.Type) error {
	token, err := c.dec.Token()
	if err != nil {
		return c.fail(ErrSyntax, "%v", err)
	}
	var ok bool
	var want string
	switch t.Kind() {
	case reflect.Struct:
		if token == json.Delim('{') {
			return c.object(t)
		}
		want = "an object"
	case reflect.Slice:
		if token == json.Delim('[') {
			return c.list(t)
		}
		want = "a list"
	case reflect.String:
		_, ok = token.(string)
		want = "a string"
	case reflect.Bool:
		_, ok = token.(bool)
		want = "true or false"
	case reflect.Int, reflect.Int64:
		if n, isNumber := token.(json.Number); isNumber {
			_, err := n.Int64()
			ok = err == nil
		}
		want = "a whole number"
	default:
		return fmt.Errorf("%s: a contract cannot hold a %s", c.where(), t)
	}
	if !ok {
		if token == nil {
			token = "null"
		}
		return c.fail(ErrType, "want %s, found %.40q", want, fmt.Sprint(token))
	}
	return nil
}

func (c *checker) list(t reflect.Type) error {
	c.path = append(c.path, "[]")
	c.counts = append(c.counts, 0)
	for c.dec.More() {
		if err := c.value(t.Elem()); err != nil {
			return err
		}
		c.counts[len(c.counts)-1]++
	}
	c.path = c.path[:len(c.path)-1]
	c.counts = c.counts[:len(c.counts)-1]
	_, err := c.dec.Token()
	return err
}

func (c *checker) object(t reflect.Type) error {
	fields, ok := c.fields[t]
	if !ok {
		fields = fieldsOf(t)
		c.fields[t] = fields
	}
	seen := make([]bool, t.NumField())
	for c.dec.More() {
		token, err := c.dec.Token()
		if err != nil {
			return c.fail(ErrSyntax, "%v", err)
		}
		key := token.(string)
		f, err := findField(fields, key)
		if err != nil {
			return c.fail(err, "%.80q", key)
		}
		if seen[f.index] {
			return c.fail(ErrDuplicateKey, "%q", key)
		}
		seen[f.index] = true
		c.path = append(c.path, key)
		if err := c.value(t.Field(f.index).Type); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	for _, f := range fields {
		if !f.omitEmpty && !seen[f.index] {
			return c.fail(ErrMissingField, "%q", f.name)
		}
	}
	_, err := c.dec.Token()
	return err
}

func findField(fields []field, key string) (field, error) {
	for _, f := range fields {
		if f.name == key {
			return f, nil
		}
	}
	for _, f := range fields {
		if strings.EqualFold(f.name, key) {
			return field{}, ErrFoldedKey
		}
	}
	return field{}, ErrUnknownField
}
