package health

import (
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"
)

// Progress follows one target's value over time: a server may be healthy and yet stand still.
type Progress struct {
	within time.Duration
	now    func() time.Time

	mu    sync.Mutex
	last  *big.Float // nil before the first value
	since time.Time  // when last was reached
	grew  bool       // it has grown since the first value or the last fall
	fell  string     // what to say until it has grown again
}

// NewProgress is the history of one target for this check; nil unless the check must advance. The clock is
// time.Now unless given.
func (c *Check) NewProgress(now func() time.Time) *Progress {
	if c.spec.Must == "" {
		return nil
	}
	if now == nil {
		now = time.Now
	}
	return &Progress{within: c.spec.Within, now: now}
}

// Judge adds the answer's value to the history and takes the answer's yes back where it has not grown. Answers
// that say no are not history: whether the server stands still is not known from them.
func (p *Progress) Judge(a Answer) Answer {
	if p == nil || !a.OK {
		return a
	}
	n, err := amount(a.Value)
	if err != nil {
		a.OK, a.Reason = false, "value: "+err.Error()
		return a
	}
	a.Pending, a.Reason = p.add(n, shown(a.Value))
	a.OK = !a.Pending && a.Reason == ""
	return a
}

func (p *Progress) add(n *big.Float, text string) (pending bool, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	switch {
	case p.last == nil:
		p.last, p.since = n, now
	case n.Cmp(p.last) > 0:
		p.last, p.since, p.grew, p.fell = n, now, true, ""
	case n.Cmp(p.last) < 0:
		p.fell = fmt.Sprintf("fell from %s to %s", p.last.Text('f', -1), text)
		p.last, p.since, p.grew = n, now, false
	}
	stands := now.Sub(p.since)
	switch {
	case p.fell != "":
		return false, p.fell
	case stands > p.within:
		return false, fmt.Sprintf("stands at %s for %v, must advance within %v", text, stands.Round(time.Second/10), p.within)
	case !p.grew:
		return true, fmt.Sprintf("not enough history yet: at %s for %v, must advance within %v", text, stands.Round(time.Second/10), p.within)
	}
	return false, ""
}

// Fresh tells whether value is at most n behind reference, and if not, how far. Being ahead is fresh.
func Fresh(value, reference any, n float64) (bool, string) {
	mine, err := amount(value)
	if err != nil {
		return false, "value: " + err.Error()
	}
	other, err := amount(reference)
	if err != nil {
		return false, "reference: " + err.Error()
	}
	behind := new(big.Float).Sub(other, mine)
	if behind.Cmp(big.NewFloat(n)) <= 0 {
		return true, ""
	}
	return false, fmt.Sprintf("%s is %s behind %s, want at most %v", shown(value), behind.Text('f', -1), shown(reference), n)
}

func shown(v any) string {
	if t, ok := v.(time.Time); ok {
		return t.Format(time.RFC3339Nano)
	}
	return brief(v)
}

// amount reads a number from what servers call one: 812, "812", "0x1b4", a PostgreSQL position "0/16B3748", a time
// (in seconds).
func amount(v any) (*big.Float, error) {
	n := new(big.Float).SetPrec(256)
	switch v := v.(type) {
	case int:
		return n.SetInt64(int64(v)), nil
	case int64:
		return n.SetInt64(v), nil
	case float64:
		if v != v {
			return nil, fmt.Errorf("is not a number")
		}
		return n.SetFloat64(v), nil
	case time.Time:
		return n.Quo(n.SetInt64(v.UnixNano()), big.NewFloat(1e9)), nil
	case string:
		if n, ok := amountOf(n, v); ok {
			return n, nil
		}
		return nil, fmt.Errorf("%q is not a number", brief(v))
	case nil:
		return nil, fmt.Errorf("is missing or null")
	}
	return nil, fmt.Errorf("%s is not a number", brief(v))
}

func amountOf(n *big.Float, s string) (*big.Float, bool) {
	if s == "" || len(s) > 80 || strings.ContainsAny(s, "pPiI_") || !strings.HasPrefix(s, "0x") && len(s) > 1 && strings.ContainsAny(s, "eE") && !strings.Contains(s, "/") {
		return nil, false // no exponents: a server must not make us write out 1e999999999
	}
	high, low, isPosition := strings.Cut(s, "/")
	if isPosition {
		var h, l uint32
		if _, err := fmt.Sscanf(high+" "+low, "%x %x", &h, &l); err != nil {
			return nil, false
		}
		return n.SetUint64(uint64(h)<<32 | uint64(l)), true
	}
	if hex, isHex := strings.CutPrefix(s, "0x"); isHex {
		i, ok := new(big.Int).SetString(hex, 16)
		if !ok {
			return nil, false
		}
		return n.SetInt(i), true
	}
	_, ok := n.SetString(s)
	return n, ok
}
