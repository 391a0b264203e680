package proxy

import (
	"sync"
	"time"
)

// Event is something that happened, for `turnout events`-like readers, logs and the CLI's live progress.
type Event struct {
	Seq     uint64
	Time    time.Time
	Type    string // swapped, split, drained, cut, held, released, maintenance, ready, draining, weight, reloaded, frozen, unfrozen, step, refused
	Service string
	Text    string
}

// hub hands events to its subscribers. A subscriber that does not keep up loses events; the Seq shows the
// gap.
type hub struct {
	mu   sync.Mutex
	seq  uint64
	subs map[chan Event]struct{}
}

func (h *hub) publish(kind, service, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	e := Event{Seq: h.seq, Time: time.Now(), Type: kind, Service: service, Text: text}
	for c := range h.subs {
		select {
		case c <- e:
		default:
		}
	}
}

func (h *hub) subscribe() (<-chan Event, func()) {
	c := make(chan Event, 256)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[chan Event]struct{}{}
	}
	h.subs[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, c)
	}
}
