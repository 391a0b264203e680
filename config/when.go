package config

import (
	"errors"
	"strings"
	"time"
)

// errWhen says how a time to come is written.
var errWhen = errors.New("want a time of day such as 22:00, a while such as 2h, or a whole date such as 2026-11-30T22:00:00+01:00")

// When reads a time to come: RFC 3339; a date and time of day of the clock here, 2026-11-30 22:00; a time of day, 22:00 or
// 22:00:30, the next one after now; or how long it is from now, 2h or +2h. Whether it has passed is for the door to say.
func When(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "+")); err == nil && d > 0 && !strings.HasPrefix(text, "++") {
		return now.Add(d), nil
	}
	for _, layout := range []string{"15:04", time.TimeOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			y, m, d := now.Date()
			at := time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if !at.After(now) {
				at = time.Date(y, m, d+1, t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			}
			return at, nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errWhen
}
