package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Issue is one mistake in a configuration file.
type Issue struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0: the file as a whole
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Path    string `json:"path,omitempty"`   // services.node.pools.primary[0]; empty when the text is not YAML
	Value   string `json:"value,omitempty"`  // as written, so with ${NAME} and not what NAME holds; cut when long
	Message string `json:"message"`          // what is wrong, or what the value must be
	Near    string `json:"near,omitempty"`   // the nearest known word
}

// Error is the issue on one line: turnout.yaml:12:10: services.node.drain.timeout: "10": want a duration …
func (i Issue) Error() string {
	var b strings.Builder
	b.WriteString(i.File)
	if i.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", i.Line, i.Column)
	}
	if i.Path != "" {
		b.WriteString(": " + i.Path)
	}
	if i.Value != "" {
		b.WriteString(": " + strconv.Quote(i.Value))
	}
	b.WriteString(": " + i.Message)
	if i.Near != "" {
		b.WriteString("; did you mean " + i.Near + "?")
	}
	return b.String()
}

// Errors is every mistake of one file, in the order of the text; never empty. errors.As finds it in what
// Load and Parse return, and also finds a single Issue.
type Errors []Issue

// Error is all issues, one per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, issue := range e {
		lines[i] = issue.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the issues one by one.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, issue := range e {
		all[i] = issue
	}
	return all
}

// maxIssues bounds what one file can make us say.
const maxIssues = 1000

// issues collects mistakes; beyond maxIssues it only counts.
type issues struct {
	file string
	list Errors
	left int
}

func (c *issues) add(i Issue) {
	if len(c.list) == maxIssues {
		c.left++
		return
	}
	i.File, i.Value = c.file, cut(i.Value)
	c.list = append(c.list, i)
}

// err is nil when there was no mistake.
func (c *issues) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b Issue) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
	if c.left > 0 {
		c.list = append(c.list, Issue{File: c.file, Message: fmt.Sprintf("%d more mistakes", c.left)})
	}
	return c.list
}

// cut keeps a foreign text short enough for one line.
func cut(s string) string {
	const most = 80
	if r := []rune(s[:min(len(s), 4*most)]); len(r) > most {
		return string(r[:most]) + "…"
	} else if len(s) > 4*most {
		return string(r) + "…"
	}
	return s
}
