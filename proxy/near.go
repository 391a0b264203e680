package proxy

import "strings"

// Nearest is the known word that was probably meant by word, whatever the order of known; "" when none is close. Case, dashes
// and underscores are no difference, and of a word of three letters or more the beginning is enough.
func Nearest(word string, known []string) string {
	if len(word) < 2 || len(word) > 64 {
		return ""
	}
	plain := plainWord(word)
	best, least := "", max(1, (len(plain)+1)/3)
	for _, k := range known {
		if len(k) > 64 {
			continue
		}
		to := plainWord(k)
		d := distance(plain, to)
		if len(plain) > 2 && len(to) > 2 && (strings.HasPrefix(to, plain) || strings.HasPrefix(plain, to)) {
			d = min(d, 1)
		}
		if d < least || d == least && (best == "" || k < best) {
			best, least = k, d
		}
	}
	return best
}

// plainWord makes maxConnections, max-connections and max_connections one word.
func plainWord(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance counts the changes from a to b: a letter more, less, other, or two neighbours swapped.
func distance(a, b string) int {
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}
