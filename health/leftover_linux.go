package health

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// goElsewhere has a goroutine see a run to its end: of a long answer, or of one that takes longer than the interval. Then
// the check is asked anew meanwhile, as often as the number of failures that count: a server that hangs is found within
// fall x interval + timeout, however long the timeout is.
func (a *asker) goElsewhere(t *turn) {
	run := leftover{t: t, at: t.at, limit: t.limit, said: t.stage == awaiting, unsaid: bytes.Clone(t.unsaid), got: t.got}
	if run.said {
		_ = a.list(t.fd, unix.EPOLL_CTL_DEL, 0) // the connection goes on under another number, which epoll must not follow
		delete(a.byFD, int32(t.fd))
		f := os.NewFile(uintptr(t.fd), "check")
		t.fd = -1
		var err error
		run.conn, err = net.FileConn(f)
		_ = f.Close() // conn is a duplicate
		if err != nil {
			a.finish(t, result{}, err, inTime)
			return
		}
	} else {
		a.hangUp(t) // a connect that takes so long is as well begun anew
	}
	a.asking--
	t.away++
	t.stage, t.got, t.unsaid = elsewhere, nil, nil
	if t.limit > t.plan.Interval && t.away < t.plan.Fall {
		t.early = t.at.Add(t.plan.Interval)
		t.late = t.early
		a.due.put(t)
	} else {
		a.due.remove(t) // an answer plans the next run
	}
	a.m.work.Go(func() { a.order(order{t, answered, run.finish()}) }) // ends with the run's limit
}

// cameBack takes the answer of a run that a goroutine saw to its end.
func (a *asker) cameBack(t *turn, answer Answer) {
	t.away--
	if t.stage == over {
		return
	}
	plan, pause := t.plan, t.plan.Interval
	if !answer.At.Before(t.newest) { // else a later question has been answered already
		t.newest = answer.At
		plan, pause = a.m.note(t.ctx, t.w, t.w.progress.Judge(answer))
	}
	if t.stage == elsewhere || pause == 0 { // else one is being asked, whose answer plans the next run
		a.next(t, plan, pause)
	}
}

// leftover is a run that a goroutine sees to its end.
type leftover struct {
	t           *turn
	at          time.Time
	limit       time.Duration
	said        bool     // conn is open, and got has come on it; else it is begun anew
	conn        net.Conn //
	unsaid, got []byte
}

func (o *leftover) finish() Answer {
	t := o.t
	run, cancel := context.WithDeadline(t.ctx, o.at.Add(o.limit))
	defer cancel()
	r, err := o.rest(run)
	end := inTime
	if run.Err() != nil {
		end = late
	}
	return t.w.check.answer(o.at, o.limit, end, r, err)
}

func (o *leftover) rest(run context.Context) (result, error) {
	if !o.said {
		return o.t.p.ask(run, o.t.target)
	}
	l := bound(run, o.conn)
	defer l.Close() //nolint:errcheck // all was said
	if _, err := l.Write(o.unsaid); len(o.unsaid) > 0 && err != nil {
		return result{}, readWords(err)
	}
	return o.t.p.read(io.MultiReader(bytes.NewReader(o.got), l), o.t.target)
}
