package health

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxAnswer = 1 << 20 // bytes read of one answer
	maxBody   = 4 << 10 // bytes of it kept for people
	maxReason = 300     // bytes of one reason
)

// Check asks one question. It is never changed after NewCheck and may run many times at once.
type Check struct {
	spec   Spec
	name   string // of the kind
	probe  prober
	tls    *tls.Config // of its own; nil: it has none
	plain  bool        // it speaks without TLS, however the target is spoken to
	vars   any
	expect *expression
	value  *expression
	uses   uses // what expect or value read of an answer; the rest need not be built
	hide   hider

	turn   chan struct{} // holds one: whoever asks this check as a reference
	latest Answer        // of that; read and written by whoever is in turn
}

// Target is who is asked.
type Target struct {
	Name    string
	Address string // host:port or unix:/path
	// TLS is how its own address is spoken to, asked at each run, for certificates change; nil: without. A check that
	// says something of TLS itself, or has an address of its own, does not go by it.
	TLS func() *tls.Config
	// H2: its own address is spoken to in HTTP/2.
	H2 bool
}

// Answer is what came of one run.
type Answer struct {
	Check   string
	OK      bool
	Pending bool          // neither yes nor no: not enough history yet; OK is false
	Reason  string        // why not, in an operator's words; "" when OK
	Status  string        // "200 OK", "master", "exit 1", "SERVING"; "" when there was none
	Value   any           // of `value`
	Body    string        // the beginning of what was answered
	Took    time.Duration //
	At      time.Time     // when it was asked
}

// prober asks once. An error is a reason for people; what it returns beside one is shown to them too.
type prober interface {
	ask(ctx context.Context, t Target) (result, error)
}

// result is what a kind has read, for its rule and the expressions.
type result struct {
	vars    any    // the kind's variables
	status  string // for people
	text    string
	good    bool   // the kind's own rule, used without `expect`
	why     string // why not good
	badJSON bool   // body was asked for and is not JSON
	kept    bool   // the server waits for another question on the same connection
}

// Name is the check's name in the file.
func (c *Check) Name() string { return c.spec.Name }

// Kind is tcp, http, redis, postgres, exec or grpc.
func (c *Check) Kind() string { return c.name }

// Run asks t once. It returns when ctx or the check's timeout ends at the latest.
func (c *Check) Run(ctx context.Context, t Target) Answer {
	at, limit := time.Now(), c.limit(ctx)
	run, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := c.probe.ask(run, c.whom(t))
	end := inTime
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		end = givenUp
	case run.Err() != nil:
		end = late
	}
	a := c.answer(at, limit, end, r, err)
	if ref := c.spec.Reference; ref != nil && a.OK {
		c.compare(run, ref, &a)
	}
	return a
}

// whom is who is asked for a target, and how: itself, unless the check has an address of its own.
func (c *Check) whom(t Target) Target {
	if c.spec.Address != "" {
		t.Address, t.TLS, t.H2 = c.spec.Address, nil, false
	}
	switch {
	case c.plain:
		t.TLS = nil
	case c.tls != nil:
		t.TLS = func() *tls.Config { return c.tls }
	}
	return t
}

// end is how a run ended.
type end int

const (
	inTime end = iota
	late
	givenUp
)

// answer makes an answer of what a run that began at at brought.
func (c *Check) answer(at time.Time, limit time.Duration, end end, r result, err error) Answer {
	a := Answer{Check: c.spec.Name, At: at, Took: time.Since(at)}
	a.Status, a.Body = c.clean(r.status, maxReason), c.excerpt(r.text)
	switch {
	case err == nil:
		c.judge(&a, r)
	case end == givenUp:
		a.Reason = "given up"
	case end == late:
		a.Reason = fmt.Sprintf("no answer within %v", limit.Round(time.Millisecond))
		if r.text != "" {
			a.Reason = fmt.Sprintf("no end of the answer within %v", limit.Round(time.Millisecond))
		}
	default:
		a.Reason = c.clean(err.Error(), maxReason)
	}
	a.Reason = strings.TrimPrefix(a.Reason, c.spec.Name+": ") // whoever shows it shows the check's name as well
	return a
}

// referenceAge is how old a reference's answer may be: many servers that are compared with one side ask it once.
const referenceAge = 500 * time.Millisecond

// compare takes the answer's yes back when its value is too far behind the reference's.
func (c *Check) compare(ctx context.Context, ref *Check, a *Answer) {
	r := ref.asReference(ctx)
	if !r.OK {
		a.OK, a.Pending, a.Reason = false, true, c.clean("nothing to compare with: "+ref.Name()+": "+r.Reason, maxReason)
		return
	}
	a.OK, a.Reason = Fresh(a.Value, r.Value, c.spec.Behind)
}

func (c *Check) asReference(ctx context.Context) Answer {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return Answer{Reason: "no answer in time"}
	}
	if time.Since(c.latest.At) > referenceAge {
		a := c.Run(ctx, Target{Name: c.Name()})
		if ctx.Err() != nil {
			return a // it may be about the asker's haste
		}
		c.latest = a
	}
	return c.latest
}

// Must tells whether the check judges a history: one run of it alone proves nothing.
func (c *Check) Must() bool { return c.spec.Must != "" }

// Address is whom the check asks; "" is each target itself.
func (c *Check) Address() string { return c.spec.Address }

// Limit is how long one run may take; 0 when the check does not say.
func (c *Check) Limit() time.Duration { return c.spec.Timeout }

func (c *Check) limit(ctx context.Context) time.Duration {
	limit := c.spec.Timeout
	if limit == 0 {
		limit = DefaultTimeout
		if _, given := ctx.Deadline(); given {
			limit = time.Hour
		}
	}
	if end, given := ctx.Deadline(); given {
		limit = min(limit, time.Until(end))
	}
	return limit
}

func (c *Check) judge(a *Answer, r result) {
	if c.value != nil {
		v, err := c.value.run(r.vars)
		switch {
		case err == nil:
			a.Value = c.keep(v)
		case r.badJSON:
			a.Reason = c.clean(joined(r.status, "value: the answer is not JSON"), maxReason)
			return
		default:
			a.Reason = c.clean(joined(r.status, err.Error()), maxReason)
			return
		}
	}
	a.OK = r.good
	why := r.why
	if c.expect != nil {
		a.OK, why = c.expect.holds(r.vars)
		if !a.OK && r.badJSON {
			why = "the answer is not JSON"
		}
		why = joined(r.status, why)
	}
	if !a.OK {
		a.Reason = c.clean(why, maxReason)
	}
}

func joined(status, why string) string {
	if status == "" || why == "" {
		return status + why
	}
	return status + ": " + why
}

// clean makes a foreign text fit for a line of a log: secrets out, control characters out, bounded.
func (c *Check) clean(s string, limit int) string {
	s = c.hide.text(cut(s, maxBody+limit)) // a secret on the edge is cut below, not shown in part
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	return cut(strings.Join(strings.Fields(s), " "), limit)
}

// excerpt is the beginning of a body, as it is but for secrets. Secrets are taken out first, so that none is
// shown by half at the cut.
func (c *Check) excerpt(s string) string {
	longest := 0
	for _, secret := range c.hide {
		longest = max(longest, len(secret))
	}
	return strings.ToValidUTF8(cut(c.hide.text(cut(s, maxBody+longest)), maxBody), "?")
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}

// keep makes a value safe to hold on to: without secrets, and no larger than an excerpt.
func (c *Check) keep(v any) any {
	switch v := v.(type) {
	case nil, bool, int, int64, float64, time.Time:
		return v
	case string:
		return c.excerpt(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return c.excerpt(fmt.Sprint(v))
	}
	shown := c.hide.text(string(b))
	if shown != string(b) || len(b) > maxBody {
		return c.excerpt(shown)
	}
	return v
}
