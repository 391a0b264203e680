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
	if meant := Nearest(name, known); meant != "" {
		return fmt.Sprintf("did you mean %s? there are: %s", meant, shorten(known))
	}
	return "there are: " + shorten(known)
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
