package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// chats is a server of WebSockets that returns frames.
func chats(t testing.TB) string {
	return toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		frame := make([]byte, 8) // masked with zeros, so that it may go back but for the mask
		for {
			if _, err := io.ReadFull(r, frame); err != nil {
				return
			}
			_, _ = c.Write([]byte{frame[0], frame[1] & 0x7f, frame[6], frame[7]})
		}
	})
}

// chat opens n WebSockets; told has the number of each that is told 1012.
func (d *door) chat(n int) (conns []*conn, told chan int, back chan int) {
	told, back = make(chan int, n), make(chan int, n)
	for i := range n {
		c := d.dial()
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if status, _ := c.answer(); status != "HTTP/1.1 101 Switching Protocols" {
			d.t.Fatal(status)
		}
		conns = append(conns, c)
		go func() { // ends with the connection
			frame := make([]byte, 4)
			for {
				if _, err := io.ReadFull(c.r, frame); err != nil {
					return
				}
				switch fmt.Sprintf("%x", frame) {
				case "880203f4":
					told <- i
					return
				case "81026869":
					back <- i
				}
			}
		}()
	}
	return conns, told, back
}

func TestCloseOver_OnlyThoseWhoseTimeHasComeAreTold(t *testing.T) {
	const n = 40
	d := openDoor(t, pools([]string{"blue", chats(t)}, []string{"green", chats(t)}))
	conns, told, back := d.chat(n)
	d.front.Cut(d.Current().Service("svc").Pool("blue").Servers(), proxy.CutsAt(200*time.Millisecond, 400*time.Millisecond)) // none's time is over yet
	d.front.Quiet(nil)                                                                                                       // each loop has carried it out
	var over int
	waitFor(t, "a quarter to be told", func() bool { return len(told) >= n/4 })
	for len(told) > 0 {
		_ = conns[<-told].Close()
		over++
	}
	for _, c := range conns {
		_, _ = c.Write([]byte("\x81\x82\x00\x00\x00\x00hi")) // those who were told are closed
	}
	waitFor(t, "each to be told or to go on", func() bool { return over+len(told)+len(back) == n })
	if over += len(told); over > 3*n/4 {
		t.Errorf("%d of %d were told half way", over, n)
	}
}

func TestCloseOver_InTheEndAllAreTold(t *testing.T) {
	const n = 40
	spec := pools([]string{"blue", chats(t)}, []string{"green", chats(t)})
	spec.Services[0].Drain = proxy.DrainSpec{Timeout: time.Millisecond, Then: proxy.ThenClose, CloseOver: 200 * time.Millisecond}
	d := openDoor(t, spec)
	conns, told, _ := d.chat(n)
	begun := time.Now()
	d.swap("green")
	for range n {
		waitFor(t, "the next to be told", func() bool { return len(told) > 0 })
		_ = conns[<-told].Close()
	}
	if took := time.Since(begun); took < 150*time.Millisecond {
		t.Errorf("the last was told after %v already", took)
	}
	waitFor(t, "the drain to end", func() bool { return len(d.Drains()) == 0 })
	if n := d.Current().Service("svc").Pool("blue").Servers()[0].Counts(); n.Cut != 40 || n.Connections != 0 {
		t.Errorf("counted %+v", n)
	}
}
