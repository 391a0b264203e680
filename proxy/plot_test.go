package proxy_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

var update = flag.Bool("update", false, "write what is printed into proxy/testdata; read the difference before you commit it")

// TestPlots plays proxy/testdata/*.txt: blocks of commands, ----, and what is printed: the answers, what operations
// under way did since, and the world after the block. Time is false: it passes by `advance` only.
//
//	door                      a new door; the lines that follow declare it, indented:
//	  web exclusive drain=30s then=close hold=30s,2 balance=source_hash listen=:80,:81   a service; all but its name optional
//	    blue b1 b2:5 b3/max=1     a pool with servers; b2 has weight 5; the first pool is active
//	  group all web api
//	reload                    the same, of what the file says now; --force
//	connect c1 web            a client comes; c1..c5: five of them; it stays until `close c1`
//	busy c1 / answer c1       it is in the middle of an answer / the answer ends
//	stuck c1                  not even a cut ends it
//	server web/blue/b1 down   refuses dials and probes; slow: dials stay under way until `dialed c1 [fails]`; deaf: and probes hang; up
//	swap web green --drain=10s …     and every other verb, with the flags of the CLI
//	split web green=5% --for=1m
//	maintenance on web --at=1m --for=30s   announced; maintenance cancel web
//	swap web green &          not waited for; its answer is printed by `join`
//	continue stop_old [why it failed]   answers the hook that the latest operation waits for
//	abort [why]               takes the latest operation back
//	advance 30s               time passes
//	breach web why            what watches web finds a breach
//	watched web               what watches web has found nothing, and ends
//	status site               where the back of a group leads, as `turnout status` has it
//	journal fail|ok           the disk is full / has room
//	kill swap web green       the door dies when the record is written and before it is answered
//	restart                   the door dies and starts again from the journal
//	stop                      the door stops taking changes
//	listen :80 taken|free     another process has the address
//	history                   what the journal has
//
// After each block a door is made from the journal alone: it must have the same world (P5).
func TestPlots(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no plots:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				proxy.Anchor()
				play(t, file)
			})
		})
	}
}

func play(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, begun: time.Now(), clients: map[string]*client{}}
	var out bytes.Buffer
	lines := strings.Split(string(b), "\n")
	for i := 0; i < len(lines); {
		if line := lines[i]; line == "" || strings.HasPrefix(line, "#") {
			if i < len(lines)-1 || line != "" {
				fmt.Fprintln(&out, line)
			}
			i++
			continue
		}
		var block []string
		for ; i < len(lines) && lines[i] != "----"; i++ {
			block = append(block, lines[i])
		}
		first := i + 1
		for i++; i < len(lines) && lines[i] != ""; i++ {
		}
		got := s.play(block)
		fmt.Fprintf(&out, "%s\n----\n%s", strings.Join(block, "\n"), got)
		if want := strings.Join(lines[min(first, len(lines)):min(i, len(lines))], "\n") + "\n"; !*update && got != want {
			t.Errorf("%s:%d: after\n%s\ngot:\n%swant:\n%s", file, first, strings.Join(block, "\n"), got, want)
		}
	}
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
}

// stage is a door, its clients, and what was said of its operations so far.
type stage struct {
	t       *testing.T
	begun   time.Time
	spec    *proxy.Spec
	sw      *proxy.Switch
	plane   *plane
	journal *journal
	clients map[string]*client
	ops     []*told
	joins   []chan string
	out     strings.Builder
}

type told struct {
	op    *proxy.Operation
	steps int
	ended bool
}

func (s *stage) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// play carries out a block and returns what is printed.
func (s *stage) play(block []string) string {
	s.out.Reset()
	for i := 0; i < len(block); {
		words := strings.Fields(block[i])
		var body []string
		for i++; i < len(block) && strings.HasPrefix(block[i], " "); i++ {
			body = append(body, block[i])
		}
		s.command(words, body)
		synctest.Wait()
	}
	s.progress()
	s.world()
	s.check()
	return s.out.String()
}

func (s *stage) command(words, body []string) {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch words[0] {
	case "door":
		s.spec = specOf(s.t, body)
		s.journal = &journal{}
		s.start(&proxy.Memory{})
	case "restart":
		dead := s.journal
		s.journal = &journal{checkpoint: dead.checkpoint, records: slices.Clone(dead.records)}
		dead.mu.Lock()
		dead.fail = errKilled // what the dead door still does is not remembered
		dead.mu.Unlock()
		for _, t := range s.ops {
			t.op.Abort("dead")
		}
		mem, err := s.journal.replay(-1)
		if err != nil {
			s.t.Fatal(err)
		}
		if body != nil {
			s.spec = specOf(s.t, body)
		}
		s.leaveAll()
		s.start(mem)
	case "stop":
		s.sw.Stop("by signal")
	case "connect":
		for _, name := range names(arg(1)) {
			s.plane.mu.Lock()
			c := s.plane.arrive(name, arg(2), len(s.clients)%len(s.plane.claims))
			c.key = proxy.HashBytes([]byte(name))
			s.clients[name] = c
			if c.state == arriving {
				s.plane.claim(c)
			}
			s.plane.mu.Unlock()
		}
	case "close", "busy", "answer", "dialed", "stuck":
		for _, name := range names(arg(1)) {
			c := s.clients[name]
			s.plane.mu.Lock()
			switch {
			case c == nil || c.state == gone:
				s.t.Fatalf("%s is not there", name)
			case words[0] == "close":
				s.plane.leave(c, "left", false)
			case words[0] == "busy":
				c.busy = true
			case words[0] == "answer":
				s.plane.answer(c)
			case words[0] == "stuck":
				c.stuck = true
			case words[0] == "dialed":
				s.plane.dialed(c, arg(2) != "fails")
			}
			s.plane.mu.Unlock()
		}
	case "server":
		s.plane.mu.Lock()
		s.plane.is[arg(1)] = map[string]behaviour{"up": up, "down": down, "slow": slow, "deaf": deaf}[arg(2)]
		s.plane.mu.Unlock()
	case "listen":
		s.plane.taken[arg(1)] = arg(2) == "taken"
	case "journal":
		s.journal.mu.Lock()
		s.journal.fail = nil
		if arg(1) == "fail" {
			s.journal.fail = errors.New("no space left on device")
		}
		s.journal.mu.Unlock()
	case "advance":
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(d)
	case "continue":
		if err := s.latest().Continue(arg(1), strings.Join(words[2:], " ")); err != nil {
			s.refused(err)
		}
	case "abort":
		s.latest().Abort(strings.Join(words[1:], " "))
	case "breach":
		op, err := s.sw.RollBack(context.Background(), arg(1), strings.Join(words[2:], " "))
		synctest.Wait()
		s.out.WriteString(s.answer(op, err))
	case "watched":
		svc := s.sw.Current().Service(arg(1))
		if err := s.sw.EndWatch(arg(1), svc.Watch.Since, proxy.WatchPassed, "nothing found"); err != nil {
			s.refused(err)
		}
	case "status":
		to, refused := s.sw.Current().GroupBack(arg(1))
		switch {
		case refused != nil:
			s.refused(refused)
		case to == nil:
			s.printf("no way back")
		default:
			s.printf("back of %s leads to %v", arg(1), to)
		}
	case "history":
		s.history()
	case "join":
		for _, c := range s.joins {
			s.out.WriteString(<-c)
		}
		s.joins = nil
	case "kill":
		s.journal.die = true
		s.change(words[1:], body)
		s.printf("the door is dead")
	default:
		if words[len(words)-1] == "&" {
			c := make(chan string, 1)
			s.joins = append(s.joins, c)
			ch, plan := s.parse(words[:len(words)-1], body)
			go func() {
				op, err := s.do(ch, plan)
				c <- s.answer(op, err)
			}()
			return
		}
		s.change(words, body)
	}
}

func (s *stage) start(mem *proxy.Memory) {
	s.plane = newPlane(2)
	s.sw = doorOn(s.t, s.plane, s.journal, s.spec, mem)
	s.ops = nil
}

func (s *stage) leaveAll() {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	for _, c := range slices.Clone(s.plane.clients) {
		s.plane.leave(c, "left", false)
	}
}

// close lets everything end by itself: what does not would be a deadlock of the bubble.
func (s *stage) close() {
	s.leaveAll()
	s.sw.Stop("end of the plot")
	time.Sleep(24 * time.Hour)
	synctest.Wait()
}

func (s *stage) latest() *proxy.Operation { return s.ops[len(s.ops)-1].op }

// names of c1..c5.
func names(s string) []string {
	from, to, many := strings.Cut(s, "..")
	if !many {
		return []string{s}
	}
	at := strings.LastIndexAny(from, "abcdefghijklmnopqrstuvwxyz") + 1
	a, _ := strconv.Atoi(from[at:])
	b, _ := strconv.Atoi(strings.TrimPrefix(to, from[:at]))
	var out []string
	for ; a <= b; a++ {
		out = append(out, from[:at]+strconv.Itoa(a))
	}
	return out
}

// parse makes a change of a command line.
func (s *stage) parse(words, body []string) (ch proxy.Change, plan bool) {
	ch = proxy.Change{Verb: proxy.Verb(words[0]), Who: proxy.Who{UID: 1000, Name: "ann"}}
	var args []string
	for _, w := range words[1:] {
		flag, value, _ := strings.Cut(w, "=")
		duration := func() time.Duration {
			d, err := time.ParseDuration(value)
			if err != nil {
				s.t.Fatal(err)
			}
			return d
		}
		switch flag {
		case "--drain":
			ch.Drain = duration()
		case "--hold":
			ch.Hold = duration()
		case "--watch":
			ch.Watch = duration()
		case "--for":
			ch.For = duration()
		case "--at":
			ch.At = time.Now().Add(duration())
		case "--then":
			ch.Then = proxy.Then(value)
		case "--to":
			ch.Servers = strings.Split(value, ",")
		case "--exclusive":
			ch.Exclusive = true
		case "--stop-old":
			ch.StopOld = true
		case "--start-new":
			ch.StartNew = true
		case "--force":
			ch.Force = true
		case "--soft":
			ch.Soft = true
		case "--plan":
			plan = true
		case "--reason":
			ch.Reason = value
		case "--if-revision":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			ch.IfRevision = n
		default:
			if strings.HasPrefix(w, "--") {
				s.t.Fatalf("unknown flag %s", w)
			}
			args = append(args, w)
		}
	}
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch ch.Verb {
	case proxy.VerbDrain, proxy.VerbReady, proxy.VerbWeight:
		path := strings.SplitN(arg(0), "/", 3)
		path = append(path, "", "")
		ch.Target, ch.Pool, ch.Server = path[0], path[1], path[2]
		if ch.Verb == proxy.VerbWeight {
			ch.Weight, _ = strconv.Atoi(arg(1))
		}
	case proxy.VerbKeep:
		ch.Target, ch.Servers = arg(0), args[1:]
	case proxy.VerbMaintenance:
		ch.On, ch.Cancel, ch.Target = arg(0) == "on", arg(0) == "cancel", arg(1)
	case proxy.VerbReload:
		ch.Spec = specOf(s.t, body)
	case proxy.VerbFreeze, proxy.VerbUnfreeze:
	case proxy.VerbSplit:
		ch.Target = arg(0)
		for _, a := range args[1:] {
			pool, percent, is := strings.Cut(a, "=")
			p, err := proxy.ParsePercent(percent)
			if is && err != nil {
				s.t.Fatal(err)
			}
			if is { // else it is off
				ch.Shares = append(ch.Shares, proxy.Share{Pool: pool, Percent: p})
			}
		}
	default:
		ch.Target, ch.To = arg(0), arg(1)
	}
	return ch, plan
}

func (s *stage) do(ch proxy.Change, plan bool) (*proxy.Operation, error) {
	if plan {
		return s.sw.Plan(context.Background(), ch)
	}
	op, err := s.sw.Apply(context.Background(), ch)
	if err == nil {
		s.ops = append(s.ops, &told{op: op})
		if ch.Verb == proxy.VerbReload {
			s.spec = ch.Spec
		}
	}
	return op, err
}

func (s *stage) change(words, body []string) {
	ch, plan := s.parse(words, body)
	op, err := s.do(ch, plan)
	synctest.Wait() // what comes at once has come
	s.out.WriteString(s.answer(op, err))
}

// answer is what a command is told.
func (s *stage) answer(op *proxy.Operation, err error) string {
	var out strings.Builder
	if err != nil {
		var r *proxy.Refusal
		if !errors.As(err, &r) {
			s.t.Errorf("not a refusal: %v", err)
			return err.Error() + "\n"
		}
		fmt.Fprintf(&out, "%s: %s\n", r.Code, r.Message)
		if r.Holds != "" {
			fmt.Fprintf(&out, "  %s\n", r.Holds)
		}
		if r.Hint != "" {
			fmt.Fprintf(&out, "  hint: %s\n", r.Hint)
		}
		return out.String()
	}
	synctest.Wait() // what goes on beside the answer comes to rest, so that the plot reads the same each time
	v := op.View()
	state := string(v.State)
	if !v.Changed && v.State == proxy.StateDone {
		state = "nothing to do"
	}
	fmt.Fprintf(&out, "%s: %s\n", state, strings.Join(v.Plan, "; "))
	for i := range v.Proofs {
		fmt.Fprintf(&out, "  %s\n", s.proof(&v.Proofs[i]))
	}
	return out.String()
}

func (s *stage) refused(err error) { s.out.WriteString(s.answer(nil, err)) }

func (s *stage) proof(p *proxy.Proof) string {
	if !p.FirstStartNew.IsZero() && p.LastStartOld.After(p.FirstStartNew) || p.Overlap != 0 {
		s.t.Errorf("%s: overlap %v, last start on old %v, first on new %v", p.Service, p.Overlap, p.LastStartOld, p.FirstStartNew)
	}
	text := fmt.Sprintf("proof of %s: %s -> %s, held %d, re-steered %d, remaining %d, cut %d", p.Service, p.From, p.To, p.Held, p.Resteered, p.Remaining, p.Cut)
	if p.Drained {
		text += ", drained"
	}
	if p.Superseded {
		text += ", superseded"
	}
	if p.FirstStartNew.IsZero() {
		text += ", none started on new"
	}
	return text
}

// progress prints what operations did since it was last printed.
func (s *stage) progress() {
	for _, t := range s.ops {
		s.sw.Refresh(t.op)
		v := t.op.View()
		steps := v.Steps[t.steps:]
		t.steps = len(v.Steps)
		slices.SortStableFunc(steps, func(a, b proxy.Step) int { // drains that end at one instant do so in any order
			if a.Name != "drain" || b.Name != "drain" || !a.At.Equal(b.At) {
				return 0
			}
			return strings.Compare(a.Text, b.Text)
		})
		for _, step := range steps {
			s.printf("%s %s | %s: %s", v.Verb, v.Target, step.Name, step.Text)
		}
		ended := v.State == proxy.StateDone || v.State == proxy.StateFailed
		if !ended || t.ended {
			continue
		}
		t.ended = true
		if v.Err != nil {
			s.printf("%s %s | %s", v.Verb, v.Target, strings.TrimSpace(strings.ReplaceAll(s.answer(nil, v.Err), "\n", "\n  ")))
		}
		if len(v.Steps) > 0 {
			for i := range v.Proofs {
				s.printf("%s %s | %s", v.Verb, v.Target, s.proof(&v.Proofs[i]))
			}
		}
	}
}

func (s *stage) since(t time.Time) string {
	if t.Before(s.begun) {
		s.t.Fatalf("a time before the plot: %v", t)
	}
	return "t+" + t.Sub(s.begun).String()
}

// world prints what holds.
func (s *stage) world() {
	snap := s.sw.Current()
	line := fmt.Sprintf("rev %d", snap.Revision)
	if f := snap.Frozen; f != nil {
		line += ", frozen by " + f.By
	}
	s.printf("%s", line)
	for _, svc := range snap.Services {
		s.printf("%s", s.service(svc, true))
	}
	for _, d := range s.sortedDrains() {
		s.printf("%s", d)
	}
	for _, t := range s.ops {
		if v := t.op.View(); v.Ended.IsZero() {
			state := string(v.State)
			if v.Waiting != "" {
				state += " for " + v.Waiting
			}
			s.printf("under way: %s %s %s", v.Verb, v.Target, state)
		}
	}
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	var lost []string
	for name, c := range s.clients {
		if c.state == gone && c.why != "left" {
			lost = append(lost, name+" "+c.why)
		}
		if c.state == gone {
			delete(s.clients, name)
		}
	}
	if slices.Sort(lost); len(lost) > 0 {
		s.printf("ended: %s", strings.Join(lost, ", "))
	}
}

func (s *stage) sortedDrains() []string {
	var out []string
	for _, d := range s.sw.Drains() {
		var servers []string
		for _, srv := range d.Servers {
			servers = append(servers, srv.Name)
		}
		out = append(out, fmt.Sprintf("drains: %s/%s (%s), %d left, %s at %s", d.Service, d.Pool, strings.Join(servers, " "), d.Remaining, d.Then, s.since(d.Until)))
	}
	slices.Sort(out)
	return out
}

// service is one line: its pools, the active one starred, what is unusual of their servers, and what the door
// does with new clients. counts: with connections.
func (s *stage) service(svc *proxy.Service, counts bool) string {
	var parts []string
	for _, p := range svc.Pools {
		text := p.Name
		if p == svc.Active {
			text += "*"
		}
		if counts {
			text += fmt.Sprintf(" %d", p.Connections())
		}
		for i := range p.Members {
			m := &p.Members[i]
			var odd []string
			if m.Drained {
				odd = append(odd, "drained")
			}
			if m.Weight != 1 {
				odd = append(odd, fmt.Sprintf("weight %d", m.Weight))
			}
			if counts && len(p.Members) > 1 && m.Connections() > 0 {
				odd = append(odd, strconv.Itoa(m.Connections()))
			}
			if n := m.Counts().Dialing; counts && n > 0 {
				odd = append(odd, fmt.Sprintf("%d dialing", n))
			}
			if odd != nil {
				text += fmt.Sprintf(" (%s: %s)", m.Name, strings.Join(odd, ", "))
			}
		}
		parts = append(parts, text)
	}
	if svc.Previous != "" {
		parts = append(parts, "was "+svc.Previous)
	}
	if svc.PreviousServers != nil {
		parts = append(parts, "was "+svc.Active.Name+"/"+strings.Join(svc.PreviousServers, ","))
	}
	if sp := svc.Split; sp != nil {
		text := "split"
		for _, sh := range sp.Shares {
			text += " " + sh.Pool + "=" + sh.Percent.String()
		}
		if !sp.Until.IsZero() {
			text += " until " + s.since(sp.Until)
		}
		parts = append(parts, text)
	}
	if w := svc.Watch; w != nil {
		parts = append(parts, "watched until "+s.since(w.Until))
	} else if w := svc.Watched; w != nil && w.Left != "" {
		parts = append(parts, "rolled back from "+w.Left)
	}
	if h := svc.Hold; h != nil {
		parts = append(parts, "held until "+s.since(h.Until))
	}
	if counts && svc.Held() > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", svc.Held()))
	}
	if m := svc.Maintenance; m != nil {
		text := "maintenance"
		if m.Soft {
			text = "soft maintenance"
		}
		if !m.Until.IsZero() {
			text += " until " + s.since(m.Until)
		}
		parts = append(parts, text)
	}
	if a := svc.Announced; a != nil {
		text := "maintenance from " + s.since(a.From)
		if a.Soft {
			text = "soft " + text
		}
		if !a.Until.IsZero() {
			text += " until " + s.since(a.Until)
		}
		parts = append(parts, text)
	}
	return svc.Spec.Name + ": " + strings.Join(parts, " | ")
}

// history prints the changes in the journal, each with its outcome.
func (s *stage) history() {
	records := s.journal.history()
	outcomes := map[uint64]string{}
	seq := uint64(0)
	for i := range records {
		r := &records[i]
		if r.Seq != seq+1 || r.Of >= r.Seq {
			s.t.Errorf("record %d (of %d) follows %d", r.Seq, r.Of, seq)
		}
		seq = r.Seq
		if r.Of == 0 {
			continue
		}
		if was, twice := outcomes[r.Of]; twice {
			s.t.Errorf("record %d has the outcomes %s and %s", r.Of, was, r.Outcome)
		}
		outcomes[r.Of] = string(r.Outcome)
		if r.Detail != "" {
			outcomes[r.Of] += ": " + r.Detail
		}
	}
	for i := range records {
		r := &records[i]
		if r.Of != 0 {
			continue
		}
		text := strings.TrimSpace(fmt.Sprintf("%s %s", r.Verb, r.Target))
		if r.From != "" || r.To != "" {
			text += fmt.Sprintf(" %s -> %s", r.From, r.To)
		}
		if text += " by " + r.Who.Name; r.Reason != "" {
			text += " because " + r.Reason
		}
		if r.Detail != "" {
			text += " (" + r.Detail + ")"
		}
		s.printf("rev %d %s; %s", r.Revision, text, cmp.Or(outcomes[r.Seq], string(r.Outcome), "no outcome yet"))
	}
}

// check looks at what must always be so.
func (s *stage) check() {
	s.t.Helper()
	s.plane.mu.Lock()
	wrong := s.plane.miscounted()
	if s.plane.opened != 0 {
		wrong = "listeners were prepared and neither committed nor aborted"
	}
	s.plane.mu.Unlock()
	if wrong != "" {
		s.t.Error(wrong)
	}
	if s.journal.fail != nil {
		return
	}
	mem, err := s.journal.replay(-1)
	if err != nil {
		s.t.Fatal(err)
	}
	if wrong := remembered(s.sw.Current(), mem); wrong != "" {
		s.t.Error("P5:", wrong)
		return
	}
	again := proxy.New(s.spec, mem, proxy.Options{Loops: 2}).Current()
	for _, snap := range []*proxy.Snapshot{s.sw.Current(), again} {
		if announced := slices.ContainsFunc(snap.Services, func(svc *proxy.Service) bool { return svc.Announced != nil }); snap.Announces != announced {
			s.t.Errorf("the snapshot says that something is announced: %v", snap.Announces)
		}
	}
	for i, svc := range s.sw.Current().Services {
		if a := svc.Announced; a != nil && !a.From.After(time.Now()) {
			continue // as below
		}
		if h, m, sp := svc.Hold, svc.Maintenance, svc.Split; h != nil && !h.Until.After(time.Now()) || m != nil && !m.Until.IsZero() && !m.Until.After(time.Now()) || sp != nil && !sp.Until.IsZero() && !sp.Until.After(time.Now()) {
			continue // due, and put off by a swap under way: a restart ends it at once
		}
		if a, b := s.service(svc, false), s.service(again.Services[i], false); a != b {
			s.t.Errorf("P5: after a restart\n%s\nwould be\n%s", a, b)
		}
	}
}

// specOf reads the indented lines of `door` and `reload`.
func specOf(t *testing.T, body []string) *proxy.Spec {
	spec := &proxy.Spec{Groups: map[string][]string{}}
	for _, line := range body {
		words := strings.Fields(line)
		pool := strings.HasPrefix(line, "    ")
		switch {
		case !pool && words[0] == "group":
			spec.Groups[words[1]] = words[2:]
		case !pool:
			spec.Services = append(spec.Services, serviceOf(t, words, len(spec.Services)))
		default:
			svc := &spec.Services[len(spec.Services)-1]
			p := proxy.PoolSpec{Name: words[0]}
			for _, w := range words[1:] {
				w, limit, _ := strings.Cut(w, "/max=")
				w, address, moved := strings.Cut(w, "@")
				name, weight, _ := strings.Cut(w, ":")
				srv := proxy.ServerSpec{Name: name, Address: svc.Name + "/" + p.Name + "/" + name, Weight: 1}
				if moved {
					srv.Address = address
				}
				if weight != "" {
					srv.Weight, _ = strconv.Atoi(weight)
				}
				srv.MaxConnections, _ = strconv.Atoi(limit)
				p.Servers = append(p.Servers, srv)
			}
			svc.Pools = append(svc.Pools, p)
			if svc.Active == "" {
				svc.Active = p.Name
			}
		}
	}
	return spec
}

func serviceOf(t *testing.T, words []string, n int) proxy.ServiceSpec {
	svc := proxy.ServiceSpec{Name: words[0], Mode: proxy.TCP, Listen: []proxy.ListenSpec{{Network: proxy.NetTCP, Address: ":" + words[0]}},
		Drain: proxy.DrainSpec{Timeout: 30 * time.Second, Then: proxy.ThenClose}, Hold: proxy.HoldSpec{Timeout: time.Minute, Max: 100},
		Timeouts: proxy.TimeoutSpec{Connect: 3 * time.Second}}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "exclusive":
			svc.Exclusive = true
		case "drain":
			svc.Drain.Timeout, err = time.ParseDuration(value)
		case "then":
			svc.Drain.Then = proxy.Then(value)
		case "balance":
			svc.Balance = proxy.Balance(value)
		case "hold":
			d, limit, _ := strings.Cut(value, ",")
			if svc.Hold.Timeout, err = time.ParseDuration(d); limit != "" {
				svc.Hold.Max, _ = strconv.Atoi(limit)
			}
		case "listen":
			svc.Listen = nil
			for _, a := range strings.Split(value, ",") {
				svc.Listen = append(svc.Listen, proxy.ListenSpec{Network: proxy.NetTCP, Address: a})
			}
		default:
			err = fmt.Errorf("unknown word %s", w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return svc
}
