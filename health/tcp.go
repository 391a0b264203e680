package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

type tcpProbe struct {
	TCP
	listen bool // something must be answered
	parse  bool
}

func newTCP(o *TCP, c *Check) (prober, error) {
	speaks := strings.Contains(c.spec.Expect+c.spec.Value, "text") || strings.Contains(c.spec.Expect+c.spec.Value, "body")
	return &tcpProbe{TCP: *o, listen: o.Send != "" || o.Receive != "" || speaks, parse: speaks}, c.speaks(o.TLS, "tcp")
}

func (p *tcpProbe) ask(ctx context.Context, t Target) (result, error) { return askPlainly(ctx, p, t) }

func (p *tcpProbe) question(Target, bool) []byte { return []byte(p.Send) }
func (p *tcpProbe) listens() bool                { return p.listen }
func (p *tcpProbe) repeats() bool                { return false }

func (p *tcpProbe) read(in io.Reader, t Target) (result, error) {
	r := result{good: true, vars: tcpVars{Server: about(t)}}
	if in == nil {
		return r, nil
	}
	var err error
	r.text, err = p.text(in)
	if p.parse {
		body, _ := parseJSON([]byte(r.text))
		r.vars = tcpVars{Text: r.text, Body: body, Server: about(t)}
	}
	return r, err
}

// text reads until what must come has come; without such a thing, a line.
func (p *tcpProbe) text(in io.Reader) (string, error) {
	var all []byte
	until := p.Receive
	if until == "" && p.parse {
		until = "\n"
	}
	for buf := make([]byte, 4<<10); ; {
		n, err := in.Read(buf)
		from := max(0, len(all)-len(until))
		all = append(all, buf[:n]...)
		switch {
		case n > 0 && strings.Contains(string(all[from:]), until):
			return string(all), nil
		case len(all) > maxAnswer:
			return string(all), errTooLarge
		case err == nil:
		case errors.Is(err, io.EOF) && len(all) > 0 && p.Receive == "":
			return string(all), nil
		case errors.Is(err, io.EOF) && len(all) > 0:
			return string(all), fmt.Errorf("the answer does not contain %q", cut(p.Receive, 60))
		default:
			return string(all), readWords(err)
		}
	}
}
