//go:build linux

package load

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
)

// forward is a proxy as one writes it in ten lines of Go.
type forward struct {
	ln net.Listener
	to string
}

func newForward(text []byte) (child, error) {
	var spec Forward
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	debug.SetGCPercent(100) // an ordinary Go program, unlike the other children
	runtime.GOMAXPROCS(runtime.NumCPU())
	ln, err := net.Listen("tcp", spec.Listen)
	if err != nil {
		return nil, err
	}
	f := &forward{ln, spec.To}
	go f.run() // ends with the process
	return f, nil
}

func (f *forward) obey(command string) (any, error) {
	return nil, errors.New("BUG: forward: unknown command " + command)
}

func (f *forward) run() {
	for {
		c, err := f.ln.Accept()
		if err != nil {
			return
		}
		go f.relay(c.(*net.TCPConn)) // ends with the connection
	}
}

func (f *forward) relay(client *net.TCPConn) {
	defer client.Close()
	conn, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{})
	go func() { // ends with its direction
		defer close(done)
		copyHalf(server, client)
	}()
	copyHalf(client, server)
	<-done
}

func copyHalf(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		from.Close() // a reset: let the other direction know
	}
	_ = to.CloseWrite()
}
