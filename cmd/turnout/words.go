package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/turnout-proxy/turnout/admin/api"
	"github.com/turnout-proxy/turnout/admin/runbook"
)

// This file holds how the command speaks to people. Its rules: results go to stdout, everything else to stderr,
// so that a script can pipe the first and a person reads both. Each line on stderr begins with "turnout: ".
// No capitalized initials, no periods at the end. An error says what failed, what still holds and what to do
// next. Colour only where a person looks, never where NO_COLOR is set.

// ui is where words go.
type ui struct {
	out, err io.Writer

	colour   bool  // of out
	live     bool  // err is a terminal: one line may be rewritten
	liveLine bool  // a rewritten line is on the screen
	wrote    bool  // a wire type is on out
	lost     bool  // nobody reads out any more
	full     error // why a result is not on out although somebody may read it; nil: it is
}

func newUI(out, err io.Writer) *ui {
	return &ui{out: out, err: err, colour: isTerminal(out) && mayColour(), live: isTerminal(err) && os.Getenv("TERM") != "dumb"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// https://no-color.org: any value that is not empty.
func mayColour() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" }

// printf writes a result.
func (u *ui) printf(format string, args ...any) {
	u.wipe()
	_, err := fmt.Fprintf(u.out, format+"\n", args...)
	u.written(err)
}

// written notes how a result was written. A reader that went away is not our failure.
func (u *ui) written(err error) {
	if errors.Is(err, syscall.EPIPE) {
		u.lost = true
	} else if u.full == nil {
		u.full = err
	}
}

// notef writes what a person may want to know beside the result.
func (u *ui) notef(format string, args ...any) {
	u.wipe()
	_, _ = fmt.Fprintf(u.err, "turnout: "+format+"\n", args...)
}

// hint writes what to do next.
func (u *ui) hint(text string) { u.notef("hint: %s", text) }

// writeJSON writes a wire type as it is on the wire, indented.
func (u *ui) writeJSON(v any) {
	u.wipe()
	e := json.NewEncoder(u.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	u.written(e.Encode(v))
	u.wrote = true
}

// refusal writes an error the way each refusal teaches: what, what still holds, what next.
func (u *ui) refusal(e *api.Error) {
	for _, d := range e.Details {
		u.notef("%s", d)
	}
	for _, line := range strings.Split(e.Message, "\n") {
		u.notef("%s", line)
	}
	if e.Holds != "" {
		u.notef("%s", e.Holds)
	}
	if e.Hint != "" {
		u.hint(e.Hint)
	}
}

// progress rewrites the live line; without a terminal it writes nothing.
func (u *ui) progress(format string, args ...any) {
	if !u.live {
		return
	}
	_, _ = fmt.Fprintf(u.err, "\r\x1b[K"+format, args...)
	u.liveLine = true
}

// wipe takes the live line away before another line is written.
func (u *ui) wipe() {
	if u.liveLine {
		_, _ = io.WriteString(u.err, "\r\x1b[K")
		u.liveLine = false
	}
}

// paint is how a state looks.
type paint string

const (
	plain  paint = ""
	green  paint = "32"
	yellow paint = "33"
	red    paint = "31"
	faint  paint = "2"
)

// cell is one field of a table.
type cell struct {
	text  string
	paint paint
}

func text(s string) cell { return cell{text: s} }
func number(n int) cell  { return cell{text: strconv.Itoa(n)} }

// stateCell colours the states of services, pools and servers.
func stateCell(state string) cell {
	switch strings.Fields(state + " ?")[0] {
	case "serving", "active", "ready", "done":
		return cell{state, green}
	case "draining", "stopping", "waiting", "held", "split", "handover", "maintenance", "read-only", "cut", "superseded", "running", "interrupted":
		return cell{state, yellow}
	case "failed", "refused", "failing", "damaged", "no":
		return cell{state, red}
	case "standby", "drained":
		return cell{state, faint}
	}
	return cell{state, plain}
}

// table writes rows below a head, columns as wide as they need to be, two spaces apart.
func (u *ui) table(head []string, rows [][]cell) {
	widths := make([]int, len(head))
	for i, h := range head {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	line := func(row []cell) {
		var b strings.Builder
		for i, c := range row {
			shown := c.text
			if u.colour && c.paint != plain {
				shown = "\x1b[" + string(c.paint) + "m" + c.text + "\x1b[0m"
			}
			b.WriteString(shown)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		u.printf("%s", strings.TrimRight(b.String(), " "))
	}
	heads := make([]cell, len(head))
	for i, h := range head {
		heads[i] = cell{h, faint}
	}
	line(heads)
	for _, row := range rows {
		line(row)
	}
}

// plural counts in words.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// percent writes a share as 5%.
func percent(p float64) string { return strconv.FormatFloat(p, 'f', -1, 64) + "%" }

// commas joins a list into one word, or none.
func commas(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return []string{strings.Join(list, ",")}
}

// thousands writes 48210 as 48,210.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ago writes how long something has lasted, in its two largest units at most.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// left writes how long something will still last; whole seconds, rounded up.
func left(until *time.Time) string {
	if until == nil || until.IsZero() {
		return ""
	}
	d := max(time.Until(*until), 0)
	return (d + time.Second - 1).Truncate(time.Second).String()
}

// since is the age of an instant; empty when there is none.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ago(time.Since(t))
}

// instant writes a time of day with microseconds, or what stands for none.
func instant(t *time.Time, none string) string {
	if t == nil || t.IsZero() {
		return none
	}
	return t.Local().Format("15:04:05.000000")
}

// moved is the first line of a swap: "node: primary -> standby, revision 42".
func moved(p *api.Proof, revision uint64) string {
	return fmt.Sprintf("%s: %s -> %s, revision %d", p.Service, p.From, p.To, revision)
}

// stillOn ends the first line of a swap whose old side has connections.
func stillOn(p *api.Proof) string {
	if p.BySession && p.DrainUntil != nil && !p.Drained {
		return fmt.Sprintf("; sessions stay on %s for %s, %s there now", p.From, left(p.DrainUntil), plural(p.Remaining, "request"))
	}
	if p.Remaining == 0 {
		return ""
	}
	return fmt.Sprintf("; %s still on %s", plural(p.Remaining, "connection"), p.From)
}

// proof is what a swap can show, on one line.
func proof(p *api.Proof) string {
	s := fmt.Sprintf("last start on %s %s, first start on %s %s, overlap %s, held %d, re-steered %d, remaining %d, cut %d",
		p.From, instant(p.LastStartOld, "none"), p.To, instant(p.FirstStartNew, "none yet"), time.Duration(p.Overlap), p.Held, p.Resteered, p.Remaining, p.Cut)
	if p.BySession {
		s += ", drained by session"
	}
	if p.Superseded {
		s += ", drain ended by a later change"
	}
	return s
}

// quote writes a word so that a shell reads it back as that word.
func quote(s string) string { return runbook.Quote(s) }

// commandLine writes a whole command the way it can be typed.
func commandLine(args []string) string {
	words := []string{"turnout"}
	for _, a := range args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}
