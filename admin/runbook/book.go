package runbook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
)

// Book is a runbook that was read and found well-formed.
type Book struct {
	File      string
	Title     string
	Hash      string        // of the text
	Variables []string      // names, in the file's order
	Timeout   time.Duration // of a step that says none
	Steps     []Step
	OnFailure []Step

	values map[string]string
	before map[string]string // service → what served it when the run began
}

// Step is one step. Which fields it uses is in the table of verbs.
type Step struct {
	Verb    string
	Name    string // what it is called; "": its own words
	Line    int
	Column  int
	Timeout time.Duration

	Target, Pool, Server string // service or group; drain, ready, weight and split: its pool and server
	Servers              []string
	Drain, Hold, For     time.Duration
	Then                 string
	Exclusive, Soft, On  bool
	Cancel               bool   // maintenance: of the one that is announced
	At                   string // maintenance: when it begins, as config.When reads it, once the step's turn has come
	Message              string // maintenance, read-only: for the public
	Force                bool
	Reason               string
	Percent              float64
	Weight               int
	StopOld, StartNew    string   // shell commands of a hand-over
	Shell                string   // exec, notify: by sh -c
	Command              []string // exec, notify: without a shell
	Webhook              string
	Text                 string // confirm: the question; notify: what to say
	Until                string // wait: drained, ready, watched
	Watch                time.Duration
	NoWatch              bool
	RollbackIf           string
	WaitFor              string // a check that the new side has to pass while clients wait
	SlowStart            time.Duration
	NoSlowStart          bool   // ready: all of the share at once, whatever the service says
	Snapshot             string // snapshot, compare: its name
}

// DefaultTimeout of a step.
const DefaultTimeout = 10 * time.Minute

// Parse reads a runbook. set are the values given for its variables, and env is asked for those that have neither a
// value nor a default. The error, if any, is config.Errors.
func Parse(file string, text []byte, set map[string]string, env func(string) (string, bool)) (*Book, error) {
	doc, err := config.ReadDocument(file, text)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	p := &parser{doc: doc, set: set, env: env,
		book: &Book{File: file, Hash: hex.EncodeToString(sum[:]), Timeout: DefaultTimeout, values: map[string]string{}}}
	p.file()
	for name := range set {
		if !slices.Contains(p.book.Variables, name) {
			doc.Refuse(0, 0, "", "", fmt.Sprintf("--set %s: the runbook has no such variable", name), config.Nearest(name, p.book.Variables))
		}
	}
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return p.book, nil
}

type parser struct {
	doc  *config.Document
	book *Book
	set  map[string]string
	env  func(string) (string, bool)
}

var topKeys = []string{"title", "variables", "timeout", "steps", "on_failure"}

// file reads the top level. Variables come first, wherever they stand: steps are filled in with them.
func (p *parser) file() {
	entries, ok := p.doc.Root.Map()
	if !ok {
		p.doc.Refuse(p.doc.Root.Line, p.doc.Root.Column, "", "", "want a map of keys ("+strings.Join(topKeys, ", ")+"), not "+p.doc.Root.Is(), "")
		return
	}
	at := p.once("", entries, topKeys)
	if e, ok := at["variables"]; ok {
		p.variables(e)
	}
	if e, ok := at["title"]; ok {
		p.book.Title = p.text("title", e.Value)
	}
	if e, ok := at["timeout"]; ok {
		p.book.Timeout = p.duration("timeout", e.Value)
	}
	e, ok := at["steps"]
	if !ok {
		p.doc.Refuse(p.doc.Root.Line, p.doc.Root.Column, "steps", "", "missing: want a list of steps", "")
	} else if p.book.Steps = p.steps("steps", e.Value); len(p.book.Steps) == 0 && p.doc.Err() == nil {
		p.doc.Refuse(e.Value.Line, e.Value.Column, "steps", "", "empty: want at least one step", "")
	}
	if e, ok := at["on_failure"]; ok {
		p.book.OnFailure = p.steps("on_failure", e.Value)
	}
}

// once finds the entries of known keys and refuses what is unknown or there twice.
func (p *parser) once(path string, entries []config.Entry, known []string) map[string]config.Entry {
	at := map[string]config.Entry{}
	for _, e := range entries {
		here := join(path, e.Key)
		if first, twice := at[e.Key]; twice {
			p.doc.Refuse(e.Line, e.Column, here, "", fmt.Sprintf("duplicate key; first on line %d", first.Line), "")
			continue
		}
		if !slices.Contains(known, e.Key) {
			p.doc.Refuse(e.Line, e.Column, here, "", "unknown key; there are: "+strings.Join(known, ", "), config.Nearest(e.Key, known))
			continue
		}
		at[e.Key] = e
	}
	return at
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// variables reads names with their defaults. One without a default has to be given, by --set or in the environment. A default
// may name variables that stand above it, so that none leads back to itself.
func (p *parser) variables(e config.Entry) {
	entries, ok := e.Value.Map()
	if !ok {
		p.doc.Refuse(e.Value.Line, e.Value.Column, "variables", "", "want a map of names and defaults, not "+e.Value.Is(), "")
		return
	}
	for _, v := range entries {
		path := "variables." + v.Key
		switch {
		case !isName(v.Key):
			p.doc.Refuse(v.Line, v.Column, path, "", "want a name of letters, digits and _", "")
			continue
		case slices.Contains(p.book.Variables, v.Key):
			p.doc.Refuse(v.Line, v.Column, path, "", "duplicate key", "")
			continue
		}
		p.book.Variables = append(p.book.Variables, v.Key)
		if given, ok := p.set[v.Key]; ok {
			p.book.values[v.Key] = given
			continue
		}
		written, ok := v.Value.Scalar()
		switch {
		case ok:
			p.book.values[v.Key], _ = p.filled(path, v.Value, written, "no variable %s above this one; they are filled in from top to bottom")
		case !v.Value.Nothing():
			p.doc.Refuse(v.Value.Line, v.Value.Column, path, "", "want a default, or nothing for a variable that has to be given; not "+v.Value.Is(), "")
		default:
			held, set := p.env(v.Key)
			if !set {
				p.doc.Refuse(v.Line, v.Column, path, "", "has no value: give it with --set "+v.Key+"=VALUE or in the environment", "")
			}
			p.book.values[v.Key] = held
		}
	}
}

func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// text is a scalar with variables filled in. A mistake was added when it is "".
func (p *parser) text(path string, n config.Node) string {
	written, ok := n.Scalar()
	if !ok {
		p.doc.Refuse(n.Line, n.Column, path, "", "want text, not "+n.Is(), "")
		return ""
	}
	filled, ok := p.filled(path, n, written, "no variable %s; declare it under variables, or write $${%[1]s} for the shell's")
	if ok && strings.TrimSpace(filled) == "" {
		p.doc.Refuse(n.Line, n.Column, path, written, "empty", "")
		return ""
	}
	return filled
}

// filled is a text with variables filled in; false when it cannot be, and a mistake was added. unknown says of a variable,
// %s, that there is none.
func (p *parser) filled(path string, n config.Node, written, unknown string) (string, bool) {
	missing := ""
	filled, problem := config.Fill(written, func(name string) (string, bool) {
		value, ok := p.book.values[name]
		if !ok {
			missing = name
		}
		return value, ok
	})
	switch {
	case missing != "":
		p.doc.Refuse(n.Line, n.Column, path, written, fmt.Sprintf(unknown, missing), config.Nearest(missing, slices.Collect(maps.Keys(p.book.values))))
	case problem != "":
		p.doc.Refuse(n.Line, n.Column, path, written, problem, "")
	default:
		return filled, true
	}
	return "", false
}

func (p *parser) duration(path string, n config.Node) time.Duration {
	filled := p.text(path, n)
	if filled == "" {
		return 0
	}
	d, err := time.ParseDuration(filled)
	if err != nil || d <= 0 || d > api.MaxDuration {
		written, _ := n.Scalar()
		p.doc.Refuse(n.Line, n.Column, path, written, api.WantDuration(filled), "")
		return 0
	}
	return d
}

func (p *parser) steps(path string, n config.Node) []Step {
	items, ok := n.List()
	if !ok {
		p.doc.Refuse(n.Line, n.Column, path, "", "want a list of steps, not "+n.Is(), "")
		return nil
	}
	var out []Step
	for i, item := range items {
		if s := p.step(fmt.Sprintf("%s[%d]", path, i), item); s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// step reads one step: a map with one verb, and keys that every step has.
func (p *parser) step(path string, n config.Node) *Step {
	entries, ok := n.Map()
	if !ok {
		p.doc.Refuse(n.Line, n.Column, path, "", "want a map such as {swap: SERVICE}, not "+n.Is(), "")
		return nil
	}
	s := &Step{Line: n.Line, Column: n.Column, Timeout: p.book.Timeout}
	known := p.once(path, entries, append(verbNames(), "name", "timeout"))
	for _, e := range entries {
		if known[e.Key] != e {
			continue
		}
		switch k := e.Key; k {
		case "name":
			s.Name = p.text(path+".name", e.Value)
		case "timeout":
			s.Timeout = p.duration(path+".timeout", e.Value)
		default:
			if s.Verb != "" {
				p.doc.Refuse(e.Line, e.Column, join(path, k), "", "a step does one thing: "+s.Verb+" or "+k, "")
				continue
			}
			s.Verb, s.Line, s.Column = k, e.Line, e.Column
			verbs[k].read(p, s, join(path, k), e.Value)
		}
	}
	if s.Verb == "" {
		if len(entries) > 0 && p.doc.Err() == nil {
			p.doc.Refuse(n.Line, n.Column, path, "", "no verb: want one of "+strings.Join(verbNames(), ", "), "")
		}
		return nil
	}
	if least := s.takes(); least >= s.Timeout && s.Timeout > 0 {
		p.doc.Refuse(s.Line, s.Column, join(path, s.Verb), "", fmt.Sprintf("may take %s, and the step's timeout is %s; want a longer timeout", least, s.Timeout), "")
	}
	return s
}

// takes is how long the step may take by what it says itself.
func (s *Step) takes() time.Duration {
	if s.Verb == "wait" {
		return s.For
	}
	return max(s.Drain, s.Hold, s.Watch)
}

// Words says what the step does, the way it would be typed where it can be.
func (s *Step) Words() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Verb + " " + verbs[s.Verb].words(s)
}

// Asks tells whether a person has to answer, from a step on.
func (b *Book) Asks(from int) bool {
	asks := func(s Step) bool { return s.Verb == "confirm" }
	return slices.ContainsFunc(b.Steps[from:], asks) || slices.ContainsFunc(b.OnFailure, asks)
}

// Repeatable tells whether doing the step at position i twice is doing it once.
func (b *Book) Repeatable(i int) bool {
	return i < len(b.Steps) && b.Steps[i].Verb != "exec" && b.Steps[i].Verb != "notify" && b.Steps[i].Verb != "back"
}
