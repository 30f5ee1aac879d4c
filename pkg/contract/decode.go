package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sniff returns the kind that a document says it is, checking no more than
// that it is one.
func Sniff(data []byte) (Kind, error) {
	text := data
	if wellFormed(data) {
		text = headOf(data) // encoding/json would go through all of it, twice
	} else if err := checkText(data); err != nil {
		return "", err
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       Kind   `json:"kind"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
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
	r := reader{text: data, path: []string{string(want)}}
	if err := r.value(schemaOf(reflect.TypeOf(doc)), reflect.ValueOf(&doc).Elem()); err != nil {
		return nil, err
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

// wellFormed reports whether data is one JSON object, in UTF-8, and nothing else.
func wellFormed(data []byte) bool {
	return utf8.Valid(data) && json.Valid(data) && (&reader{text: data}).peek() == '{'
}

// checkText tells why data is not one complete JSON value and nothing else.
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

// headOf returns an object with those fields of a well-formed document that
// encoding/json would take for its version and kind, letter case or not: which one
// of several it believes is for it to say.
func headOf(data []byte) []byte {
	r := reader{text: data}
	head := []byte("{")
	r.pos = r.start() + 1
	for r.more('}') {
		from := r.start()
		key := r.key()
		value := r.skip()
		if strings.EqualFold(key, "apiVersion") || strings.EqualFold(key, "kind") {
			if len(head) > 1 {
				head = append(head, ',')
			}
			head = append(append(head, data[from:value.start]...), data[value.start:value.end]...)
		}
	}
	return append(head, '}')
}

// reader walks a document beside its Go type, fills that in, and refuses what
// encoding/json would let pass: unknown, duplicate and case-folded keys, null,
// absent fields. The text is well-formed, so it has no eye for syntax: whoever
// calls it has asked encoding/json about that.
type reader struct {
	text   []byte
	pos    int
	path   []string // where it is, for errors; "[]" stands for a list
	counts []int    // position in each list of path
}

// start goes to the next token and returns its position.
func (r *reader) start() int {
	for {
		switch r.text[r.pos] {
		case ' ', '\t', '\r', '\n', ',', ':': // where they stand is checked
			r.pos++
		default:
			return r.pos
		}
	}
}

// peek returns the first byte of the next token.
func (r *reader) peek() byte { return r.text[r.start()] }

// more reports whether another element comes before end, which it passes.
func (r *reader) more(end byte) bool {
	if r.peek() != end {
		return true
	}
	r.pos++
	return false
}

// span is a part of the text.
type span struct{ start, end int }

// skip passes a value.
func (r *reader) skip() span {
	from := r.start()
	switch c := r.text[from]; c {
	case '"':
		r.rawString()
	case '{', '[':
		for depth := 0; ; {
			switch r.peek() {
			case '"':
				r.rawString()
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			r.pos++
			if depth == 0 {
				break
			}
		}
	default:
		r.literal()
	}
	return span{from, r.pos}
}

// literal passes a number, true, false or null and returns it.
func (r *reader) literal() []byte {
	from := r.start()
	for r.pos < len(r.text) && strings.IndexByte(" \t\r\n,:]}", r.text[r.pos]) < 0 {
		r.pos++
	}
	return r.text[from:r.pos]
}

// rawString passes a string and returns it with its quotes, and whether it is what
// it says, without escapes.
func (r *reader) rawString() (quoted []byte, plain bool) {
	from := r.start()
	plain = true
	for r.pos++; ; r.pos++ {
		switch r.text[r.pos] {
		case '\\':
			plain = false
			r.pos++
		case '"':
			r.pos++
			return r.text[from:r.pos], plain
		}
	}
}

// unescape returns what a quoted string says.
func unescape(quoted []byte) string {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic(fmt.Sprintf("contract: well-formed text has the string %.80q: %v", quoted, err))
	}
	return s
}

// key passes a key.
func (r *reader) key() string {
	quoted, plain := r.rawString()
	if !plain {
		return unescape(quoted)
	}
	return string(quoted[1 : len(quoted)-1])
}

func (r *reader) where() string {
	var b strings.Builder
	lists := 0
	for i, step := range r.path {
		switch {
		case step == "[]":
			fmt.Fprintf(&b, "[%d]", r.counts[lists])
			lists++
		case i > 0:
			b.WriteString("." + step)
		default:
			b.WriteString(step)
		}
	}
	return b.String()
}

func (r *reader) fail(err error, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", r.where(), err, fmt.Sprintf(format, args...))
}

func (r *reader) value(s *schema, v reflect.Value) error {
	c := r.peek()
	switch s.kind {
	case reflect.Struct:
		if c == '{' {
			return r.object(s, v)
		}
		return r.mismatch("an object")
	case reflect.Slice:
		if c == '[' {
			return r.list(s, v)
		}
		return r.mismatch("a list")
	case reflect.String:
		if c != '"' {
			return r.mismatch("a string")
		}
		v.SetString(r.stringOf(s))
	case reflect.Bool:
		if c != 't' && c != 'f' {
			return r.mismatch("true or false")
		}
		v.SetBool(r.literal()[0] == 't')
	case reflect.Int, reflect.Int64:
		const want = "a whole number"
		if c != '-' && (c < '0' || c > '9') {
			return r.mismatch(want)
		}
		from := r.pos
		n, err := strconv.ParseInt(string(r.literal()), 10, 64)
		if err != nil {
			r.pos = from
			return r.mismatch(want)
		}
		v.SetInt(n)
	default:
		return fmt.Errorf("%s: a contract cannot hold a %s", r.where(), s.typ)
	}
	return nil
}

// mismatch refuses the next value, which is not what is wanted.
func (r *reader) mismatch(want string) error {
	var found string
	switch c := r.peek(); c {
	case '{', '[':
		found = string(c)
	case '"':
		found = r.key()
	default:
		found = string(r.literal())
	}
	return r.fail(ErrType, "want %s, found %.40q", want, found)
}

// stringOf passes a string of s.
func (r *reader) stringOf(s *schema) string {
	quoted, plain := r.rawString()
	if text := quoted[1 : len(quoted)-1]; !plain {
		return unescape(quoted)
	} else if string(text) != s.last {
		s.last = string(text)
	}
	return s.last
}

// countedDepth is how deep in lists those are that are counted before they are
// read. Without a bound, one who puts lists into lists could have the innermost
// counted thousands of times.
const countedDepth = 3

// list fills a slice that is as long as the list: one that grows is several times
// in memory.
func (r *reader) list(s *schema, v reflect.Value) error {
	r.pos = r.start() + 1
	capacity := 0
	if len(r.counts) < countedDepth {
		from := r.pos
		for r.more(']') {
			r.skip()
			capacity++
		}
		r.pos = from
	}
	v.Set(reflect.MakeSlice(s.typ, 0, capacity))
	r.path = append(r.path, "[]")
	r.counts = append(r.counts, 0)
	for i := 0; r.more(']'); i++ {
		if i == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(i + 1)
		r.counts[len(r.counts)-1] = i
		if err := r.value(s.elem, v.Index(i)); err != nil {
			return err
		}
	}
	r.path = r.path[:len(r.path)-1]
	r.counts = r.counts[:len(r.counts)-1]
	return nil
}

func (r *reader) object(s *schema, v reflect.Value) error {
	var seen uint64
	r.pos = r.start() + 1
	for next := 0; r.more('}'); next++ {
		f, err := r.field(s.fields, next)
		if err != nil {
			return err
		}
		if seen&(1<<f.index) != 0 {
			return r.fail(ErrDuplicateKey, "%q", f.name)
		}
		seen |= 1 << f.index
		r.path = append(r.path, f.name)
		if err := r.value(f.schema, v.Field(f.index)); err != nil {
			return err
		}
		r.path = r.path[:len(r.path)-1]
		next = f.index
	}
	for i := range s.fields {
		if f := &s.fields[i]; !f.omitEmpty && seen&(1<<f.index) == 0 {
			return r.fail(ErrMissingField, "%q", f.name)
		}
	}
	return nil
}

// field passes a key and returns the field that it names, most likely the one at
// next or soon behind it.
func (r *reader) field(fields []field, next int) (*field, error) {
	quoted, plain := r.rawString()
	key := quoted[1 : len(quoted)-1]
	if !plain {
		key = []byte(unescape(quoted))
	}
	for i := range fields {
		if f := &fields[(next+i)%len(fields)]; f.name == string(key) {
			return f, nil
		}
	}
	for _, f := range fields {
		if strings.EqualFold(f.name, string(key)) {
			return nil, r.fail(ErrFoldedKey, "%.80q", key)
		}
	}
	return nil, r.fail(ErrUnknownField, "%.80q", key)
}
