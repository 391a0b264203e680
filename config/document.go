package config

import "github.com/turnout-proxy/turnout/proxy"

// A Document is the YAML text of another file than turnout.yaml, read by the same strict rules and within the same
// limits: a runbook. What its values mean is its reader's business; mistakes are collected here and told all at once.
type Document struct {
	Root Node

	found issues
}

// Node is one value of a Document.
type Node struct {
	n *node
	// Line and Column are where it stands, from 1; of the key where nothing is written.
	Line, Column int
}

// Entry is one key of a map with its value, in the file's order; duplicates are there twice.
type Entry struct {
	Key          string
	Line, Column int
	Value        Node
}

// ReadDocument reads a text. The error is Errors: what is not YAML, or not the YAML we take.
func ReadDocument(file string, text []byte) (*Document, error) {
	d := &Document{found: issues{file: file}}
	root := parseTree(text, &d.found)
	if root == nil {
		return nil, d.found.err()
	}
	d.Root = Node{root, max(root.line, 1), max(root.column, 1)}
	return d, nil
}

// Refuse adds a mistake. value is as it was written; near the word that was probably meant, or "".
func (d *Document) Refuse(line, column int, path, value, message, near string) {
	d.found.add(Issue{Line: line, Column: column, Path: path, Value: value, Message: message, Near: near})
}

// Err is every mistake, as Errors; nil when there is none.
func (d *Document) Err() error { return d.found.err() }

// Is tells what the node is, in words for a message: nothing, text, a number, true or false, a list, a map.
func (n Node) Is() string { return n.n.kind.String() }

// Scalar is what is written, without quotes; false for a list, a map and nothing.
func (n Node) Scalar() (string, bool) {
	switch n.n.kind {
	case isText, isNumber, isBool:
		return n.n.text, true
	}
	return "", false
}

// Nothing tells whether no value is written.
func (n Node) Nothing() bool { return n.n.kind == isNull }

// List is the items of a list; false for anything else.
func (n Node) List() ([]Node, bool) {
	items := make([]Node, 0, len(n.n.items))
	for _, i := range n.n.items {
		items = append(items, n.at(i))
	}
	return items, n.n.kind == isList
}

// Map is the entries of a map; false for anything else.
func (n Node) Map() ([]Entry, bool) {
	entries := make([]Entry, 0, len(n.n.entries))
	for _, e := range n.n.entries {
		value := Node{e.value, e.line, e.column}
		entries = append(entries, Entry{e.key, e.line, e.column, value.at(e.value)})
	}
	return entries, n.n.kind == isMap
}

// at is a node inside this one; nothing written there leaves the place of this one.
func (n Node) at(in *node) Node {
	if in.line > 0 {
		return Node{in, in.line, in.column}
	}
	return Node{in, n.Line, n.Column}
}

// Fill replaces each ${NAME} of a text by what lookup has for NAME, and $${ by ${. The second result says what is
// wrong; it never holds a value.
func Fill(s string, lookup func(string) (string, bool)) (string, string) { return fill(s, lookup) }

// Nearest is the known word that was probably meant; "" when none is close.
func Nearest(word string, known []string) string { return proxy.Nearest(word, known) }
