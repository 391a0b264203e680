package health

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// server is what an expression knows of who is asked.
type server struct {
	Name    string `expr:"name"`
	Address string `expr:"address"`
}

func about(t Target) server { return server{Name: t.Name, Address: t.Address} }

// The variables of each kind; an expression that names another one is refused when it is compiled.
type (
	tcpVars struct {
		Text   string `expr:"text"`
		Body   any    `expr:"body"`
		Server server `expr:"server"`
	}
	httpVars struct {
		Status  int               `expr:"status"`
		Headers map[string]string `expr:"headers"` // each under its canonical and its lower-case name
		Body    any               `expr:"body"`
		Text    string            `expr:"text"`
		Server  server            `expr:"server"`
	}
	redisVars struct {
		Role   string         `expr:"role"`
		Body   map[string]any `expr:"body"` // offset; link and master of a replica, replicas of a master
		Server server         `expr:"server"`
	}
	postgresVars struct {
		Row    map[string]any `expr:"row"` // the first; nil without one
		Rows   int            `expr:"rows"`
		Server server         `expr:"server"`
	}
	execVars struct {
		Exit   int    `expr:"exit"`
		Output string `expr:"output"`
		Body   any    `expr:"body"`
		Server server `expr:"server"`
	}
	grpcVars struct {
		Status string `expr:"status"` // SERVING, NOT_SERVING, UNKNOWN, SERVICE_UNKNOWN
		Server server `expr:"server"`
	}
)

// uses is a set of the variables an expression reads.
type uses uint8

const (
	usesBody uses = 1 << iota
	usesHeaders
	usesText
	usesRole
)

// expression is a compiled `expect` or `value`.
type expression struct {
	key     string
	program *vm.Program
	paths   [][]string // members it reads, each the longest: body.lastTx.height
	uses    uses
}

// compile checks an expression against the variables of a kind; "" is no expression.
func compile(key, source string, vars any, mustBool bool) (*expression, error) {
	if source == "" {
		return nil, nil
	}
	options := []expr.Option{expr.Env(vars), expr.Function("number", number, new(func(any) float64))}
	program, err := expr.Compile(source, options...)
	if err != nil {
		return nil, compileError(key, err, vars)
	}
	e := &expression{key: key, program: program}
	node := program.Node()
	// Not expr.AsBool: it would try to turn what is no bool into one, and tell the place of that.
	if t := node.Type(); mustBool && t != nil && t.Kind() != reflect.Bool && t.Kind() != reflect.Interface {
		return nil, &SpecError{Key: key, Line: 1, Column: 1, Text: fmt.Sprintf("is %v, want true or false", t)}
	}
	e.walk(node)
	return e, nil
}

func compileError(key string, err error, vars any) error {
	var at *file.Error
	if !errors.As(err, &at) {
		return &SpecError{Key: key, Line: 1, Column: 1, Text: err.Error()}
	}
	text := at.Message
	if strings.HasPrefix(text, "unknown name") {
		text += ": known here are " + strings.Join(variables(vars), ", ")
	}
	return &SpecError{Key: key, Line: at.Line, Column: at.Column + 1, Text: text}
}

func variables(vars any) []string {
	t := reflect.TypeOf(vars)
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("expr")
	}
	return names
}

// holds tells whether the expression is true, and if not, which values made it so.
func (e *expression) holds(vars any) (bool, string) {
	out, err := e.run(vars)
	if err != nil {
		return false, err.Error()
	}
	if yes, isBool := out.(bool); !isBool {
		return false, fmt.Sprintf("%s: is %s, want true or false", e.key, brief(out))
	} else if yes {
		return true, ""
	}
	return false, e.values(vars)
}

func (e *expression) run(vars any) (out any, err error) {
	out, err = expr.Run(e.program, vars)
	if err == nil {
		return out, nil
	}
	for _, path := range e.paths {
		if missing := lacks(vars, path); missing != "" {
			return nil, fmt.Errorf("%s: %s", e.key, missing)
		}
	}
	var at *file.Error
	if errors.As(err, &at) {
		return nil, fmt.Errorf("%s:%d:%d: %s", e.key, at.Line, at.Column+1, at.Message)
	}
	return nil, fmt.Errorf("%s: %w", e.key, err)
}

// values lists what the expression has read: "ready=false, lag=812".
func (e *expression) values(vars any) string {
	var said []string
	for _, path := range e.paths {
		if path[0] == "status" || len(path) == 1 && path[0] != "role" && path[0] != "rows" && path[0] != "exit" {
			continue // the status is said already, and a whole body is no word
		}
		if path[0] == "server" {
			continue
		}
		v, found := look(vars, path)
		name := strings.Join(path[max(len(path)-1, 0):], ".")
		switch {
		case !found:
			said = append(said, name+" is missing")
		default:
			said = append(said, name+"="+brief(v))
		}
	}
	if len(said) == 0 {
		return "not as expected"
	}
	return strings.Join(said, ", ")
}

func brief(v any) string {
	s := fmt.Sprint(v)
	if v == nil {
		s = "null"
	}
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return s
}

// walk collects what is read. Members of a loop's element (#) have no path of their own.
func (e *expression) walk(n ast.Node) {
	v := &reads{}
	ast.Walk(&n, v)
	inner := map[ast.Node]bool{}
	for _, m := range v.members {
		inner[m.Node] = true
	}
	for _, n := range v.all {
		path := pathOf(n)
		if path == nil {
			continue
		}
		e.uses |= useOf(path[0])
		if _, called := v.callees[n]; !inner[n] && !called && !e.has(path) {
			e.paths = append(e.paths, path)
		}
	}
}

func (e *expression) has(path []string) bool {
	for _, p := range e.paths {
		if strings.Join(p, "\x00") == strings.Join(path, "\x00") {
			return true
		}
	}
	return false
}

func useOf(name string) uses {
	switch name {
	case "body":
		return usesBody | usesRole
	case "headers":
		return usesHeaders
	case "text":
		return usesText
	case "role":
		return usesRole
	}
	return 0
}

// reads gathers the nodes that read a variable.
type reads struct {
	all     []ast.Node
	members []*ast.MemberNode
	callees map[ast.Node]struct{}
}

func (r *reads) Visit(n *ast.Node) {
	switch n := (*n).(type) {
	case *ast.IdentifierNode:
		r.all = append(r.all, n)
	case *ast.MemberNode:
		r.all = append(r.all, n)
		r.members = append(r.members, n)
	case *ast.CallNode:
		if r.callees == nil {
			r.callees = map[ast.Node]struct{}{}
		}
		r.callees[n.Callee] = struct{}{}
	}
}

// pathOf is the way from a variable to a member with a constant name or index; nil for anything else.
func pathOf(n ast.Node) []string {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return []string{n.Value}
	case *ast.ChainNode:
		return pathOf(n.Node)
	case *ast.MemberNode:
		base := pathOf(n.Node)
		if base == nil {
			return nil
		}
		switch p := n.Property.(type) {
		case *ast.StringNode:
			return append(base[:len(base):len(base)], p.Value)
		case *ast.IntegerNode:
			return append(base[:len(base):len(base)], fmt.Sprint(p.Value))
		}
	}
	return nil
}

// look follows a path; false when something on it is missing.
func look(vars any, path []string) (any, bool) {
	at := any(variable(vars, path[0]))
	for _, name := range path[1:] {
		next, found := member(at, name)
		if !found {
			return nil, false
		}
		at = next
	}
	return at, true
}

// lacks says what is missing on a path, or "".
func lacks(vars any, path []string) string {
	for i := 1; i < len(path); i++ {
		if _, found := look(vars, path[:i+1]); !found {
			return fmt.Sprintf("%s has no %s", strings.Join(path[:i], "."), path[i])
		}
	}
	return ""
}

func variable(vars any, name string) any {
	v := reflect.ValueOf(vars)
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("expr") == name {
			return v.Field(i).Interface()
		}
	}
	return nil
}

func member(of any, name string) (any, bool) {
	switch of := of.(type) {
	case map[string]any:
		v, found := of[name]
		return v, found
	case map[string]string:
		v, found := of[name]
		return v, found
	case []any:
		var i int
		if _, err := fmt.Sscan(name, &i); err != nil || i < -len(of) || i >= len(of) {
			return nil, false
		}
		if i < 0 {
			i += len(of)
		}
		return of[i], true
	case server:
		return map[string]string{"name": of.Name, "address": of.Address}[name], true
	}
	return nil, false
}

// number is the expressions' function for heights that come as text: "0x1b4", "812", "0/16B3748".
func number(args ...any) (any, error) {
	n, err := amount(args[0])
	if err != nil {
		return nil, err
	}
	f, _ := n.Float64()
	return f, nil
}

// parseJSON reads exactly one JSON value. Whole numbers stay whole.
func parseJSON(b []byte) (any, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false
	}
	return plain(v), true
}

func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return int(i)
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return v
}
