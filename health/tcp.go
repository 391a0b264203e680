package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
)

type tcpProbe struct {
	TCP
	tls    *tls.Config
	listen bool // something must be answered
	parse  bool
}

func newTCP(o *TCP, c *Check) (prober, error) {
	t, err := o.TLS.config("tcp")
	speaks := strings.Contains(c.spec.Expect+c.spec.Value, "text") || strings.Contains(c.spec.Expect+c.spec.Value, "body")
	return &tcpProbe{TCP: *o, tls: t, listen: o.Send != "" || o.Receive != "" || speaks, parse: speaks}, err
}

func (p *tcpProbe) ask(ctx context.Context, t Target) (result, error) {
	c, err := dial(ctx, t.Address, p.tls)
	if err != nil {
		return result{}, err
	}
	defer c.Close() //nolint:errcheck // all was said
	r := result{good: true, vars: tcpVars{Server: server(t)}}
	if p.Send != "" {
		if _, err := io.WriteString(c, p.Send); err != nil {
			return r, readWords(err)
		}
	}
	if !p.listen {
		return r, nil
	}
	r.text, err = p.read(c)
	if p.parse {
		body, _ := parseJSON([]byte(r.text))
		r.vars = tcpVars{Text: r.text, Body: body, Server: server(t)}
	}
	return r, err
}

// read reads until what must come has come; without such a thing, a line.
func (p *tcpProbe) read(c *line) (string, error) {
	var all []byte
	until := p.Receive
	if until == "" && p.parse {
		until = "\n"
	}
	for buf := make([]byte, 4<<10); ; {
		n, err := c.Read(buf)
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
