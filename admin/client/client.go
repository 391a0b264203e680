// Package client talks to a running door over its admin socket. It knows the wire types (admin/api) and
// net/http, and nothing of the server.
//
//	a call:  method -> do -> HTTP/1.1 on the Unix socket -> the answer's type, or *api.Error
//
// Every error is an *api.Error, but for the caller's own context.Canceled. A door that does not answer is one of code
// api.CodeUnreachable.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// maxAnswer bounds what is read of one answer: a status of 10,000 servers has about 4 MiB.
const maxAnswer = 256 << 20

// Client calls one door. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// Dial returns a client of the door whose admin socket is at that path. It connects at the first call.
func Dial(socket string) *Client {
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
		IdleConnTimeout:    30 * time.Second,
	}}}
}

// Socket is the path that the client was made for.
func (c *Client) Socket() string { return c.socket }

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is the door as it is now; of one service alone unless service is "".
func (c *Client) Status(ctx context.Context, service string) (*api.Status, error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	return get[api.Status](ctx, c, path("status"), q)
}

// Metrics are what /metrics has, in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, refusal(resp, text, nil)
	}
	return text, nil
}

// Version of the running door.
func (c *Client) Version(ctx context.Context) (*api.Version, error) {
	return get[api.Version](ctx, c, path("version"), nil)
}

// Swap moves all new work of a service or group to another pool.
//
// This and the other changes return the operation, and when it was begun and failed both the operation and
// its error.
func (c *Client) Swap(ctx context.Context, target string, req api.SwapRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "swap"), req)
}

// Back swaps a service or group to where it was before its last swap.
func (c *Client) Back(ctx context.Context, target string, req api.SwapRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "back"), req)
}

// Keep lets only some servers of a service's active pool take new work.
func (c *Client) Keep(ctx context.Context, service string, req api.KeepRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", service, "keep"), req)
}

// Split leads parts of a service's or group's new work to other pools than the active one, or ends that.
func (c *Client) Split(ctx context.Context, target string, req api.SplitRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "split"), req)
}

// Hold lets new work of a service or group wait at the door.
func (c *Client) Hold(ctx context.Context, target string, req api.HoldRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "hold"), req)
}

// Release lets in what a hold keeps waiting.
func (c *Client) Release(ctx context.Context, target string, req api.ChangeRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "release"), req)
}

// ReadOnly lets the door itself answer unsafe requests of a service or group, or ends that.
func (c *Client) ReadOnly(ctx context.Context, target string, req api.ReadOnlyRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "read-only"), req)
}

// Maintenance lets the door itself answer new work of a service or group, or ends that.
func (c *Client) Maintenance(ctx context.Context, target string, req api.MaintenanceRequest) (*api.Operation, error) {
	return c.change(ctx, path("services", target, "maintenance"), req)
}

// Drain seals a server, or all of a pool when server is "".
func (c *Client) Drain(ctx context.Context, service, pool, server string, req api.DrainRequest) (*api.Operation, error) {
	return c.change(ctx, member(service, pool, server, "drain"), req)
}

// Ready ends the drain of a server, or of all of a pool when server is "".
func (c *Client) Ready(ctx context.Context, service, pool, server string, req api.ReadyRequest) (*api.Operation, error) {
	return c.change(ctx, member(service, pool, server, "ready"), req)
}

// Weight sets a server's weight.
func (c *Client) Weight(ctx context.Context, service, pool, server string, req api.WeightRequest) (*api.Operation, error) {
	return c.change(ctx, member(service, pool, server, "weight"), req)
}

// Probe asks all checks of a server, or of each of a pool when server is "", now.
func (c *Client) Probe(ctx context.Context, service, pool, server string) (*api.Probe, error) {
	return get[api.Probe](ctx, c, member(service, pool, server, "probe"), nil)
}

// Request has the door send a request to a pool, or to one server when server is not "", through a listener of the
// service.
func (c *Client) Request(ctx context.Context, service, pool, server string, req api.RequestRequest) (*api.Requested, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	answer := new(api.Requested)
	if err := c.do(ctx, http.MethodPost, member(service, pool, server, "request"), body, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// Freeze refuses all changes until Unfreeze.
func (c *Client) Freeze(ctx context.Context, req api.ChangeRequest) (*api.Operation, error) {
	return c.change(ctx, path("freeze"), req)
}

// Unfreeze allows changes again.
func (c *Client) Unfreeze(ctx context.Context, req api.ChangeRequest) (*api.Operation, error) {
	return c.change(ctx, path("unfreeze"), req)
}

// Reload lets the door read its configuration file again.
func (c *Client) Reload(ctx context.Context, req api.ReloadRequest) (*api.Operation, error) {
	return c.change(ctx, path("reload"), req)
}

// Gate asks what must hold before a swap, and changes nothing.
func (c *Client) Gate(ctx context.Context, target, to string) (*api.Gates, error) {
	q := url.Values{}
	if to != "" {
		q.Set("to", to)
	}
	return get[api.Gates](ctx, c, path("services", target, "gate"), q)
}

// TakeSnapshot writes down what services are like now.
func (c *Client) TakeSnapshot(ctx context.Context, name string, req api.SnapshotRequest) (*api.Snapshot, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	out := new(api.Snapshot)
	return out, c.do(ctx, http.MethodPost, path("snapshots", name), body, out)
}

// Snapshots are all that were taken, oldest first.
func (c *Client) Snapshots(ctx context.Context) ([]api.Snapshot, error) {
	all, err := get[[]api.Snapshot](ctx, c, path("snapshots"), nil)
	if err != nil {
		return nil, err
	}
	return *all, nil
}

// Compare says what became of a snapshot by the time of another, or by now when with is "".
func (c *Client) Compare(ctx context.Context, name, with string) (*api.Compared, error) {
	q := url.Values{}
	if with != "" {
		q.Set("with", with)
	}
	return get[api.Compared](ctx, c, path("snapshots", name, "compare"), q)
}

// Note adds a line to the door's history.
func (c *Client) Note(ctx context.Context, req api.NoteRequest) error {
	body, err := json.Marshal(req)
	if err != nil {
		return &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	return c.do(ctx, http.MethodPost, path("notes"), body, new(api.NoteRequest))
}

// Operation looks at an operation. With a wait it answers when the operation has more than after steps, has
// ended, or is paused for a hook, and at the latest after the wait; the door waits a minute at most. A
// negative after waits for the end or a hook alone. How the operation ended is in it; the error is only of
// the asking.
func (c *Client) Operation(ctx context.Context, id string, after int, wait time.Duration) (*api.Operation, error) {
	q := url.Values{}
	if wait > 0 {
		q.Set("wait", wait.String())
		q.Set("after", strconv.Itoa(after))
	}
	return get[api.Operation](ctx, c, path("operations", id), q)
}

// Continue answers a paused operation. When it returns without an error the operation is past that pause; with Abort
// it has gone back, or will when the check it is in has ended.
func (c *Client) Continue(ctx context.Context, id string, req api.ContinueRequest) (*api.Operation, error) {
	return c.change(ctx, path("operations", id, "continue"), req)
}

// History is what was changed, newest last: the latest limit lines (0: the door's default) about the target
// (a service, a group, or SERVICE/POOL…), or about everything when it is "".
func (c *Client) History(ctx context.Context, target string, limit int) ([]api.Record, error) {
	q := url.Values{}
	if target != "" {
		q.Set("target", target)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	records, err := get[[]api.Record](ctx, c, path("history"), q)
	if err != nil {
		return nil, err
	}
	return *records, nil
}

// path joins escaped segments.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

func member(service, pool, server, verb string) string {
	if server == "" {
		return path("services", service, "pools", pool, verb)
	}
	return path("services", service, "pools", pool, "servers", server, verb)
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (*T, error) {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	answer := new(T)
	if err := c.do(ctx, http.MethodGet, path, nil, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// change posts a request. An operation that failed after it had begun comes back together with its error.
func (c *Client) change(ctx context.Context, path string, req any) (*api.Operation, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	op := new(api.Operation)
	err = c.do(ctx, http.MethodPost, path, body, op)
	if op.ID == "" {
		op = nil
	}
	return op, err
}

// do makes one call. The answer's body is decoded into answer, also when it is an error's.
func (c *Client) do(ctx context.Context, method, path string, body []byte, answer any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.broken(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return refusal(resp, text, answer)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return notOurs(resp, text)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://turnout"+path, bytes.NewReader(body))
	if err != nil {
		return nil, &api.Error{Code: api.CodeUsage, Message: err.Error()}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	return resp, nil
}

// refusal reads the error of an answer, and what there is of an operation beside it.
func refusal(resp *http.Response, text []byte, answer any) error {
	var e struct {
		Error *api.Error `json:"error"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Error == nil {
		return notOurs(resp, text)
	}
	if op, ok := answer.(*api.Operation); ok {
		_ = json.Unmarshal(text, op) // the error was read already; without an id there was no operation
	}
	return e.Error
}

func notOurs(resp *http.Response, text []byte) error {
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the answer is not a door's: %s: %.80q", resp.Status, text),
		Hint: "is another program listening on this socket? --socket or TURNOUT_SOCKET names another one"}
}

// broken says in words for people why there was no answer.
func (c *Client) broken(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case ctx.Err() != nil:
		return &api.Error{Code: api.CodeTimeout, Message: "the door at " + c.socket + " did not answer in time",
			Hint: "what was begun goes on: `turnout status` shows it; --timeout waits longer"}
	case errors.Is(err, fs.ErrPermission):
		return &api.Error{Code: api.CodePermission, Message: fmt.Sprintf("you (uid %d) may not open the admin socket %s: %s", os.Getuid(), c.socket, words(err)),
			Hint: "the socket's group may: join it, or use sudo"}
	}
	return &api.Error{Code: api.CodeUnreachable, Message: fmt.Sprintf("no door answers at %s: %s", c.socket, words(err)),
		Hint: "is turnout serve running? --socket or TURNOUT_SOCKET names another socket"}
}

// words is the part of a network error that says something.
func words(err error) string {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it closed the connection without an answer"
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}
