package health

import (
	"container/heap"
)

// schedule is a heap of turns, the one whose time comes first on top.
type schedule []*turn

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].late.Before(s[j].late) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i]; s[i].place, s[j].place = i, j }
func (s *schedule) Push(x any)        { t := x.(*turn); t.place = len(*s); *s = append(*s, t) }
func (s *schedule) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	(*s)[last] = nil
	*s, t.place = (*s)[:last], -1
	return t
}

// put adds a turn, or moves it to where its time is now.
func (s *schedule) put(t *turn) {
	if t.place < 0 {
		heap.Push(s, t)
		return
	}
	heap.Fix(s, t.place)
}

func (s *schedule) remove(t *turn) {
	if t.place >= 0 {
		heap.Remove(s, t.place)
	}
}
