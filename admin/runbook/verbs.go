package runbook

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
)

// verb is one kind of step: how it is written, and how it is told.
type verb struct {
	short  func(s *Step, text string) string // sets what `verb: TEXT` means, and says what is wrong; nil: there is no short form
	list   func(s *Step, items []string)     // of `verb: [a, b]`; nil: there is none
	keys   map[string]key                    // of the long form
	need   []string                          // keys of the long form that must be there
	want   string                            // how it is written, for messages
	words  func(s *Step) string
	checks func(s *Step) string // what no single key shows; may be nil
}

// key of a long form; exactly one of its fields is set.
type key struct {
	text     func(s *Step) *string
	duration func(s *Step) *time.Duration
	yes      func(s *Step) *bool
	list     func(s *Step) *[]string
	parse    func(s *Step, text string) string
}

// The keys that several verbs have.
var (
	target    = key{text: func(s *Step) *string { return &s.Target }}
	reason    = key{parse: oneLine(api.MaxReason, func(s *Step) *string { return &s.Reason })}
	force     = key{yes: func(s *Step) *bool { return &s.Force }}
	drain     = key{duration: func(s *Step) *time.Duration { return &s.Drain }}
	lasts     = key{duration: func(s *Step) *time.Duration { return &s.For }}
	soft      = key{yes: func(s *Step) *bool { return &s.Soft }}
	then      = key{parse: setThen}
	place     = key{parse: setPlace}
	servers   = key{list: func(s *Step) *[]string { return &s.Servers }}
	exclusive = key{yes: func(s *Step) *bool { return &s.Exclusive }}
	hold      = key{duration: func(s *Step) *time.Duration { return &s.Hold }}
	toPool    = key{text: func(s *Step) *string { return &s.Pool }}
	stopOld   = key{text: func(s *Step) *string { return &s.StopOld }}
	startNew  = key{text: func(s *Step) *string { return &s.StartNew }}
	watch     = key{parse: orNone("2m", func(s *Step) *time.Duration { return &s.Watch }, func(s *Step) *bool { return &s.NoWatch })}
	slowStart = key{parse: orNone("60s", func(s *Step) *time.Duration { return &s.SlowStart }, func(s *Step) *bool { return &s.NoSlowStart })}
	waitFor   = key{text: func(s *Step) *string { return &s.WaitFor }}
	rollback  = key{text: func(s *Step) *string { return &s.RollbackIf }}
	named     = key{text: func(s *Step) *string { return &s.Snapshot }}
	saying    = key{text: func(s *Step) *string { return &s.Text }}
	message   = key{parse: oneLine(api.MaxMessage, func(s *Step) *string { return &s.Message })}
)

// oneLine takes a text that the door shows to people: it refuses others, and that should not wait until the step's turn.
func oneLine(most int, field func(s *Step) *string) func(*Step, string) string {
	return func(s *Step, text string) string {
		*field(s) = text
		switch {
		case len(text) > most:
			return "has " + strconv.Itoa(len(text)) + " bytes; want " + strconv.Itoa(most) + " at most"
		case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
			return "want one line of text"
		}
		return ""
	}
}

func setTarget(s *Step, text string) string { s.Target = text; return "" }

func setThen(s *Step, text string) string {
	if s.Then = text; text != "close" && text != "keep" {
		return "want close or keep"
	}
	return ""
}

// setPlace splits SERVICE/POOL or SERVICE/POOL/SERVER at the first two slashes: a server's name may have more.
func setPlace(s *Step, text string) string {
	parts := strings.SplitN(text, "/", 3)
	if len(parts) < 2 || slices.Contains(parts, "") {
		return "want SERVICE/POOL or SERVICE/POOL/SERVER"
	}
	s.Target, s.Pool = parts[0], parts[1]
	if len(parts) == 3 {
		s.Server = parts[2]
	}
	return ""
}

func (s *Step) place() string {
	if s.Server == "" {
		return s.Target + "/" + s.Pool
	}
	return s.Target + "/" + s.Pool + "/" + s.Server
}

func setPercent(s *Step, text string) string {
	f, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if s.Percent = f; err != nil || !(f >= 0 && f < 100) {
		return "want 0% to 99.9%"
	}
	return ""
}

func setWeight(s *Step, text string) string {
	n, err := strconv.Atoi(text)
	if s.Weight = n; err != nil || n < 0 || n > 256 {
		return "want a whole number from 0 to 256"
	}
	return ""
}

func setOn(s *Step, text string) string {
	switch text {
	case "on", "true":
		s.On = true
	case "off", "false":
	default:
		return "want on or off"
	}
	return ""
}

func setState(s *Step, text string) string {
	if s.Cancel = text == "cancel"; s.Cancel {
		return ""
	}
	if setOn(s, text) != "" {
		return "want on, off or cancel"
	}
	return ""
}

func setAt(s *Step, text string) string {
	s.At = text
	if _, err := config.When(text, time.Now()); err != nil {
		return err.Error()
	}
	return ""
}

func setWebhook(s *Step, text string) string {
	u, err := url.Parse(text)
	if s.Webhook = text; err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "want an http or https URL"
	}
	return ""
}

func setUntil(s *Step, text string) string {
	if s.Until = text; text != "drained" && text != "ready" && text != "watched" {
		return "want drained, ready or watched"
	}
	return ""
}

// orNone takes a duration, or 0s for none, which is another thing than nothing said.
func orNone(such string, field func(s *Step) *time.Duration, none func(s *Step) *bool) func(*Step, string) string {
	return func(s *Step, text string) string {
		d, err := time.ParseDuration(text)
		*field(s), *none(s) = d, err == nil && d == 0
		switch {
		case d > api.MaxDuration:
			return api.WantDuration(text)
		case err != nil || d < 0:
			return "want a duration such as " + such + ", or 0s for none"
		}
		return ""
	}
}

func targetWords(s *Step) string { return s.Target }

var verbs map[string]verb

func init() { // verbs and their readers name each other
	verbs = map[string]verb{
		"confirm": {want: "confirm: QUESTION", words: func(s *Step) string { return strconv.Quote(s.Text) },
			short: func(s *Step, text string) string { s.Text = text; return "" }},
		"exec": {want: "exec: COMMAND for the shell, or exec: [PROGRAM, ARGUMENT, …]", words: commandWords,
			short: func(s *Step, text string) string { s.Shell = text; return "" },
			list:  func(s *Step, items []string) { s.Command = items }},
		"notify": {want: "notify: {webhook: URL} or {command: COMMAND}, and text", words: notifyWords,
			keys: map[string]key{"webhook": {parse: setWebhook}, "command": {text: func(s *Step) *string { return &s.Shell }}, "text": saying},
			checks: func(s *Step) string {
				if (s.Webhook == "") == (s.Shell == "") {
					return "want one of webhook and command"
				}
				return ""
			}},
		"wait": {want: "wait: 30s, or wait: {until: drained, ready or watched, target: SERVICE}", words: waitWords,
			short: func(s *Step, text string) string {
				d, err := time.ParseDuration(text)
				if s.For = d; err != nil || d <= 0 || d > api.MaxDuration {
					return api.WantDuration(text)
				}
				return ""
			},
			keys: map[string]key{"until": {parse: setUntil}, "target": target}, need: []string{"until"}},
		"gate": {want: "gate: TARGET, or gate: {target: TARGET, to: POOL}", words: swapWords, short: setTarget, need: []string{"target"},
			keys: map[string]key{"target": target, "to": toPool}},
		"snapshot": {want: "snapshot: NAME, or snapshot: {name: NAME, target: TARGET}", need: []string{"name"},
			words: func(s *Step) string { return strings.TrimSpace("take " + s.Snapshot + " " + s.Target) },
			short: func(s *Step, text string) string { s.Snapshot = text; return "" },
			keys:  map[string]key{"name": named, "target": target, "reason": reason}},
		"compare": {want: "compare: NAME", words: func(s *Step) string { return s.Snapshot },
			short: func(s *Step, text string) string { s.Snapshot = text; return "" }},
		"hold": {want: "hold: TARGET", words: targetWords, short: setTarget, need: []string{"target"},
			keys: map[string]key{"target": target, "for": lasts, "reason": reason, "force": force}},
		"release": {want: "release: TARGET", words: targetWords, short: setTarget, need: []string{"target"},
			keys: map[string]key{"target": target, "reason": reason}},
		"maintenance": {want: "maintenance: {target: TARGET or all, state: on, off or cancel}", words: stateWords, need: []string{"target", "state"},
			keys: map[string]key{"target": target, "state": {parse: setState}, "at": {parse: setAt}, "for": lasts, "message": message, "soft": soft, "drain": drain, "then": then, "reason": reason, "force": force},
			checks: func(s *Step) string {
				switch {
				case !s.On && (s.At != "" || s.For != 0 || s.Message != "" || s.Soft || s.Drain != 0 || s.Then != ""):
					return "at, for, message, soft, drain and then belong to state: on"
				case s.Soft && (s.Drain != 0 || s.Then != ""):
					return "soft drains nothing: leave out drain and then"
				}
				return ""
			}},
		"read-only": {want: "read-only: {target: TARGET or all, state: on or off}", words: stateWords, need: []string{"target", "state"},
			keys: map[string]key{"target": target, "state": {parse: setOn}, "for": lasts, "message": message, "reason": reason, "force": force},
			checks: func(s *Step) string {
				if !s.On && (s.For != 0 || s.Message != "") {
					return "for and message belong to state: on"
				}
				return ""
			}},
		"swap": {want: "swap: TARGET, or swap: {target: TARGET, to: POOL, …}", words: swapWords, short: setTarget, need: []string{"target"},
			keys: map[string]key{"target": target, "to": toPool, "servers": servers, "drain": drain, "then": then, "exclusive": exclusive, "hold": hold,
				"stop_old": stopOld, "start_new": startNew, "wait_for": waitFor, "watch": watch, "rollback_if": rollback, "reason": reason, "force": force}},
		"back": {want: "back: TARGET", words: targetWords, short: setTarget, need: []string{"target"},
			keys: map[string]key{"target": target, "drain": drain, "then": then, "exclusive": exclusive, "hold": hold,
				"stop_old": stopOld, "start_new": startNew, "wait_for": waitFor, "reason": reason, "force": force}},
		"keep": {want: "keep: {service: SERVICE, servers: [SERVER, …]}", need: []string{"service", "servers"},
			words: func(s *Step) string { return s.Target + " " + strings.Join(s.Servers, " ") },
			keys:  map[string]key{"service": target, "servers": servers, "drain": drain, "then": then, "reason": reason, "force": force}},
		"split": {want: "split: {service: SERVICE, pool: POOL, percent: 5%}", need: []string{"service", "pool", "percent"},
			words: func(s *Step) string {
				return s.Target + " " + s.Pool + "=" + strconv.FormatFloat(s.Percent, 'f', -1, 64) + "%"
			},
			keys: map[string]key{"service": target, "pool": toPool, "percent": {parse: setPercent}, "drain": drain, "then": then, "reason": reason, "force": force}},
		"drain": {want: "drain: SERVICE/POOL or SERVICE/POOL/SERVER", words: (*Step).place, short: setPlace, need: []string{"place"},
			keys: map[string]key{"place": place, "drain": drain, "then": then, "reason": reason, "force": force}},
		"ready": {want: "ready: SERVICE/POOL or SERVICE/POOL/SERVER", words: (*Step).place, short: setPlace, need: []string{"place"},
			keys: map[string]key{"place": place, "slow_start": slowStart, "reason": reason, "force": force}},
		"weight": {want: "weight: {place: SERVICE/POOL/SERVER, weight: N}", need: []string{"place", "weight"},
			words: func(s *Step) string { return s.place() + " " + strconv.Itoa(s.Weight) },
			keys:  map[string]key{"place": place, "weight": {parse: setWeight}, "reason": reason, "force": force},
			checks: func(s *Step) string {
				if s.Server == "" {
					return "want SERVICE/POOL/SERVER"
				}
				return ""
			}},
	}
}

func stateWords(s *Step) string {
	switch {
	case s.Cancel:
		return "cancel " + s.Target
	case s.On:
		return "on " + s.Target
	}
	return "off " + s.Target
}

// typed is the step as a command that can be typed, flags and all.
func (s *Step) typed() string {
	out := []string{"turnout", s.Verb, verbs[s.Verb].words(s)}
	flag := func(there bool, name, value string) {
		if there {
			out = append(out, "--"+name, Quote(value))
		}
	}
	flag(s.At != "", "at", s.At)
	flag(s.For > 0, "for", s.For.String())
	flag(s.Message != "", "message", s.Message)
	flag(s.Drain > 0, "drain", s.Drain.String())
	flag(s.Then != "", "then", s.Then)
	flag(s.Hold > 0, "hold", s.Hold.String())
	flag(s.StopOld != "", "stop-old", s.StopOld)
	flag(s.StartNew != "", "start-new", s.StartNew)
	flag(s.WaitFor != "", "wait-for", s.WaitFor)
	flag(s.Watch > 0 || s.NoWatch, "watch", s.Watch.String())
	flag(s.RollbackIf != "", "rollback-if", s.RollbackIf)
	flag(s.SlowStart > 0 || s.NoSlowStart, "slow-start", s.SlowStart.String())
	for _, f := range []struct {
		there bool
		name  string
	}{{s.Soft, "soft"}, {s.Exclusive, "exclusive"}, {s.Force, "force"}} {
		if f.there {
			out = append(out, "--"+f.name)
		}
	}
	return strings.Join(out, " ")
}

// Quote writes a word so that a shell reads it back as that word.
func Quote(s string) string {
	if plainWord(s, ":=@%,[]") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// plainWord tells whether a word means itself to a shell, wherever it stands: letters, digits, what names of files have, and
// others that the caller knows to be harmless.
func plainWord(s, others string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./+"+others, r))
	})
}

func verbNames() []string { return slices.Sorted(maps.Keys(verbs)) }

func commandWords(s *Step) string {
	if s.Shell != "" {
		return s.Shell
	}
	return strings.Join(s.Command, " ")
}

func notifyWords(s *Step) string {
	if s.Webhook != "" {
		return host(s.Webhook)
	}
	return s.Shell
}

// host is a URL without what may be a secret of it: a chat service's webhook is one by its path.
func host(webhook string) string {
	u, err := url.Parse(webhook)
	if err != nil {
		return "a webhook"
	}
	return u.Scheme + "://" + u.Host
}

func waitWords(s *Step) string {
	if s.Until == "" {
		return s.For.String()
	}
	return strings.TrimSpace("until " + s.Until + " " + s.Target)
}

func swapWords(s *Step) string {
	out := s.Target
	if s.Pool != "" {
		out += " " + s.Pool
	}
	if s.Servers != nil {
		out += " --to " + strings.Join(s.Servers, ",")
	}
	return out
}

// read fills a step from what is written behind its verb.
func (v verb) read(p *parser, s *Step, path string, n config.Node) {
	if items, ok := n.List(); ok && v.list != nil {
		v.list(s, p.texts(path, n, items))
		return
	}
	entries, long := n.Map()
	_, short := n.Scalar()
	switch {
	case long && v.keys != nil:
		v.readLong(p, s, path, n, entries)
	case short && v.short != nil:
		if text := p.text(path, n); text != "" {
			p.problem(path, n, v.short(s, text))
		}
	default:
		p.doc.Refuse(n.Line, n.Column, path, "", "want "+v.want+"; not "+n.Is(), "")
	}
}

func (v verb) readLong(p *parser, s *Step, path string, n config.Node, entries []config.Entry) {
	before := p.doc.Err() != nil
	at := p.once(path, entries, slices.Sorted(maps.Keys(v.keys)))
	for _, name := range v.need {
		if _, there := at[name]; !there {
			p.doc.Refuse(n.Line, n.Column, path+"."+name, "", "missing: want "+v.want, "")
		}
	}
	for _, e := range entries {
		if at[e.Key] == e {
			v.keys[e.Key].read(p, s, path+"."+e.Key, e.Value)
		}
	}
	if v.checks != nil && (before || p.doc.Err() == nil) {
		if problem := v.checks(s); problem != "" {
			p.doc.Refuse(n.Line, n.Column, path, "", problem, "")
		}
	}
}

func (k key) read(p *parser, s *Step, path string, n config.Node) {
	switch {
	case k.list != nil:
		items, ok := n.List()
		if !ok {
			p.doc.Refuse(n.Line, n.Column, path, "", "want a list, not "+n.Is(), "")
			return
		}
		*k.list(s) = p.texts(path, n, items)
	case k.duration != nil:
		*k.duration(s) = p.duration(path, n)
	default:
		text := p.text(path, n)
		switch {
		case text == "":
		case k.text != nil:
			*k.text(s) = text
		case k.parse != nil:
			p.problem(path, n, k.parse(s, text))
		case text == "true" || text == "false":
			*k.yes(s) = text == "true"
		default:
			p.problem(path, n, "want true or false")
		}
	}
}

func (p *parser) texts(path string, n config.Node, items []config.Node) []string {
	var out []string
	for i, item := range items {
		out = append(out, p.text(path+"["+strconv.Itoa(i)+"]", item))
	}
	if len(items) == 0 {
		p.doc.Refuse(n.Line, n.Column, path, "", "empty: want at least one", "")
	}
	return out
}

func (p *parser) problem(path string, n config.Node, problem string) {
	if problem != "" {
		written, _ := n.Scalar()
		p.doc.Refuse(n.Line, n.Column, path, written, problem, "")
	}
}
