package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
)

// toy is a server of the demo: it greets with its name, then answers each line with its name and that line, and
// ends the connection after "bye".
type toy struct {
	name     string
	listener net.Listener
}

func startToy(name string) (*toy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &toy{name: name, listener: l}
	go t.accept() // ends with close
	return t, nil
}

func (t *toy) address() string { return t.listener.Addr().String() }

// close ends the listener; connections end with their clients.
func (t *toy) close() { _ = t.listener.Close() }

func (t *toy) accept() {
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			return
		}
		go t.talk(conn) // ends with the client
	}
}

func (t *toy) talk(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // nothing is lost by it
	if _, err := fmt.Fprintf(conn, "%s\n", t.name); err != nil {
		return
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if _, err := fmt.Fprintf(conn, "%s %s\n", t.name, lines.Text()); err != nil || strings.TrimSpace(lines.Text()) == "bye" {
			return
		}
	}
}
