package admin

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

// states answers what every service tells the public, in the file's order. It is there whatever they are like.
func (s *Server) states(w http.ResponseWriter, _ *http.Request) {
	all := []proxy.Public{}
	for _, svc := range s.opt.Switch.Current().Services {
		all = append(all, svc.Public())
	}
	w.Header().Set("Cache-Control", "no-store")
	s.write(w, http.StatusOK, struct {
		Services []proxy.Public `json:"services"`
	}{all})
}

// state answers what one service tells the public, as it does itself at its state_path.
func (s *Server) state(w http.ResponseWriter, r *http.Request) {
	snap, name := s.opt.Switch.Current(), r.PathValue("service")
	w.Header().Set("Cache-Control", "no-store")
	svc := snap.Service(name)
	if svc == nil {
		known := make([]string, len(snap.Services))
		for i := range snap.Services {
			known[i] = snap.Services[i].Spec.Name
		}
		s.refuse(w, http.StatusNotFound, &api.Error{Code: api.CodeNotFound, Message: "no service is named " + strconv.Quote(name), Hint: "there are: " + strings.Join(known, ", ")})
		return
	}
	public := svc.Public()
	status, retry := public.Status(&svc.Spec.Maintenance, time.Now())
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((retry+time.Second-1)/time.Second), 10))
	}
	s.write(w, status, public)
}
