package runbook

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/config"
)

func none(string) (string, bool) { return "", false }

func mustParse(t *testing.T, text string) *Book {
	t.Helper()
	b, err := Parse("book.yaml", []byte(text), nil, none)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse_FillsInVariablesFromSetThenDefaultThenEnvironment(t *testing.T) {
	text := "variables: {A: one, B: two, C: }\nsteps: [{exec: [echo, \"${A}\", \"${B}\", \"${C}\", \"$${HOME}\"]}]"
	b, err := Parse("book.yaml", []byte(text), map[string]string{"B": "given"}, func(name string) (string, bool) { return "env of " + name, true })
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.Steps[0].Command, "|"); got != "echo|one|given|env of C|${HOME}" {
		t.Error(got)
	}
}

func TestRecord_GoesOnWithTheFirstStepThatIsNotDoneAlsoAfterATornLine(t *testing.T) {
	b := mustParse(t, "steps: [{exec: a}, {swap: web}, {exec: c}]")
	path := filepath.Join(t.TempDir(), "run")
	r, err := OpenRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRecord(path); !errors.Is(err, ErrRunning) {
		t.Error("a second run of the same file:", err)
	}
	err = errors.Join(r.Begin(b, nil, &api.Status{}), r.add(entry{Step: 1, Event: "begin"}), r.add(entry{Step: 1, Event: "done"}), r.add(entry{Step: 2, Event: "begin", Text: "swap web"}), r.Close())
	if err != nil {
		t.Fatal(err)
	}
	torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = torn.WriteString(`{"event":"done","st`)
	if err := errors.Join(err, torn.Close()); err != nil {
		t.Fatal(err)
	}
	again, err := OpenRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	u := again.Unfinished(b)
	if u == nil || u.Done != 1 || !u.Inside || u.Text != "swap web" || !u.Same || !b.Repeatable(u.Done) || b.Repeatable(0) {
		t.Errorf("%+v", u)
	}
	if other := mustParse(t, "steps: [{exec: b}]"); again.Unfinished(other).Same {
		t.Error("another text counts as the same")
	}
	if err := errors.Join(again.add(entry{Event: "end", Text: "done"}), again.Close()); err != nil {
		t.Fatal(err)
	}
	ended, err := OpenRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close() //nolint:errcheck // only read
	if u := ended.Unfinished(b); u != nil {
		t.Errorf("it has ended: %+v", u)
	}
}

func TestNotify_ShowsNothingOfAWebhookButItsHost(t *testing.T) {
	var body []byte
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body = make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		if r.URL.Path != "/secret-token" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	b := mustParse(t, "title: Move\nsteps: [{notify: {webhook: \""+hook.URL+"/secret-token\", text: moved}}]")
	var said strings.Builder
	r := &run{book: b, opt: Options{Note: func(format string, args ...any) { said.WriteString(strings.TrimSpace(format)) }}}
	if words := r.notify(context.Background(), &b.Steps[0]); words != "" || !strings.Contains(string(body), `"text":"moved"`) {
		t.Errorf("%q, sent %s", words, body)
	}
	hook.Close()
	err := post(context.Background(), hook.URL+"/secret-token", nil)
	if words := r.notify(context.Background(), &b.Steps[0]); words != "not delivered" {
		t.Error("a webhook that is down:", words)
	}
	if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(b.Steps[0].Words(), "secret") {
		t.Error(err, b.Steps[0].Words())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"title: T\nvariables: {A: b, C: }\ntimeout: 5m\nsteps:\n  - swap: {target: a, to: \"${A}\", drain: 3s}\n    name: n\n  - exec: [a, b]\non_failure: [{back: a}]",
		"steps: [{split: {service: a, pool: b, percent: 5%}}, {weight: {place: a/b/c, weight: 3}}, {wait: 3s}, {confirm: x}]",
		"steps: {}", "steps: [1, [], {}]", "steps: [{keep: {service: a, servers: []}}]", "variables: [1]\nsteps: [{exec: '${'}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Parse("book.yaml", text, nil, none)
		var mistakes config.Errors
		switch {
		case err == nil && len(b.Steps) == 0:
			t.Error("no steps and no mistake")
		case err != nil && !errors.As(err, &mistakes):
			t.Errorf("not mistakes: %v", err)
		}
		if err == nil {
			for i := range b.Steps {
				_ = b.Steps[i].Words()
			}
		}
	})
}
