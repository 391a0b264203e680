package client

import (
	"bufio"
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"

	"github.com/turnout-proxy/turnout/admin/api"
)

// Events is what happens at the door from the call of following on, which comes once, when the door has begun to
// send; it may be nil. The stream ends after an error: with the door, or with ctx. Events that came faster than they
// were read are missing; Seq shows the gap.
func (c *Client) Events(ctx context.Context, following func()) iter.Seq2[api.Event, error] {
	return func(yield func(api.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // a caller that stops leaves no connection behind
		resp, err := c.send(ctx, http.MethodGet, path("events"), nil)
		if err != nil {
			yield(api.Event{}, err)
			return
		}
		defer resp.Body.Close() //nolint:errcheck // only read from
		if resp.StatusCode != http.StatusOK {
			text := make([]byte, 64<<10)
			n, _ := resp.Body.Read(text)
			yield(api.Event{}, refusal(resp, text[:n], nil))
			return
		}
		if following != nil {
			following() // the door subscribes before it answers
		}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ") // id and type are in the data as well
			if !ok {
				continue
			}
			var e api.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				yield(api.Event{}, notOurs(resp, []byte(data)))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(api.Event{}, c.broken(ctx, ctx.Err()))
			return
		}
		yield(api.Event{}, &api.Error{Code: api.CodeUnreachable, Message: "the door at " + c.socket + " ended the stream of events",
			Hint: "it has stopped, or dropped a reader that was too slow; `turnout status` tells"})
	}
}
