package health

import (
	"context"
	"errors"
	"io"
)

// simple is a prober that says one thing and reads until the answer is whole. One thread can ask many of these at a
// time (asker): read is then called with what has come so far, and again with more.
type simple interface {
	prober
	question(t Target, again bool) []byte            // again: another one will follow on the same connection
	listens() bool                                   // something must be answered
	repeats() bool                                   // it may be said again, and on a connection that was used before
	read(answer io.Reader, t Target) (result, error) // answer is nil when nothing is listened for
}

// askPlainly asks on a connection of its own.
func askPlainly(ctx context.Context, p simple, t Target) (result, error) {
	c, err := dial(ctx, t)
	if err != nil {
		return result{}, err
	}
	defer c.Close() //nolint:errcheck // all was said
	if q := p.question(t, false); len(q) > 0 {
		if _, err := c.Write(q); err != nil {
			return result{}, readWords(err)
		}
	}
	if !p.listens() {
		if err := c.accepted(); err != nil {
			return result{}, err
		}
		return p.read(nil, t)
	}
	return p.read(c, t)
}

// sofar reads what has come of an answer, and remembers whether more was wanted.
type sofar struct {
	rest  []byte
	end   error // what comes after rest; nil: nobody knows yet
	short bool  // more was wanted than there is: what was made of it does not count
}

var errNotYet = errors.New("the answer has not come yet")

func (s *sofar) Read(b []byte) (int, error) {
	if len(s.rest) > 0 {
		n := copy(b, s.rest)
		s.rest = s.rest[n:]
		return n, nil
	}
	if s.end != nil {
		return 0, s.end
	}
	s.short = true
	return 0, errNotYet
}
