//go:build linux

package load

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/turnout-proxy/turnout/bench/stats"
)

// maxUnderWay bounds what one connection may have under way; a power of two.
const maxUnderWay = 4096

// pipe is a connection with any number of messages under way, which come back in order.
type pipe struct {
	link
	sent, back uint64             // messages; back ≤ sent ≤ back+maxUnderWay
	due        [maxUnderWay]int64 // of message i at i%maxUnderWay
}

// rateWork is the open loop: messages go out when the timetable says, answered or not, over the connections
// in turn. Latency counts from the timetable, so neither the proxy nor this client can hide a stall.
type rateWork struct {
	table   stats.Schedule
	pipes   []pipe
	message [MessageSize]byte
	buf     [maxUnderWay * MessageSize]byte
}

func (w *rateWork) open(t *thread) error {
	if t.rate <= 0 {
		return fmt.Errorf("BUG: client: rate %v", t.rate)
	}
	links, err := openLinks(t, t.conns)
	w.pipes = make([]pipe, len(links))
	for i, l := range links {
		w.pipes[i].link = l
	}
	return err
}

func (w *rateWork) begin(t *thread, now int64) {
	offset := 1e9 / t.rate * float64(t.number) / float64(len(t.threads)) // threads take turns
	w.table = stats.NewSchedule(now+int64(offset), t.rate)
}

func (w *rateWork) tick(t *thread, now int64) int64 {
	if t.ending.Load() {
		return 1e6
	}
	for {
		number, due, ok := w.table.Next(now)
		if !ok {
			return w.table.Due() - now
		}
		p := &w.pipes[number%int64(len(w.pipes))]
		t.record(&t.result.Lag, due, now-due)
		w.send(t, p, due)
	}
}

func (w *rateWork) send(t *thread, p *pipe, due int64) {
	if p.fd < 0 {
		t.fail("connection lost before")
		return
	}
	if p.sent-p.back == maxUnderWay {
		t.fail("too many unanswered: cannot keep the rate")
		return
	}
	p.due[p.sent%maxUnderWay] = due
	p.sent++
	binary.LittleEndian.PutUint64(w.message[stampSize:], p.sent)
	if n, e := write(int(p.fd), w.message[:]); e != 0 || n < MessageSize {
		w.lose(t, p, "cannot send: "+errorName(e))
	}
}

func (w *rateWork) ready(t *thread, index int, events uint32) {
	p := &w.pipes[index]
	ended := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	for p.fd >= 0 {
		copy(w.buf[:], p.in[:p.got])
		n, e := read(int(p.fd), w.buf[p.got:])
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 || n == 0 {
			w.lose(t, p, "connection lost")
			return
		}
		full := n == len(w.buf)-int(p.got)
		w.take(t, p, int(p.got)+n)
		if !full && !ended {
			return
		}
	}
}

// take counts the messages in the first n bytes of buf and keeps what is left over of an incomplete one.
func (w *rateWork) take(t *thread, p *pipe, n int) {
	now := Mono()
	at := 0
	for ; n-at >= MessageSize; at += MessageSize {
		due := p.due[p.back%maxUnderWay]
		p.back++
		if binary.LittleEndian.Uint64(w.buf[at+stampSize:]) != p.back {
			w.lose(t, p, "another message's bytes")
			return
		}
		t.record(&t.result.Latency, due, now-due)
		t.done()
	}
	p.got = int32(copy(p.in[:], w.buf[at:n]))
}

func (w *rateWork) lose(t *thread, p *pipe, why string) {
	now := Mono()
	for ; p.back < p.sent; p.back++ { // at least this late
		due := p.due[p.back%maxUnderWay]
		t.record(&t.result.Latency, due, max(now-due, patience))
		t.fail(why)
	}
	p.close()
}

func (w *rateWork) busy(t *thread) bool {
	for i := range w.pipes {
		if p := &w.pipes[i]; p.fd >= 0 && p.back < p.sent {
			return true
		}
	}
	return false
}
