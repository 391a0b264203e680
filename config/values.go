package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reference is how a schema lets ${NAME} stand for any text.
const reference = `\$\{`

// orReference also admits a text with a reference in it, whatever else the schema asks of a text.
func orReference(schema object) object {
	schema["type"] = "string"
	return object{"anyOf": []any{schema, object{"type": "string", "pattern": reference}}}
}

// text is one string, with ${NAME} filled in. parse gives what the string means, or what it must be; that
// text goes to people and logs, so it must not repeat the string, which may come from the environment.
func text[T any](want string, schema object, parse func(string) (T, string)) shape[T] {
	return shape[T]{
		want:   want,
		schema: orReference(schema),
		read: func(r *reader, at place, n *node) (T, bool) {
			var none T
			if n.kind != isText {
				if _, problem := parse(n.text); (n.kind == isNumber || n.kind == isBool) && problem == "" {
					r.refuse(at, n.text, "want text; put it in quotes")
				} else {
					r.mismatch(at, n, want)
				}
				return none, false
			}
			filled, problem := fill(n.text, r.env)
			if problem != "" {
				r.refuse(at, n.text, problem)
				return none, false
			}
			if filled == "" {
				r.refuse(at, n.text, "empty: want "+want)
				return none, false
			}
			v, problem := parse(filled)
			if problem != "" {
				if filled != n.text {
					problem += " (once the environment variables are filled in)"
				}
				r.refuse(at, n.text, problem)
				return none, false
			}
			return v, true
		},
	}
}

// oneOf is one of a few words.
func oneOf[T ~string](words ...T) shape[T] {
	var all []string
	for _, w := range words {
		all = append(all, string(w))
	}
	want := strings.Join(all, " or ")
	if n := len(all); n > 2 {
		want = strings.Join(all[:n-1], ", ") + " or " + all[n-1]
	}
	return text(want, object{"enum": all}, func(s string) (T, string) {
		if slices.Contains(all, s) {
			return T(s), ""
		}
		return "", "want " + want
	})
}

const durationPattern = `^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`

// maxDuration is the longest time that is not taken for a slip of the pen.
const maxDuration = 30 * 24 * time.Hour

const wantDuration = "a duration with a unit, such as 10s"

// duration is a time span of at least least.
func duration(least time.Duration) shape[time.Duration] {
	return text(wantDuration, object{"pattern": durationPattern}, func(s string) (time.Duration, string) {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil && durationRegexp.MatchString(strings.TrimPrefix(s, "-")), d > maxDuration: // err: beyond 290 years
			return 0, "want at most " + short(maxDuration) + " (30 days)"
		case err != nil, s == "0", s == "-0", s == "+0":
			return 0, "want " + wantDuration
		case d < 0:
			return 0, "a negative duration: want " + wantDuration
		case d == 0 && least > 0:
			return 0, "want more than 0, such as 10s"
		case d < least:
			return 0, "want at least " + short(least)
		}
		return d, ""
	}).shown(func(d time.Duration) any { return short(d) })
}

var durationRegexp = regexp.MustCompile(durationPattern)

// durationOrNever also takes 0, which needs no unit and means that the time never comes.
func durationOrNever() shape[time.Duration] {
	s := duration(0)
	s.want = "a duration with a unit, such as 10s, or 0 for never"
	s.schema = object{"anyOf": []any{s.schema, object{"const": 0}}}
	timed := s.read
	s.read = func(r *reader, at place, n *node) (time.Duration, bool) {
		if n.kind == isNumber && n.text == "0" {
			return 0, true
		}
		return timed(r, at, n)
	}
	return s
}

// short writes 1h for 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// shown says how a value of the shape is written.
func (s shape[T]) shown(show func(T) any) shape[T] {
	s.show = show
	return s
}

// whole is a whole number.
func whole(least, most int) shape[int] {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	return shape[int]{
		want:   want,
		schema: object{"type": "integer", "minimum": least, "maximum": most},
		read: func(r *reader, at place, n *node) (int, bool) {
			v, err := strconv.Atoi(n.text)
			if n.kind != isNumber || err != nil || strconv.Itoa(v) != n.text || v < least || v > most {
				r.mismatch(at, n, want)
				return 0, false
			}
			return v, true
		},
	}
}

// yesNo is true or false.
func yesNo() shape[bool] {
	return shape[bool]{
		want:   "true or false",
		schema: object{"type": "boolean"},
		read: func(r *reader, at place, n *node) (bool, bool) {
			if n.kind != isBool {
				r.mismatch(at, n, "true or false")
				return false, false
			}
			return strings.EqualFold(n.text, "true"), true
		},
	}
}

// namePattern is what services, pools, servers and groups may be called. Names stand in SERVICE/POOL/SERVER,
// so there is no slash in them.
const namePattern = `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`

const wantName = "a name of at most 63 letters, digits, '_', '.', '-', beginning with a letter or digit"

var nameRegexp = regexp.MustCompile("^" + namePattern + "$")

func nameProblem(s string) string {
	if !nameRegexp.MatchString(s) {
		return "want " + wantName
	}
	return ""
}

func name() shape[string] {
	return text(wantName, object{"pattern": "^" + namePattern + "$"}, func(s string) (string, string) { return s, nameProblem(s) })
}

const accountPattern = `^[A-Za-z0-9_.][A-Za-z0-9_.@$\\-]{0,255}$`

var accountRegexp = regexp.MustCompile(accountPattern)

// account is a user or group of the system: a name or a numeric id. It is looked up when it is used.
func account(what string) shape[string] {
	want := "a " + what + " name or a numeric id"
	s := text(want, object{"pattern": accountPattern}, func(s string) (string, string) {
		if !accountRegexp.MatchString(s) {
			return "", "want " + want
		}
		return s, ""
	})
	s.schema = object{"anyOf": []any{s.schema, object{"type": "integer", "minimum": 0, "maximum": maxID}}}
	named := s.read
	s.read = func(r *reader, at place, n *node) (string, bool) {
		if n.kind != isNumber {
			return named(r, at, n)
		}
		if id, err := strconv.ParseUint(n.text, 10, 32); err != nil || id > maxID || strconv.FormatUint(id, 10) != n.text {
			r.mismatch(at, n, want)
			return "", false
		}
		return n.text, true
	}
	return s
}

// maxID is the highest uid; the one above means "none" to the system.
const maxID = 1<<32 - 2

// maxPath is what a path may be long; maxSocket what one of a Unix socket may be (sun_path, less its end).
const (
	maxPath   = 4095
	maxSocket = 107
)

// path is the path of a file or folder.
func path(most int) shape[string] {
	return text("a path", object{"minLength": 1}, func(s string) (string, string) {
		switch {
		case strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
			return "", "a path with control characters"
		case strings.HasPrefix(s, "unix:"):
			return "", "want a path, without unix:"
		case len(s) > most:
			return "", fmt.Sprintf("want a path of at most %d bytes", most)
		}
		return s, ""
	})
}
