package api

import (
	"fmt"
	"regexp"
	"time"
)

// MaxDuration is the longest time that a request may ask for: more is taken for a slip of the pen.
const MaxDuration = 30 * 24 * time.Hour

// What a text may have at most, in bytes: a reason, which the journal keeps and history shows, and a message for the public.
const (
	MaxReason  = 1000
	MaxMessage = 500
)

// WantDuration says what a text must be to be a Duration, and which is the longest where it is more than that.
func WantDuration(text string) string {
	if d, err := time.ParseDuration(text); d > MaxDuration || err != nil && durationRegexp.MatchString(text) {
		return "want at most 720h (30 days)"
	}
	return "want a duration with a unit, such as 30s or 1m30s"
}

var durationRegexp = regexp.MustCompile(`^([0-9.]+(ns|us|µs|μs|ms|s|m|h))+$`)

// Duration is a time.Duration that is a string such as "1m30s" in JSON.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q: %s", b, WantDuration(string(b)))
	}
	*d = Duration(v)
	return nil
}
