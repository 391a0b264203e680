package loop

import (
	"runtime"
	"testing"
)

// One event: a byte is sent to oneself, the kernel tells, the handler reads it.
func BenchmarkLoop_Event(b *testing.B) {
	a, peer := pair(b)
	done := make(chan struct{})
	msg := []byte("x")
	n := 0
	b.ReportAllocs()
	l := start(b, func(l *Loop) {
		l.Handle(1, func(_ Token, ev Events) {
			if ev&In == 0 {
				return
			}
			Recv(a, l.Buffer())
			if n--; n > 0 {
				Send(peer, msg)
			} else if n == 0 {
				close(done)
			}
		})
		if err := l.Add(a, MakeToken(1, 0, 0, 0)); err != nil {
			b.Fatal(err)
		}
	})
	b.ResetTimer()
	l.Do(func() {
		n = b.N
		Send(peer, msg)
	})
	<-done
}

func BenchmarkLoop_Again(b *testing.B) {
	done := make(chan struct{})
	n := b.N
	b.ReportAllocs()
	b.ResetTimer()
	start(b, func(l *Loop) {
		l.Handle(1, func(t Token, _ Events) {
			if n -= 1; n > 0 {
				l.Again(t)
			} else if n > -99 {
				n = -100
				close(done)
			}
		})
		for i := range uint32(100) {
			l.Again(MakeToken(1, 0, i, 0))
		}
	})
	<-done
}

func BenchmarkLoop_AddDel(b *testing.B) {
	a, _ := pair(b)
	b.ReportAllocs()
	b.ResetTimer()
	l := start(b)
	l.Do(func() {
		for range b.N {
			if l.Add(a, 1) != nil || l.Del(a) != nil {
				b.Error("failed")
			}
		}
	})
}

// A Do from outside, which is what a swap waits for once per loop.
func BenchmarkLoop_Do(b *testing.B) {
	l := start(b)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l.Do(func() {})
	}
}

func BenchmarkLoop_PostUnderLoad(b *testing.B) {
	var stop bool
	l := start(b, func(l *Loop) {
		l.Handle(1, func(t Token, _ Events) {
			if !stop {
				l.Again(t)
			}
		})
		l.Again(MakeToken(1, 0, 0, 0))
	})
	b.ReportAllocs()
	b.ResetTimer()
	f := func() {}
	for i := range b.N {
		l.Post(f)
		if i&1023 == 0 {
			l.Do(f)
		}
	}
	l.Do(func() { stop = true })
	runtime.KeepAlive(l)
}

// What spin bets: a yield and a look that finds nothing.
func BenchmarkSpin_FruitlessLook(b *testing.B) {
	l, err := New(0)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Stop()
	l.poller.poll()
	for b.Loop() {
		yield()
		l.poller.poll()
	}
}

// And the least it can win: a wait that has something at once, as the scheduler is told of it. What the
// sleep and the wake of a thread cost comes on top.
func BenchmarkSpin_WaitWithoutSleep(b *testing.B) {
	l, err := New(0)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Stop()
	l.poller.poll()
	for b.Loop() {
		l.poller.wait(0)
	}
}
