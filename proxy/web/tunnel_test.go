package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// asker is a client in a tunnel whose server answers each line in the parts that the test gives it, of which "end\n" is the last.
type asker struct {
	*conn
	blue  []*proxy.Server
	asked chan string // lines at the server; "" at a tunnel's end
	more  chan string
}

func openTunnel(t *testing.T) (*door, *asker) {
	t.Helper()
	a := &asker{asked: make(chan string, 10), more: make(chan string)}
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		defer func() { a.asked <- "" }()
		if _, err := head(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			a.asked <- line
			for part := range a.more {
				_, _ = io.WriteString(c, part)
				if part == "end\n" {
					break
				}
			}
		}
	})
	d := openDoor(t, pools([]string{"blue", server}, []string{"green", says(t, "green")}))
	a.blue = d.Current().Service("svc").Pool("blue").Servers()
	a.conn = d.dial()
	a.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
	if h, err := head(a.r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101 ") {
		t.Fatal(h, err)
	}
	return d, a
}

// part has the server say a part of its answer, and reads it.
func (a *asker) part(text string) {
	a.t.Helper()
	a.more <- text
	got := make([]byte, len(text))
	if _, err := io.ReadFull(a.r, got); err != nil || string(got) != text {
		a.t.Fatalf("got %q, %v, want %q", got, err, text)
	}
}

// A server that pauses in the middle of an answer is not cut there, however often loops look, and its client is told the end
// only when it asks again: by an end of stream, with nothing of the new question carried.
func TestCut_APauseInATunnelsAnswerIsNotItsEnd(t *testing.T) {
	d, a := openTunnel(t)
	a.send("what?\n")
	if got := <-a.asked; got != "what?\n" {
		t.Fatal(got)
	}
	<-d.front.Cut(a.blue, proxy.CutAfterAnswer.All())
	for _, text := range []string{"a", "b", "end\n"} {
		a.part(text)
	}
	if n := a.blue[0].Connections(); n != 1 {
		t.Fatalf("%d connections after the answer", n)
	}
	a.send("and now?\n")
	if rest := a.tail(); rest != "" {
		t.Errorf("then came %q", rest)
	}
	if got := <-a.asked; got != "" {
		t.Errorf("the server was asked %q", got)
	}
}

// A tunnel whose question is not answered yet is not idle, however long ago the question was: the looks come again and again
// until one of another tunnel, which is, has ended it.
func TestCut_AQuestionThatWaitsForItsAnswerIsNotIdle(t *testing.T) {
	d, a := openTunnel(t)
	a.send("what?\n")
	<-a.asked
	idle := d.dial()
	idle.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
	if h, err := head(idle.r); err != nil {
		t.Fatal(h, err)
	}
	waitFor(t, "the idle one is cut", func() bool {
		<-d.front.Cut(a.blue, proxy.CutIdle.All())
		return a.blue[0].Connections() == 1
	})
	for range 10 {
		<-d.front.Cut(a.blue, proxy.CutIdle.All())
	}
	if rest := idle.tail(); rest != "" {
		t.Errorf("the idle one got %q", rest)
	}
	a.part("end\n")
	waitFor(t, "the answered one is cut", func() bool {
		<-d.front.Cut(a.blue, proxy.CutIdle.All())
		return a.blue[0].Connections() == 0
	})
	if rest := a.tail(); rest != "" {
		t.Errorf("then came %q", rest)
	}
}

// The quiet point of a swap back ends the cutting of what asks anew.
func TestCut_ASwapBackLetsTunnelsAskAnew(t *testing.T) {
	d, a := openTunnel(t)
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "green", Then: proxy.ThenKeep})
	<-d.front.Cut(a.blue, proxy.CutAfterAnswer.All())
	d.must(proxy.Change{Verb: proxy.VerbSwap, Target: "svc", To: "blue", Then: proxy.ThenKeep})
	for i := range 3 {
		line := fmt.Sprintf("%d?\n", i)
		a.send(line)
		if got := <-a.asked; got != line {
			t.Fatalf("the server was asked %q", got)
		}
		a.part("end\n")
	}
}

// The time that a server has for its answer ends with its 101: a tunnel may be silent after that. A request that comes later and
// is never answered shows that the time has passed.
func TestATunnelThatIsSilentFromItsBeginIsNotALateAnswer(t *testing.T) {
	speak := make(chan bool)
	server := toy(t, func(c *net.TCPConn, r *bufio.Reader) {
		h, err := head(r)
		if err != nil {
			return
		}
		if !strings.Contains(h, "Upgrade: lines") {
			_, _ = r.ReadByte() // to the end
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
		<-speak
		_, _ = io.WriteString(c, "at last")
	})
	spec := pools([]string{"blue", server})
	spec.Services[0].Timeouts.Response = 300 * time.Millisecond
	d := openDoor(t, spec)
	c := d.dial()
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
	if h, err := head(c.r); err != nil || !strings.HasPrefix(h, "HTTP/1.1 101 ") {
		t.Fatal(h, err)
	}
	for range 3 {
		late := d.dial()
		late.send(get)
		if status, _ := late.answer(); status != "HTTP/1.1 504 Gateway Timeout" {
			t.Fatal(status)
		}
	}
	close(speak)
	if got := c.tail(); got != "at last" {
		t.Errorf("got %q", got)
	}
}
