package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// decode reads one JSON object strictly; nothing at all is an empty one.
func decode(text []byte, into any) *api.Error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return &api.Error{Code: api.CodeUsage, Message: "the body goes on after its JSON object"}
		}
		return tooLong(reflect.ValueOf(into).Elem())
	}
	e := &api.Error{Code: api.CodeUsage}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	unknown, isUnknown := strings.CutPrefix(err.Error(), "json: unknown field ") // it has no type of its own
	switch {
	case isUnknown:
		e.Message, e.Hint = "unknown field "+unknown, knownWords(fields(reflect.TypeOf(into).Elem()))
	case errors.As(err, &syntax):
		e.Message = fmt.Sprintf("the body is not JSON: %s at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Message = "the body is not JSON: it ends too early"
	case errors.As(err, &kind) && kind.Field == "":
		e.Message = "the body is not a JSON object"
	case errors.As(err, &kind):
		name := kind.Field[strings.LastIndexByte(kind.Field, '.')+1:] // without the struct that it is embedded in
		e.Message = fmt.Sprintf("%s: a %s, want %s", name, kind.Value, wanted(kind.Type))
	default:
		e.Message = err.Error() // of an UnmarshalText: it says the value and what it must be
	}
	return e
}

// tooLong refuses a time that nobody can have meant.
func tooLong(v reflect.Value) *api.Error {
	for _, f := range reflect.VisibleFields(v.Type()) {
		d := v.FieldByIndex(f.Index)
		for d.Kind() == reflect.Pointer && !d.IsNil() {
			d = d.Elem()
		}
		if d.Type() == reflect.TypeFor[api.Duration]() && time.Duration(d.Int()) > api.MaxDuration {
			text := time.Duration(d.Int()).String()
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return usage("%s: %q: %s", name, text, api.WantDuration(text))
		}
	}
	return nil
}

// wanted is a Go type in words of JSON.
func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[api.Duration]():
		return `a string such as "30s"`
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Map:
		return "an object"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.String:
		return "a string"
	}
	return "a whole number"
}

// fields lists the JSON names of a struct, also of those it embeds.
func fields(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}
