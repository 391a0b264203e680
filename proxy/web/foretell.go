package web

import (
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// foretell appends the lines by which an answer of a service tells of the maintenance that is announced as it is written;
// nothing, when there is none. svc is the service as it was when the request was claimed; nil: no service's answer. Callers
// ask Snapshot.Announces first, so that doors at which nothing is announced do not even look.
func (w *worker) foretell(dst []byte, svc *proxy.Service) []byte {
	if svc != nil {
		svc = w.sw.Current().Service(svc.Spec.Name)
	}
	if svc == nil || svc.Announced == nil {
		return dst
	}
	a := svc.Announced
	dst = append(dst, "X-Turnout-Maintenance: "...)
	dst = a.From.UTC().AppendFormat(dst, time.RFC3339)
	if !a.Until.IsZero() {
		dst = append(dst, "; until="...)
		dst = a.Until.UTC().AppendFormat(dst, time.RFC3339)
	}
	if path := svc.Spec.StatePath; path != "" {
		dst = append(dst, "\r\nLink: <"...)
		dst = append(dst, path...)
		dst = append(dst, ">; rel=\"status\""...) // RFC 8631 4.4
	}
	return append(dst, "\r\n"...)
}
