package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// streamEvents is an endless answer of server-sent events. It ends with the client, with the door, and when
// the client has not read for as long as a write may take.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request) {
	events, unsubscribe := s.opt.Switch.Subscribe()
	defer unsubscribe()
	s.streams.Add(1)
	defer s.streams.Add(-1)
	control := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		_ = control.SetWriteDeadline(time.Now().Add(s.limits.write)) // no connection of ours lacks it
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if !send(": turnout events from here on\n\n") {
		return
	}
	beat := time.NewTicker(s.limits.heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-beat.C:
			if !send(": still here\n\n") {
				return
			}
		case e := <-events:
			if !send("%s", sse(event(e))) {
				return
			}
		}
	}
}

// sse is one event in the format of https://html.spec.whatwg.org/multipage/server-sent-events.html
func sse(e api.Event) []byte {
	data, err := json.Marshal(e) // on one line
	if err != nil {
		panic("admin: BUG: an event that is not JSON: " + err.Error())
	}
	return fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, data)
}
