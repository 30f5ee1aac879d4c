package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// Encode returns the canonical text of doc: fixed key order, sorted lists, one
// list element a line, a final newline. A spec that Validate refuses is not
// written.
func Encode[S any, P SpecOf[S]](doc *Document[S]) ([]byte, error) {
	normalize[S, P](doc)
	if err := P(&doc.Spec).Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", doc.Kind, ErrInvalid, err)
	}
	text, err := encode(reflect.ValueOf(doc).Elem())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doc.Kind, err)
	}
	return text, nil
}

// encode writes twice, first for the length alone: a text that grows as it is
// written is several times in memory, and it may have a hundred megabytes.
func encode(v reflect.Value) ([]byte, error) {
	s := schemaOf(v.Type())
	w := writer{measure: true}
	if err := w.value(s, v, ""); err != nil {
		return nil, err
	}
	w = writer{text: make([]byte, 0, w.length+len(w.text)+1)}
	if err := w.value(s, v, ""); err != nil {
		return nil, err
	}
	return append(w.text, '\n'), nil
}

// writer writes values as encoding/json does without escaping HTML, but spreads
// the outermost structs and lists over lines.
type writer struct {
	text    []byte
	measure bool
	length  int // of what was dropped from text while measuring
}

// drop forgets the text when its length is all that is wanted.
func (w *writer) drop() {
	if w.measure {
		w.length += len(w.text)
		w.text = w.text[:0]
	}
}

func (w *writer) string(s string) { w.text = append(w.text, s...) }

// value writes structs a field a line and lists an element a line; elements
// themselves are compact.
func (w *writer) value(s *schema, v reflect.Value, indent string) error {
	inner := indent + "  "
	switch s.kind {
	case reflect.Struct:
		w.string("{")
		separator := "\n"
		for _, f := range s.fields {
			if f.omitEmpty && v.Field(f.index).IsZero() {
				continue
			}
			w.string(separator + inner)
			if err := w.quoted(f.name); err != nil {
				return err
			}
			w.string(": ")
			if err := w.value(f.schema, v.Field(f.index), inner); err != nil {
				return err
			}
			separator = ",\n"
		}
		w.string("\n" + indent + "}")
		return nil
	case reflect.Slice:
		if v.Len() == 0 {
			w.string("[]")
			return nil
		}
		w.string("[")
		separator := "\n" + inner
		for i := range v.Len() {
			w.string(separator)
			if err := w.compact(s.elem, v.Index(i)); err != nil {
				return err
			}
			w.drop()
			separator = ",\n" + inner
		}
		w.string("\n" + indent + "]")
		return nil
	}
	return w.compact(s, v)
}

// compact writes a value without any blank.
func (w *writer) compact(s *schema, v reflect.Value) error {
	switch s.kind {
	case reflect.Struct:
		separator := "{"
		for i := range s.fields {
			f := &s.fields[i]
			value := v.Field(f.index)
			if f.omitEmpty && isEmpty(f.kind, value) {
				continue
			}
			w.string(separator)
			separator = ","
			if err := w.quoted(f.name); err != nil {
				return err
			}
			w.string(":")
			if err := w.compact(f.schema, value); err != nil {
				return err
			}
		}
		if separator == "{" {
			w.string(separator)
		}
		w.string("}")
	case reflect.Slice:
		if v.IsNil() {
			w.string("null")
			return nil
		}
		w.string("[")
		for i := range v.Len() {
			if i > 0 {
				w.string(",")
			}
			if err := w.compact(s.elem, v.Index(i)); err != nil {
				return err
			}
		}
		w.string("]")
	case reflect.String:
		return w.quoted(v.String())
	case reflect.Bool:
		w.text = strconv.AppendBool(w.text, v.Bool())
	case reflect.Int, reflect.Int64:
		w.text = strconv.AppendInt(w.text, v.Int(), 10)
	default:
		return fmt.Errorf("a contract cannot hold a %s", s.typ)
	}
	return nil
}

// isEmpty tells what encoding/json leaves out for "omitempty".
func isEmpty(kind reflect.Kind, v reflect.Value) bool {
	switch kind {
	case reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// quoted writes a string. What is not plain is left to encoding/json.
func (w *writer) quoted(s string) error {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return w.escaped(s)
		}
	}
	w.text = append(w.text, '"')
	w.text = append(w.text, s...)
	w.text = append(w.text, '"')
	return nil
}

func (w *writer) escaped(s string) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return err
	}
	w.text = append(w.text, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
	return nil
}
