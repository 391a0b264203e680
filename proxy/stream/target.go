package stream

import (
	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/front"
)

// target is a server as one loop sees it.
type target struct {
	server *proxy.Server // nil: not in use
	where  *front.Place
	conns  uint32 // list of relaying conns, and of those by which a reset is on its way to it
	dials  int32  // conns that dial it, or whose client is yet to be reset
	count  int32  // conns in the list
	looks  proxy.Looks
}

// target finds or makes the loop's target of a server.
func (w *worker) target(s *proxy.Server) int32 {
	if i, ok := w.targetOf[s]; ok {
		return i
	}
	t := target{server: s, where: w.plane.front.Places.Of(s.Address), conns: none}
	for i := range w.targets {
		if w.targets[i].server == nil {
			w.targets[i] = t
			w.targetOf[s] = int32(i)
			return int32(i)
		}
	}
	w.targets = append(w.targets, t)
	w.targetOf[s] = int32(len(w.targets) - 1)
	return int32(len(w.targets) - 1)
}

// sweep forgets targets without a connection; those still in use are made anew when they are needed.
func (w *worker) sweep() {
	for i := range w.targets {
		if t := &w.targets[i]; t.server != nil && t.count == 0 && t.dials == 0 {
			delete(w.targetOf, t.server)
			*t = target{conns: none}
		}
	}
	w.queues.Sweep()
}
