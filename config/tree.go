package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. Each keeps the YAML parser, which recurses and whose work grows with the square of the
// keys of one map, within about a second and a bounded stack (TestParse_AlwaysAnswersSoon); none is near
// what a door needs.
const (
	maxFile   = 4 << 20 // bytes
	maxMarks  = 600_000 // characters that YAML can see a token in, counted before it is taken apart into tokens
	maxTokens = 400_000 // words, colons, brackets
	maxDepth  = 32      // maps and lists inside each other
	maxKeys   = 10_000  // in one map
	maxNodes  = 400_000 // values, with every alias filled in
)

type kind uint8

const (
	isNull kind = iota
	isBool
	isNumber
	isText
	isList
	isMap
)

func (k kind) String() string {
	return [...]string{"nothing", "true or false", "a number", "text", "a list", "a map"}[k]
}

// node is one value of the YAML text. Nodes are shared where an alias stands for an anchor.
type node struct {
	kind    kind
	text    string // of a scalar: as written, without quotes
	line    int    // 0 where nothing is written, as in "key:"
	column  int
	items   []*node // of a list
	entries []entry // of a map, in the file's order, duplicates included
	size    int     // nodes in here with every alias filled in
}

type entry struct {
	key          string
	line, column int
	value        *node
}

// parseTree reads one YAML document. A nil node means that found has what is wrong with it.
func parseTree(text []byte, found *issues) *node {
	if len(text) > maxFile {
		found.add(Issue{Message: "larger than 4 MiB"})
		return nil
	}
	source := strings.TrimPrefix(string(text), "\ufeff")
	if !printable(source, found) {
		return nil
	}
	t := &tree{found: found, anchors: map[string]*node{}, left: map[*token.Token]bool{}}
	return t.read(source)
}

// printable refuses what YAML 1.2 section 5.1 does not allow in a text, before the parser sees it.
func printable(source string, found *issues) bool {
	line, start, marks := 1, 0, 0
	for i, r := range source {
		if r < 0x80 && strings.IndexByte("\n[]{},:-?#&*!|>'\"%", byte(r)) >= 0 {
			if marks++; marks > maxMarks {
				found.add(Issue{Message: fmt.Sprintf("more than %d lines, brackets, colons and other marks; split the work over several doors", maxMarks)})
				return false
			}
		}
		switch {
		case r == '\n':
			line, start = line+1, i+1
		case r == utf8.RuneError && !strings.HasPrefix(source[i:], "\ufffd"):
			found.add(Issue{Line: line, Column: utf8.RuneCountInString(source[start:i]) + 1, Message: "invalid YAML: not UTF-8 text"})
			return false
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f:
			found.add(Issue{Line: line, Column: utf8.RuneCountInString(source[start:i]) + 1, Message: fmt.Sprintf("invalid YAML: control character %U", r)})
			return false
		}
	}
	return true
}

type tree struct {
	found   *issues
	anchors map[string]*node
	// left holds the scalars of the text that are not in the tree yet.
	// Invariant: empty after a good read; so nothing that was written is dropped silently, whatever the
	// parser makes of an unusual text.
	left map[*token.Token]bool
}

func (t *tree) read(source string) (root *node) {
	defer func() {
		// The YAML parser has panicked on foreign bytes before (goccy/go-yaml issues 478, 479).
		if p := recover(); p != nil {
			t.found.add(Issue{Message: "invalid YAML: the text is too unusual to be read"})
			root = nil
		}
	}()
	tokens := lexer.Tokenize(source)
	if !t.plain(tokens) {
		return nil
	}
	return t.parse(tokens, source)
}

func (t *tree) parse(tokens token.Tokens, source string) *node {
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are told by the tables, all at once
	if err != nil {
		t.syntax(err, source)
		return nil
	}
	root := &node{kind: isMap, line: 1, column: 1} // of an empty file
	for _, doc := range file.Docs {
		if doc.Body != nil {
			if root = t.node(doc.Body); root == nil {
				return nil
			}
		}
	}
	for _, tk := range tokens {
		if t.left[tk] {
			t.refuse(tk, "invalid YAML: %q has no place here", cut(tk.Value))
			return nil
		}
	}
	return root
}

func (t *tree) refuse(tk *token.Token, format string, args ...any) {
	i := Issue{Message: fmt.Sprintf(format, args...)}
	if tk != nil && tk.Position != nil {
		i.Line, i.Column = tk.Position.Line, tk.Position.Column
	}
	t.found.add(i)
}

// syntax passes on what the parser says, in its words.
func (t *tree) syntax(err error, source string) {
	var positioned yaml.Error
	if !errors.As(err, &positioned) {
		t.found.add(Issue{Message: "invalid YAML: " + err.Error()})
		return
	}
	at, hint := positioned.GetToken(), ""
	if lines := strings.Split(source, "\n"); at != nil && at.Position.Line <= len(lines) && unquotedReference.MatchString(lines[at.Position.Line-1]) {
		hint = "; ${NAME} needs quotes between brackets"
	}
	t.refuse(at, "invalid YAML: %s%s", strings.ReplaceAll(positioned.GetMessage(), "\t", `\t`), hint)
}

// unquotedReference: YAML sees a map begin at the brace of [${NAME}].
var unquotedReference = regexp.MustCompile(`[\[{,:]\s*\$\{`)

// plain refuses, before the parser runs, what a configuration file has no use for and what would cost the
// parser too much.
func (t *tree) plain(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		t.refuse(nil, "more than %d words and marks; split the work over several doors", maxTokens)
		return false
	}
	before := len(t.found.list)
	depth := &nesting{}
	begun := false // something but comments was seen
	for i, tk := range tokens {
		switch tk.Type {
		case token.CommentType:
			continue
		case token.TagType:
			t.refuse(tk, "YAML tags such as !!str are not supported; remove it")
		case token.DirectiveType:
			t.refuse(tk, "YAML directives (%%) are not supported; a text that begins with %% needs quotes")
			return false
		case token.MappingKeyType:
			t.refuse(tk, "'?' keys are not supported; write key: value")
		case token.MergeKeyType:
			t.refuse(tk, "merge keys (<<) are not supported; write the keys out, or use an alias for a whole value")
		case token.DocumentHeaderType:
			if begun {
				t.refuse(tk, "a second YAML document; want one document per file")
			}
		case token.DocumentEndType:
			for _, after := range tokens[i+1:] {
				if after.Type != token.CommentType {
					t.refuse(after, "text after the end of the YAML document")
					break
				}
			}
		case token.StringType, token.SingleQuoteType, token.DoubleQuoteType, token.BoolType, token.NullType, token.IntegerType,
			token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType, token.FloatType, token.InfinityType, token.NanType:
			t.left[tk] = true
		}
		begun = true
		if problem := depth.step(tk); problem != "" {
			t.refuse(tk, "%s", problem)
			return false
		}
	}
	return len(t.found.list) == before
}

// nesting follows how deep the text is nested and how many keys a block map has, from tokens alone.
type nesting struct {
	flow   int // open brackets
	blocks []block
}

type block struct{ column, entries int }

func (n *nesting) step(tk *token.Token) string {
	column := tk.Position.Column
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		n.flow++
	case token.MappingEndType, token.SequenceEndType:
		n.flow = max(0, n.flow-1)
	case token.MappingValueType, token.SequenceEntryType:
		if n.flow > 0 {
			return ""
		}
		if tk.Type == token.MappingValueType && tk.Prev != nil {
			column = tk.Prev.Position.Column // the key's
		}
		for len(n.blocks) > 0 && n.blocks[len(n.blocks)-1].column > column {
			n.blocks = n.blocks[:len(n.blocks)-1]
		}
		if len(n.blocks) == 0 || n.blocks[len(n.blocks)-1].column < column {
			n.blocks = append(n.blocks, block{column: column})
		}
		if tk.Type == token.MappingValueType {
			if n.blocks[len(n.blocks)-1].entries++; n.blocks[len(n.blocks)-1].entries > maxKeys {
				return fmt.Sprintf("more than %d keys in one map", maxKeys)
			}
		}
	}
	if n.flow+len(n.blocks) > maxDepth {
		return fmt.Sprintf("nested more than %d deep", maxDepth)
	}
	return ""
}

// node turns the parser's tree into ours; nil after an issue was added.
func (t *tree) node(n ast.Node) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		return t.mapping(n, n.Values)
	case *ast.MappingValueNode:
		return t.mapping(n, []*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		return t.list(n)
	case *ast.AnchorNode:
		return t.anchor(n)
	case *ast.AliasNode:
		return t.alias(n)
	case *ast.LiteralNode:
		if n.Value == nil {
			return t.scalar(n, isText, "")
		}
		delete(t.left, n.Value.Token)
		return t.scalar(n, isText, n.Value.Value)
	case *ast.StringNode:
		return t.scalar(n, isText, n.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return t.scalar(n, isNumber, n.GetToken().Value)
	case *ast.BoolNode:
		return t.scalar(n, isBool, n.Token.Value)
	case *ast.NullNode:
		null := t.scalar(n, isNull, "")
		if n.Token.Type == token.ImplicitNullType {
			null.line, null.column = 0, 0
		}
		return null
	}
	t.refuse(n.GetToken(), "invalid YAML: want key: value")
	return nil
}

func (t *tree) at(n ast.Node, k kind) *node {
	p := n.GetToken().Position
	return &node{kind: k, line: p.Line, column: p.Column, size: 1}
}

func (t *tree) scalar(n ast.Node, k kind, text string) *node {
	delete(t.left, n.GetToken())
	s := t.at(n, k)
	s.text = text
	return s
}

func (t *tree) mapping(n ast.Node, values []*ast.MappingValueNode) *node {
	m := t.at(n, isMap)
	for i, v := range values {
		key := t.key(v.Key)
		if key == nil {
			return nil
		}
		if i == 0 && n.GetToken().Type == token.MappingValueType {
			m.line, m.column = key.line, key.column // the parser says where the first colon is
		}
		value := t.node(v.Value)
		if value == nil {
			return nil
		}
		m.size += value.size
		m.entries = append(m.entries, entry{key.text, key.line, key.column, value})
	}
	return t.bounded(n, m)
}

// bounded refuses a value that aliases have made too large, as in a: &a [x, x], b: &b [*a, *a], c: [*b, *b], …
func (t *tree) bounded(n ast.Node, value *node) *node {
	if value.size > maxNodes {
		t.refuse(n.GetToken(), "more than %d values with the aliases filled in", maxNodes)
		return nil
	}
	return value
}

func (t *tree) key(n ast.MapKeyNode) *node {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return t.scalar(n, isText, n.GetToken().Value)
	}
	t.refuse(n.GetToken(), "want a plain key")
	return nil
}

func (t *tree) list(n *ast.SequenceNode) *node {
	l := t.at(n, isList)
	for _, v := range n.Values {
		item := t.node(v)
		if item == nil {
			return nil
		}
		l.size += item.size
		l.items = append(l.items, item)
	}
	return t.bounded(n, l)
}

// anchor makes a value known by name only after it was read, so no alias can contain itself.
func (t *tree) anchor(n *ast.AnchorNode) *node {
	delete(t.left, n.Name.GetToken())
	value := t.node(n.Value)
	if value != nil {
		t.anchors[n.Name.GetToken().Value] = value
	}
	return value
}

func (t *tree) alias(n *ast.AliasNode) *node {
	delete(t.left, n.Value.GetToken())
	name := n.Value.GetToken().Value
	value, known := t.anchors[name]
	if !known {
		t.refuse(n.GetToken(), "unknown alias %q; no such anchor (&) before it", cut(name))
		return nil
	}
	return value
}
