package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/proxy"
)

// maxBody is far more than any request of ours has.
const maxBody = 1 << 20

// drainBody is how much of a body that is too large is read all the same: a client that is still sending
// when the connection closes may never see the answer.
const drainBody = 16 << 20

// call is one request that may be answered.
type call struct {
	ctx  context.Context
	path func(name string) string // values of the pattern's wildcards
	q    url.Values
	who  proxy.Who

	after func() // what is left to do once the answer is on its way; nil: nothing
}

// routes of the admin socket; the package comment of api lists them.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	read := func(path string, query []string, f func(*call) (any, error)) {
		mux.Handle("/v1/"+path, handle(s, http.MethodGet, toRead, query, func(c *call, _ *struct{}) (any, error) { return f(c) }))
	}
	const service, pool = "services/{target}/", "services/{target}/pools/{pool}/"
	const server = pool + "servers/{server}/"
	read("status", []string{"service"}, s.getStatus)
	read("version", nil, s.getVersion)
	read("operations/{id}", []string{"after", "wait"}, s.getOperation)
	read("history", []string{"target", "limit"}, s.getHistory)

	read(pool+"probe", nil, s.getProbe)
	read(service+"gate", []string{"to"}, s.getGate)
	read("snapshots", nil, s.getSnapshots)
	read("snapshots/{name}/compare", []string{"with"}, s.getCompare)
	post(s, mux, "snapshots/{name}", s.postSnapshot)
	read(server+"probe", nil, s.getProbe)
	post(s, mux, service+"swap", s.postSwap)
	post(s, mux, service+"back", s.postBack)
	post(s, mux, service+"hold", s.postHold)
	post(s, mux, service+"release", s.postRelease)
	post(s, mux, service+"maintenance", s.postMaintenance)
	post(s, mux, service+"read-only", s.postReadOnly)
	post(s, mux, service+"keep", s.postKeep)
	post(s, mux, service+"split", s.postSplit)
	post(s, mux, pool+"drain", s.postDrain)
	post(s, mux, pool+"ready", s.postReady)
	post(s, mux, server+"drain", s.postDrain)
	post(s, mux, server+"ready", s.postReady)
	post(s, mux, server+"weight", s.postWeight)
	post(s, mux, pool+"request", s.postRequest)
	post(s, mux, server+"request", s.postRequest)
	post(s, mux, "freeze", s.postFreeze)
	post(s, mux, "unfreeze", s.postUnfreeze)
	post(s, mux, "reload", s.postReload)
	post(s, mux, "notes", s.postNote)
	post(s, mux, "operations/{id}/continue", s.postContinue)

	mux.Handle("/v1/events", s.guard(http.MethodGet, toRead, s.streamEvents))
	mux.Handle("/metrics", s.guard(http.MethodGet, toRead, s.metrics().ServeHTTP))
	mux.Handle("/state", s.guard(http.MethodGet, toRead, s.states))
	mux.Handle("/state/{service}", s.guard(http.MethodGet, toRead, s.state))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, http.StatusNotFound, &api.Error{Code: api.CodeNotFound, Message: "there is no " + r.URL.Path, Hint: "the API is under /v1: /v1/status, /v1/services/NAME/swap, …"})
	})
	return mux
}

func post[Req any](s *Server, mux *http.ServeMux, path string, f func(*call, *Req) (any, error)) {
	mux.Handle("/v1/"+path, handle(s, http.MethodPost, toOperate, nil, f))
}

// handle is the way of every request but streams: method, peer, role, query, body; f; the answer.
func handle[Req any](s *Server, method string, need role, query []string, f func(*call, *Req) (any, error)) http.Handler {
	return s.guard(method, need, func(w http.ResponseWriter, r *http.Request) {
		q, refusal := parseQuery(r.URL.RawQuery, query)
		if refusal != nil {
			s.refuse(w, http.StatusBadRequest, refusal)
			return
		}
		body, status, refusal := s.body(w, r)
		if refusal != nil {
			s.refuse(w, status, refusal)
			return
		}
		req := new(Req)
		if method == http.MethodPost { // a GET's body means nothing
			if refusal := decode(body, req); refusal != nil {
				s.refuse(w, http.StatusBadRequest, refusal)
				return
			}
		}
		c := &call{ctx: r.Context(), path: r.PathValue, q: q, who: s.who(peerIn(r.Context()))}
		answer, err := f(c, req)
		s.answer(w, answer, err)
		if c.after != nil {
			_ = http.NewResponseController(w).Flush() // a client that went away is not our failure
			c.after()
		}
	})
}

// guard lets in requests of one method by peers that have the role.
func (s *Server) guard(method string, need role, f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && (r.Method != http.MethodHead || method != http.MethodGet) {
			w.Header().Set("Allow", method)
			s.refuse(w, http.StatusMethodNotAllowed, &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("%s %s: use %s", r.Method, r.URL.Path, method)})
			return
		}
		if refusal := s.authorize(peerIn(r.Context()), need); refusal != nil {
			s.opt.Log.Warn("not permitted", zap.String("request", method+" "+r.URL.Path), zap.String("error", refusal.Message))
			s.refuse(w, http.StatusForbidden, refusal)
			return
		}
		f(w, r)
	})
}

// parseQuery refuses what nobody would read: a misspelt parameter must not mean "everything".
func parseQuery(raw string, known []string) (url.Values, *api.Error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUsage, Message: "query: " + err.Error()}
	}
	for name := range q {
		if !slices.Contains(known, name) {
			return nil, &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("unknown parameter %q", name), Hint: knownWords(known)}
		}
	}
	return q, nil
}

func knownWords(known []string) string {
	if len(known) == 0 {
		return "there are none here"
	}
	return "known: " + strings.Join(known, ", ")
}

// body reads a request's body, bounded in size and time.
func (s *Server) body(w http.ResponseWriter, r *http.Request) ([]byte, int, *api.Error) {
	if r.Body == http.NoBody {
		return nil, 0, nil
	}
	// net/http takes the deadline back where the body ends, so it does not end a wait that follows.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.limits.body)) // no connection of ours lacks it
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if len(text) > maxBody {
		_, err = io.CopyN(io.Discard, r.Body, drainBody)
		if err == nil || !errors.Is(err, io.EOF) {
			w.Header().Set("Connection", "close")
		}
		return nil, http.StatusRequestEntityTooLarge, &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	}
	if err != nil {
		w.Header().Set("Connection", "close")
		return nil, http.StatusRequestTimeout, &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("the body did not arrive whole within %s", s.limits.body)}
	}
	return text, 0, nil
}

// answer writes what a call came to. An operation that failed is told with its error's status.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	if err == nil {
		s.write(w, http.StatusOK, v)
		return
	}
	refusal, status := asError(err)
	if op, ok := v.(*api.Operation); ok && op != nil {
		s.write(w, status, op)
		return
	}
	s.refuse(w, status, refusal)
}

func (s *Server) refuse(w http.ResponseWriter, status int, e *api.Error) {
	s.write(w, status, struct {
		Error *api.Error `json:"error"`
	}{e})
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("admin: BUG: an answer that is not JSON: " + err.Error())
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write)) // no connection of ours lacks it
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that went away is not our failure
}
