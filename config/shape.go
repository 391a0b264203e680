package config

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/turnout-proxy/turnout/proxy"
)

// A shape says what a value may be: it reads one from the tree, and it is its own JSON Schema. The tables in
// keys.go are made of shapes, so that what is read and what the schema says cannot differ.
type shape[T any] struct {
	want   string // completes "want …"
	schema object
	read   func(r *reader, at place, n *node) (T, bool) // false: not usable, and an issue was added
	absent func() T                                     // what the shape is worth when nothing is written; nil: the zero value
	show   func(T) any                                  // a default, as it stands in the schema
}

// object is a JSON object.
type object = map[string]any

// place is where a value stands.
type place struct {
	line, column int
	path         string // services.node.listen[0]
}

func (p place) child(key string) place {
	path := key
	if !plainKey(key) {
		path = strconv.Quote(cut(key))
	}
	if p.path != "" {
		path = p.path + "." + path
	}
	return place{p.line, p.column, path}
}

func (p place) item(i int) place {
	return place{p.line, p.column, fmt.Sprintf("%s[%d]", p.path, i)}
}

// of is the place of n; nothing written there leaves the place of the key.
func (p place) of(n *node) place {
	if n.line > 0 {
		p.line, p.column = n.line, n.column
	}
	return p
}

// plainKey: reads well in a path without quotes; a name with a dot in it would look like two keys.
func plainKey(key string) bool {
	return nameProblem(key) == "" && !strings.Contains(key, ".")
}

// value is what was read, with its place for what is checked later.
type value[T any] struct {
	place
	v       T
	raw     string // of a scalar: as written, safe to show; see Issue.Value
	written bool
	bad     bool // an issue was added already; v is not to be used
}

// named is an entry of a map whose keys are names.
type named[T any] struct {
	value[T]
	name string
	key  place // of the name
}

// reader carries what reading needs: where issues go and where ${NAME} comes from.
type reader struct {
	issues
	env func(string) (string, bool)
}

func (r *reader) refuse(at place, written, message string) {
	r.add(Issue{Line: at.line, Column: at.column, Path: at.path, Value: written, Message: message})
}

// mismatch refuses a value of the wrong kind.
func (r *reader) mismatch(at place, n *node, want string) {
	switch n.kind {
	case isNull:
		r.refuse(at, "", "no value: want "+want)
	case isList, isMap:
		r.refuse(at, "", "want "+want+", not "+n.kind.String())
	default:
		if n.text == "" {
			want = "empty: want " + want
		} else {
			want = "want " + want
		}
		r.refuse(at, n.text, want)
	}
}

func get[T any](r *reader, at place, n *node, s shape[T]) value[T] {
	at = at.of(n)
	v, ok := s.read(r, at, n)
	return value[T]{place: at, v: v, raw: n.text, written: true, bad: !ok}
}

// member is one key of a map with fixed keys, which are read into an O.
type member[O any] struct {
	key      string
	want     string
	schema   object
	required bool
	read     func(r *reader, at place, n *node, into *O)
	absent   func(into *O)
}

// key makes a member: its name, what it is for (in the schema), its shape, and the field that it fills.
func key[O, T any](name, about string, s shape[T], field func(*O) *value[T]) member[O] {
	schema := maps.Clone(s.schema)
	schema["description"] = about
	return member[O]{
		key: name, want: s.want, schema: schema,
		read: func(r *reader, at place, n *node, into *O) { *field(into) = get(r, at, n, s) },
		absent: func(into *O) {
			if s.absent != nil {
				field(into).v = s.absent()
			}
		},
	}
}

// required makes the key obligatory.
func (m member[O]) mustBe() member[O] {
	m.required = true
	return m
}

// or gives a shape a default.
func (s shape[T]) or(v T) shape[T] {
	s.absent = func() T { return v }
	s.schema = maps.Clone(s.schema)
	s.schema["default"] = v
	if s.show != nil {
		s.schema["default"] = s.show(v)
	}
	return s
}

// keysOf is a map with these keys and no others.
func keysOf[O any](members ...member[O]) shape[O] {
	byName := map[string]member[O]{}
	properties, required := object{}, []string{}
	var names []string
	for _, m := range members {
		byName[m.key], properties[m.key] = m, m.schema
		names = append(names, m.key)
		if m.required {
			required = append(required, m.key)
		}
	}
	schema := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	s := shape[O]{want: "a map of keys", schema: schema}
	if len(names) <= 6 {
		s.want += " (" + strings.Join(names, ", ") + ")"
	}
	s.absent = func() O {
		var o O
		for _, m := range members {
			m.absent(&o)
		}
		return o
	}
	s.read = func(r *reader, at place, n *node) (O, bool) {
		o := s.absent()
		if n.kind != isMap {
			r.mismatch(at, n, s.want)
			return o, false
		}
		seen := seenKeys{}
		for _, e := range n.entries {
			here := at.child(e.key)
			here.line, here.column = e.line, e.column
			m, known := byName[e.key]
			switch {
			case seen.twice(r, here, e.key):
			case known:
				m.read(r, here, e.value, &o)
			default:
				near := ""
				if len(r.list) < maxIssues { // beyond, they are only counted
					near = proxy.Nearest(e.key, names)
				}
				r.add(Issue{Line: e.line, Column: e.column, Path: here.path, Message: "unknown key", Near: near})
			}
		}
		for _, m := range members {
			if _, there := seen[m.key]; m.required && !there {
				r.refuse(at.child(m.key), "", "missing: want "+m.want)
			}
		}
		return o, true
	}
	return s
}

// namesOf is a map of names that the operator chooses: at least one service, pool, …
func namesOf[T any](what string, each shape[T]) shape[[]named[T]] {
	want := "a map of " + what + "s by name"
	return shape[[]named[T]]{
		want: want,
		schema: object{"type": "object", "minProperties": 1, "additionalProperties": each.schema,
			"propertyNames": object{"pattern": "^" + namePattern + "$"}},
		read: func(r *reader, at place, n *node) ([]named[T], bool) {
			if n.kind != isMap {
				r.mismatch(at, n, want)
				return nil, false
			}
			if len(n.entries) == 0 {
				r.refuse(at, "", "empty: want at least one "+what)
				return nil, false
			}
			var all []named[T]
			seen := seenKeys{}
			for _, e := range n.entries {
				here := at.child(e.key)
				here.line, here.column = e.line, e.column
				if seen.twice(r, here, e.key) {
					continue
				}
				if problem := nameProblem(e.key); problem != "" {
					r.refuse(here, "", problem)
				}
				all = append(all, named[T]{value: get(r, here, e.value, each), name: e.key, key: here})
			}
			return all, true
		},
	}
}

// seenKeys finds duplicates in one map: key -> the line it was first on.
type seenKeys map[string]int

func (s seenKeys) twice(r *reader, at place, key string) bool {
	if line, seen := s[key]; seen {
		r.refuse(at, "", fmt.Sprintf("duplicate key; first on line %d", line))
		return true
	}
	s[key] = at.line
	return false
}

// listOf is a list with at least one item.
func listOf[T any](want string, each shape[T]) shape[[]value[T]] {
	return shape[[]value[T]]{
		want:   want,
		schema: object{"type": "array", "minItems": 1, "items": each.schema},
		read: func(r *reader, at place, n *node) ([]value[T], bool) {
			if n.kind != isList {
				r.mismatch(at, n, want)
				return nil, false
			}
			if len(n.items) == 0 {
				r.refuse(at, "", "empty: want "+want)
				return nil, false
			}
			var all []value[T]
			for i, item := range n.items {
				all = append(all, get(r, at.item(i), item, each))
			}
			return all, true
		},
	}
}

// either reads a value of kind a by one shape and one of kind b by the other.
func either[T any](want string, a kind, one shape[T], b kind, other shape[T]) shape[T] {
	return shape[T]{
		want:   want,
		schema: object{"anyOf": []any{one.schema, other.schema}},
		read: func(r *reader, at place, n *node) (T, bool) {
			switch n.kind {
			case a:
				return one.read(r, at, n)
			case b:
				return other.read(r, at, n)
			}
			r.mismatch(at, n, want)
			var none T
			return none, false
		},
	}
}

// converted is a shape whose value is kept in another form.
func converted[T, U any](s shape[T], to func(at place, n *node, v T) U) shape[U] {
	return shape[U]{want: s.want, schema: s.schema, read: func(r *reader, at place, n *node) (U, bool) {
		v, ok := s.read(r, at, n)
		return to(at, n, v), ok
	}}
}
