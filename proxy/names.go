package proxy

import (
	"fmt"
	"slices"
	"strings"
)

// Names are those of all services and groups.
func (s *Snapshot) Names() []string {
	names := make([]string, 0, len(s.Services)+len(s.Groups))
	for _, svc := range s.Services {
		names = append(names, svc.Spec.Name)
	}
	for g := range s.Groups {
		names = append(names, g)
	}
	return names
}

// Among lists what there is, the nearest name first.
func Among(name string, known []string) string {
	slices.Sort(known)
	if i := nearest(name, known); i >= 0 {
		return fmt.Sprintf("did you mean %s? there are: %s", known[i], shorten(known))
	}
	return "there are: " + shorten(known)
}

// nearest is the position of the name that differs by at most two letters (and at most half), or -1.
func nearest(name string, known []string) int {
	best, at := min(3, len(name)/2+1), -1
	for i, k := range known {
		if d := distance(name, k); d < best {
			best, at = d, i
		}
	}
	return at
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func shorten(names []string) string {
	if len(names) > 12 {
		return strings.Join(names[:12], ", ") + fmt.Sprintf(" and %d more", len(names)-12)
	}
	return strings.Join(names, ", ")
}

func (s *Service) poolNames() []string {
	out := make([]string, len(s.Pools))
	for i, p := range s.Pools {
		out[i] = p.Name
	}
	return out
}
