package health

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
)

// httpProbe writes one request and reads one response. It has no http.Transport: that costs two goroutines and
// three times the CPU for a connection used once.
type httpProbe struct {
	HTTP
	url    *url.URL
	header http.Header
	uses   func() uses
}

func newHTTP(o *HTTP, c *Check) (prober, error) {
	p := &httpProbe{HTTP: *o, header: http.Header{}, uses: func() uses { return c.uses }}
	if p.Path == "" {
		p.Path = "/"
	}
	if p.Method == "" {
		p.Method = http.MethodGet
		if p.Body != "" {
			p.Method = http.MethodPost
		}
	}
	var err error
	if p.url, err = url.ParseRequestURI(p.Path); err != nil || !strings.HasPrefix(p.Path, "/") {
		return p, &SpecError{Key: "http.path", Text: fmt.Sprintf("%q: want a path that begins with /", p.Path)}
	}
	if !isToken(p.Method) { // a method is a token, as a field name is
		return p, &SpecError{Key: "http.method", Text: fmt.Sprintf("%q is no method", p.Method)}
	}
	if p.Host != "" && strings.ContainsAny(p.Host, " /@\r\n\t\x00") {
		return p, &SpecError{Key: "http.host", Text: fmt.Sprintf("%q is no host", p.Host)}
	}
	for name, value := range p.Headers {
		if !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			return p, &SpecError{Key: "http.headers", Text: fmt.Sprintf("%q cannot be sent", name)}
		}
		p.header.Set(name, value)
		if secretHeader(name) {
			c.hide.add(credentials(value)...)
		}
	}
	if p.header.Get("User-Agent") == "" {
		p.header.Set("User-Agent", "turnout")
	}
	if p.header.Get("Content-Type") == "" && strings.ContainsAny(p.Body[:min(1, len(p.Body))], "{[") {
		p.header.Set("Content-Type", "application/json")
	}
	return p, c.speaks(o.TLS, "http")
}

func secretHeader(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"auth", "cookie", "token", "key", "secret", "password"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// credentials are the parts of a header that a server may repeat: the whole, the token, the password.
func credentials(value string) []string {
	all := []string{value}
	scheme, token, found := strings.Cut(value, " ")
	if !found {
		return all
	}
	all = append(all, token)
	if plain, err := base64.StdEncoding.DecodeString(token); err == nil && strings.EqualFold(scheme, "basic") {
		_, password, _ := strings.Cut(string(plain), ":")
		all = append(all, string(plain), password)
	}
	return all
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

func (p *httpProbe) ask(ctx context.Context, t Target) (result, error) {
	if !t.H2 {
		return askPlainly(ctx, p, t)
	}
	c, err := dial(ctx, t)
	if err != nil {
		return result{}, err
	}
	defer c.Close() //nolint:errcheck // all was said
	a, err := overH2(ctx, c, t, p.request(t, true))
	switch refused := alert(err); {
	case refused != nil:
		return result{}, refused
	case err != nil:
		return result{}, errors.New("the server does not speak HTTP/2")
	}
	defer a.Body.Close() //nolint:errcheck // the line is cut
	return p.result(a, t)
}

func (p *httpProbe) listens() bool { return true }

// repeats: RFC 9110 9.2.2 lets a client send again what is known to be idempotent, whatever the method. What is asked again and
// again to learn something has to be.
func (p *httpProbe) repeats() bool { return true }

func (p *httpProbe) question(t Target, again bool) []byte {
	var b bytes.Buffer
	if err := p.request(t, again).Write(&b); err != nil {
		panic("health: BUG: " + err.Error()) // nothing of it comes from outside, and newHTTP has looked at it
	}
	return b.Bytes()
}

func (p *httpProbe) read(from io.Reader, t Target) (result, error) {
	in := readers.Get().(*bufio.Reader)
	in.Reset(from)
	defer func() { in.Reset(nil); readers.Put(in) }()
	a, err := response(in, p.request(t, false))
	if err != nil {
		return result{}, err
	}
	r, err := p.result(a, t)
	r.kept = err == nil && !a.Close && a.StatusCode >= 200 && in.Buffered() == 0
	return r, err
}

func (p *httpProbe) request(t Target, again bool) *http.Request {
	host := p.Host
	if host == "" {
		host = hostOf(t)
	}
	q := &http.Request{Method: p.Method, URL: p.url, Host: host, Header: p.header, Close: !again, ProtoMajor: 1, ProtoMinor: 1}
	if p.Body != "" {
		q.Body, q.ContentLength = io.NopCloser(strings.NewReader(p.Body)), int64(len(p.Body))
	}
	return q
}

// response skips interim responses, of which a sane server sends few.
func response(in *bufio.Reader, q *http.Request) (*http.Response, error) {
	for range 5 {
		a, err := http.ReadResponse(in, q)
		var syntax textproto.ProtocolError
		switch {
		case errors.As(err, &syntax) || err != nil && strings.HasPrefix(err.Error(), "malformed"):
			return nil, errors.New("the answer is not HTTP")
		case err != nil:
			return nil, readWords(err)
		case a.StatusCode >= 200 || a.StatusCode == http.StatusSwitchingProtocols:
			return a, nil
		}
	}
	return nil, errors.New("the answer is only interim responses")
}

func (p *httpProbe) result(a *http.Response, t Target) (result, error) {
	r := result{status: strings.TrimSpace(fmt.Sprintf("%d %s", a.StatusCode, http.StatusText(a.StatusCode)))}
	r.good, r.why = a.StatusCode/100 == 2, r.status
	text, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer+1))
	r.text = string(text)
	if len(text) > maxAnswer {
		err = errTooLarge
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.status, bodyWords(err))
	}
	v := httpVars{Status: a.StatusCode, Text: r.text, Server: about(t)}
	if p.uses()&usesHeaders != 0 {
		v.Headers = flat(a.Header)
	}
	if p.uses()&usesBody != 0 {
		var ok bool
		v.Body, ok = parseJSON(text)
		r.badJSON = !ok
	}
	r.vars = v
	return r, nil
}

func bodyWords(err error) error {
	if errors.Is(err, errTooLarge) {
		return errTooLarge
	}
	return errors.New("the answer ends too early")
}

func flat(h http.Header) map[string]string {
	m := make(map[string]string, 2*len(h))
	for name, values := range h {
		m[name] = strings.Join(values, ", ")
		m[strings.ToLower(name)] = m[name]
	}
	return m
}

// isToken: RFC 9110 5.6.2.
func isToken(s string) bool {
	for _, r := range s {
		if !strings.ContainsRune("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", r) {
			return false
		}
	}
	return s != ""
}
