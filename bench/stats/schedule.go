package stats

// Schedule is an open-loop timetable: message i is due at start + i/rate, whether or not earlier ones were
// answered or even sent. A latency counted from the due time is free of coordinated omission: a stall is
// charged to every message that was due in it, not only to the one that happened to be under way.
type Schedule struct {
	start int64   // ns
	step  float64 // ns
	next  int64   // number of the next message
}

// NewSchedule has its first message due at start, and rate of them in a second.
func NewSchedule(start int64, rate float64) Schedule {
	return Schedule{start: start, step: 1e9 / rate}
}

// Due is when the next message is to be sent.
func (s *Schedule) Due() int64 { return s.start + int64(float64(s.next)*s.step) }

// Next takes the next message if it is due, and returns its number and when it was to be sent.
func (s *Schedule) Next(now int64) (number, due int64, ok bool) {
	due = s.Due()
	if due > now {
		return 0, 0, false
	}
	s.next++
	return s.next - 1, due, true
}
