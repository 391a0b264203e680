package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

func TestUI_ALiveLineIsTakenAwayBeforeAnythingElseIsWritten(t *testing.T) {
	var screen bytes.Buffer
	u := &ui{out: &screen, err: &screen, live: true}
	u.progress("web/blue: %d connections left", 2)
	u.progress("web/blue: %d connection left", 1)
	u.notef("drain: web/blue drained")
	u.printf("done")
	const want = "\r\x1b[Kweb/blue: 2 connections left" + "\r\x1b[Kweb/blue: 1 connection left" +
		"\r\x1b[K" + "turnout: drain: web/blue drained\n" + "done\n"
	if screen.String() != want {
		t.Errorf("got  %q\nwant %q", screen.String(), want)
	}
}

func TestUI_WithoutATerminalThereIsNoLiveLineAndNoColour(t *testing.T) {
	var out, err bytes.Buffer
	u := newUI(&out, &err)
	u.progress("web/blue: 2 connections left")
	u.table([]string{"POOL", "STATE"}, [][]cell{{text("blue"), stateCell("active")}})
	if err.Len() > 0 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("stdout %q, stderr %q", out.String(), err.String())
	}
}

func TestUI_ColourObeysNO_COLOR(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if !mayColour() {
		t.Error("an empty NO_COLOR took the colour away")
	}
	t.Setenv("NO_COLOR", "1")
	if mayColour() {
		t.Error("NO_COLOR is set, and there is colour")
	}
}

func TestTable_ColumnsAreAlignedWhateverTheColour(t *testing.T) {
	rows := [][]cell{{text("é"), stateCell("serving"), number(7)}, {text("long-name"), stateCell("held"), number(12)}}
	var plainOut, coloured bytes.Buffer
	(&ui{out: &plainOut}).table([]string{"A", "STATE", "N"}, rows)
	(&ui{out: &coloured, colour: true}).table([]string{"A", "STATE", "N"}, rows)
	const want = "A          STATE    N\né          serving  7\nlong-name  held     12\n"
	if plainOut.String() != want {
		t.Errorf("got\n%swant\n%s", plainOut.String(), want)
	}
	stripped := coloured.String()
	for _, code := range []string{"\x1b[0m", "\x1b[2m", "\x1b[32m", "\x1b[33m"} {
		stripped = strings.ReplaceAll(stripped, code, "")
	}
	if stripped != want || stripped == coloured.String() {
		t.Errorf("with colour: %q", coloured.String())
	}
}

func TestRefusal_SaysWhatWhatHoldsAndWhatNext(t *testing.T) {
	var err bytes.Buffer
	u := &ui{err: &err}
	u.refusal(&api.Error{Message: "web not swapped to green", Holds: "still serving blue", Hint: "start a server", Details: []string{"turnout.yaml:1:2: what"}})
	const want = "turnout: turnout.yaml:1:2: what\nturnout: web not swapped to green\nturnout: still serving blue\nturnout: hint: start a server\n"
	if err.String() != want {
		t.Errorf("got\n%swant\n%s", err.String(), want)
	}
}

func TestWords(t *testing.T) {
	soon := time.Now().Add(1500 * time.Millisecond)
	for _, c := range []struct{ got, want string }{
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(48210), "48,210"}, {thousands(1234567), "1,234,567"},
		{plural(1, "connection"), "1 connection"}, {plural(0, "connection"), "0 connections"},
		{ago(-time.Second), "0s"}, {ago(59 * time.Second), "59s"}, {ago(61 * time.Second), "1m01s"}, {ago(90 * time.Minute), "1h30m"}, {ago(49 * time.Hour), "2d01h"},
		{left(&soon), "2s"}, {left(nil), ""},
		{unmet(&api.Status{Stopping: &api.Stopping{}}, "ready"), "the door is stopping"}, {unmet(&api.Status{Stopping: &api.Stopping{}}, "drained"), ""},
		{quote("web"), "web"}, {quote(""), "''"}, {quote("two words"), "'two words'"}, {quote("it's"), `'it'\''s'`},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestParsePlace_SplitsAtTheFirstTwoSlashesOnly(t *testing.T) {
	for in, want := range map[string]place{
		"api/blue":                    {"api", "blue", ""},
		"api/blue/10.0.0.7:8080":      {"api", "blue", "10.0.0.7:8080"},
		"api/blue/unix:/run/app.sock": {"api", "blue", "unix:/run/app.sock"},
	} {
		got, ok := parsePlace(in)
		if !ok || got != want || got.String() != in {
			t.Errorf("%s: got %+v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "api", "/blue", "api/", "api//b", "api/blue/"} {
		if got, ok := parsePlace(in); ok {
			t.Errorf("%q: got %+v", in, got)
		}
	}
}
