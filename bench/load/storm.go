//go:build linux

package load

import (
	"encoding/binary"

	"github.com/turnout-proxy/turnout/bench/stats"
)

// stormWork is the traffic of the swap storm: new connections by a timetable, each with one message, and
// beside them conns old ones on which messages go by a timetable of their own. Every new connection is
// written down with its times and with the server that answered; every old one must be there at the end.
type stormWork struct {
	calls   []call // new ones; index len(old) and up
	free    []int  // of calls
	fresh   stats.Schedule
	old     []link
	waiting []bool // an old one whose answer is due
	turn    stats.Schedule
	message [MessageSize]byte
	next    int
	swept   int64
}

const maxCalls = 4096

func (w *stormWork) open(t *thread) error {
	var err error
	if w.old, err = openLinks(t, t.conns); err != nil {
		return err
	}
	w.waiting = make([]bool, len(w.old))
	w.calls = make([]call, maxCalls)
	for i := range w.calls {
		w.calls[i].fd = -1
		w.free = append(w.free, i)
	}
	t.result.New = make([]Start, 0, 1<<20) // no copying later
	return nil
}

func (w *stormWork) begin(t *thread, now int64) {
	w.fresh = stats.NewSchedule(now, t.rate)
	w.turn = stats.NewSchedule(now, max(t.OldRate/float64(len(t.threads)), 1))
}

func (w *stormWork) tick(t *thread, now int64) int64 {
	if now-w.swept > 50e6 {
		w.swept = now
		w.sweep(t, now)
	}
	if t.ending.Load() {
		return 1e6
	}
	for {
		if _, _, ok := w.fresh.Next(now); !ok {
			break
		}
		w.start(t)
	}
	for {
		n, _, ok := w.turn.Next(now)
		if !ok {
			break
		}
		if len(w.old) > 0 {
			w.talk(t, int(n%int64(len(w.old))))
		}
	}
	return min(w.fresh.Due(), w.turn.Due()) - now
}

func (w *stormWork) start(t *thread) {
	if len(w.free) == 0 {
		t.fail("too many unanswered: cannot keep the rate")
		return
	}
	i := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	c := &w.calls[i]
	*c = call{begin: Mono()}
	w.next++
	fd, e := t.dial(w.next)
	c.fd = int32(fd)
	if e != 0 {
		w.end(t, i, errorName(e))
		return
	}
	if why := c.poke(t, len(w.old)+i, &w.message); why != "" {
		w.end(t, i, why)
	}
}

// end writes a call down and closes it; its answer, if it has one, is in c.in.
func (w *stormWork) end(t *thread, i int, why string) {
	c := &w.calls[i]
	s := Start{Begin: c.begin, Reply: Mono(), Err: why}
	if why == "" {
		s.Side = c.in[0]
		s.Accept = int64(binary.LittleEndian.Uint64(c.in[8:]))
		t.done()
	} else {
		t.fail(why)
	}
	t.result.New = append(t.result.New, s)
	if c.fd >= 0 {
		c.close()
	}
	w.free = append(w.free, i)
}

// talk sends on an old connection, unless its last answer is still to come.
func (w *stormWork) talk(t *thread, i int) {
	l := &w.old[i]
	if l.fd < 0 || w.waiting[i] {
		return
	}
	w.waiting[i] = true
	if e := l.send(&w.message); e != 0 {
		w.lose(t, i, errorName(e))
	}
}

func (w *stormWork) lose(t *thread, i int, why string) {
	w.old[i].close()
	w.waiting[i] = false
	t.result.OldLost = append(t.result.OldLost, Loss{Mono(), why})
	t.fail("old connection: " + why)
}

func (w *stormWork) ready(t *thread, index int, events uint32) {
	if index >= len(w.old) {
		w.answered(t, index-len(w.old), events)
		return
	}
	l := &w.old[index]
	if l.fd < 0 {
		return
	}
	whole, why := l.receiveLast(events)
	switch {
	case why != "":
		w.lose(t, index, why)
	case whole:
		w.waiting[index] = false
		t.done()
	}
}

func (w *stormWork) answered(t *thread, i int, events uint32) {
	c := &w.calls[i]
	if c.fd < 0 {
		return
	}
	if done, why := c.progress(events, &w.message); done || why != "" {
		w.end(t, i, why)
	}
}

func (w *stormWork) sweep(t *thread, now int64) {
	for i := range w.calls {
		if c := &w.calls[i]; c.fd >= 0 && now-c.begin > patience {
			w.end(t, i, "no answer")
		}
	}
}

// busy also counts, at its last call, the old connections that made it to the end.
func (w *stormWork) busy(t *thread) bool {
	t.result.Old = 0
	waiting := false
	for i := range w.old {
		if w.old[i].fd >= 0 {
			t.result.Old++
		}
		waiting = waiting || w.waiting[i]
	}
	return waiting || len(w.free) < len(w.calls)
}
