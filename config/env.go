package config

import "strings"

// fill replaces each ${NAME} by what env has for NAME, and $${ by ${. The second result says what is wrong;
// it never holds what a variable holds.
func fill(s string, env func(string) (string, bool)) (string, string) {
	if !strings.Contains(s, "${") {
		return s, ""
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), ""
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		name, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed || !isEnvName(name) {
			return "", "want ${NAME} with a name of letters, digits and _; write $${ for ${ itself"
		}
		held, set := env(name)
		if !set {
			return "", "environment variable " + cut(name) + " is not set"
		}
		b.WriteString(held)
		s = rest
	}
}

func isEnvName(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
