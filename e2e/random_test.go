package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/admin/api"
)

// mask is a set of the servers of the property test, one bit each.
type mask uint8

// The servers: p and q are pool a; r, s and (when the file has it) x are pool b.
const names = "pqrsx"

func bit(server byte) mask { return 1 << strings.IndexByte(names, server) }

const extra = mask(1 << 4)

// model is what the door must be like by the changes it has acknowledged.
type model struct {
	active, previous string
	drained, weight0 mask
	hasExtra         bool
	held             bool
	maintenance      bool
	drain            time.Duration // in the file
}

func (m *model) pool(name string) mask {
	if name == "a" {
		return bit('p') | bit('q')
	}
	set := bit('r') | bit('s')
	if m.hasExtra {
		set |= extra
	}
	return set
}

// takes is who takes new work if the door lets it in; gives is none while it does not.
func (m *model) takes() mask { return m.pool(m.active) &^ m.drained &^ m.weight0 }

func (m *model) gives() mask {
	if m.held || m.maintenance {
		return 0
	}
	return m.takes()
}

// span is a stretch of time in which new work may have gone to any of the sets.
type span struct {
	from, to int64
	sets     []mask
}

// trouble is a stretch of time that excuses broken connections of some servers.
type trouble struct {
	from, to int64
	servers  mask
}

// story is the result of one client.
type story struct {
	attempt
	kind string
	bad  string // what no trouble excuses
}

// driver makes random changes, and keeps what explains each story.
type driver struct {
	*door
	rng     *rand.Rand
	address string
	sides   map[byte]*side
	model   model

	spans  []span
	deaths []trouble // an instant each
	downs  []trouble // stretches without the server
	cuts   []trouble // a drain's deadline and what it may take to end
	aways  []trouble // maintenance
	dead   map[byte]int64
	log    []string
	counts map[string]int
}

func (w *driver) file() string {
	m := &w.model
	b := strings.Builder{}
	server := func(n byte) string { return fmt.Sprintf("{name: %c, address: %q}", n, w.sides[n].addr) }
	more := ""
	if m.hasExtra {
		more = ", " + server('x')
	}
	fmt.Fprintf(&b, "services:\n  svc:\n    listen: %q\n    hold: {timeout: 30s}\n    balance: %s\n    drain: {timeout: %s}\n", w.address,
		[]string{"round_robin", "least_connections", "source_hash"}[w.rng.IntN(3)], m.drain)
	fmt.Fprintf(&b, "    pools: {a: [%s, %s], b: [%s, %s%s]}\n", server('p'), server('q'), server('r'), server('s'), more)
	return b.String()
}

// step makes one change. try returns the error of the door; then the model goes back to what it was.
func (w *driver) step(name string, change func(m *model), drain time.Duration, try func() error) {
	was := w.model
	change(&w.model)
	next := w.model
	before := w.model
	before = was
	sent := mono()
	err := try()
	answered := mono()
	if err != nil {
		w.model = was
	}
	w.counts[strings.Fields(name)[0]]++
	w.log = append(w.log, fmt.Sprintf("%d..%d %s: %s", sent, answered, name, code(err)))
	sets := []mask{before.gives(), next.gives()}
	if n := len(w.spans); n > 0 {
		w.spans = append(w.spans, span{w.spans[n-1].to, sent, []mask{before.gives()}})
	}
	w.spans = append(w.spans, span{sent, answered, sets})
	if err == nil && drain > 0 {
		sealed := before.takes() &^ next.takes()
		if next.maintenance && !before.maintenance {
			sealed = 0xff
		}
		// Idle ones go first, then each after its answer, then all: 2 s in all. Clients notice a moment later.
		w.cuts = append(w.cuts, trouble{sent + int64(drain), answered + int64(drain+slower(4*time.Second)), sealed})
	}
	if next.maintenance || before.maintenance {
		w.aways = append(w.aways, trouble{sent, answered, 0})
		if n := len(w.spans); n > 1 && before.maintenance {
			w.aways = append(w.aways, trouble{w.spans[n-2].from, answered, 0})
		}
	}
	w.compare(name, err)
}

// compare looks whether the door is as the model says, and whether a refusal was one that may be.
func (w *driver) compare(name string, err error) {
	w.t.Helper()
	var refused *api.Error
	if err != nil && (!errors.As(err, &refused) || refused.Code != api.CodeGate && !strings.Contains(refused.Message, "no way back")) {
		w.fail("%s: %v", name, err)
	}
	sv := w.service("svc")
	m := &w.model
	if sv.Active != m.active {
		w.fail("%s (%v): %s is active, want %s", name, err, sv.Active, m.active)
	}
	if (sv.HeldUntil != nil) != m.held || (sv.Maintenance != nil) != m.maintenance {
		w.fail("%s (%v): held %v, maintenance %v; want %v, %v", name, err, sv.HeldUntil, sv.Maintenance, m.held, m.maintenance)
	}
	for pool, p := range sv.Pools {
		for n := range p.Servers {
			if len(n) > 1 { // "x (removed)": its name has been given anew
				delete(p.Servers, n)
			}
		}
		if want := len(bitsOf(m.pool(pool))); want != len(p.Servers) && !hasRetired(p) {
			w.fail("%s (%v): pool %s has %d servers, want %d", name, err, pool, len(p.Servers), want)
		}
		for n, s := range p.Servers {
			set := bit(n[0])
			if (s.Weight == 0) != (m.weight0&set != 0) && m.pool(pool)&set != 0 {
				w.fail("%s (%v): server %s has weight %d", name, err, n, s.Weight)
			}
			if m.drained&set != 0 && s.State == "ready" || m.drained&set == 0 && s.State == "drained" {
				w.fail("%s (%v): server %s is %s", name, err, n, s.State)
			}
		}
	}
}

// hasRetired: a server that a reload removed is shown as long as it has connections.
func hasRetired(p api.Pool) bool {
	x, there := p.Servers["x"]
	return there && x.Weight == 0
}

func bitsOf(m mask) (out []byte) {
	for i := range names {
		if m&(1<<i) != 0 {
			out = append(out, names[i])
		}
	}
	return out
}

func (w *driver) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf(format, args...)
	w.t.Logf("the latest changes:\n%s", strings.Join(w.log[max(0, len(w.log)-15):], "\n"))
	w.t.FailNow()
}

// change makes one random change.
func (w *driver) change() {
	ctx, rng := context.Background(), w.rng
	base := api.ChangeRequest{Wait: &no}
	drain := []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, time.Minute}[rng.IntN(3)]
	server := names[rng.IntN(4)]
	if sick := bitsOf(w.model.drained | w.model.weight0); len(sick) > 0 && rng.IntN(2) == 0 {
		server = sick[0]
	}
	pool := "a"
	if bit(server)&(bit('r')|bit('s')) != 0 {
		pool = "b"
	}
	path := fmt.Sprintf("svc/%s/%c", pool, server)
	other := map[string]string{"a": "b", "b": "a"}[w.model.active]
	swapped := func(m *model) { m.active, m.previous = other, m.active }
	emptied := func(m *model) bool { return m.takes() == 0 } // such a change is refused
	switch k := rng.IntN(100); {
	case k < 25:
		w.step("swap "+other, swapped, drain, func() error {
			_, err := w.Client.Swap(ctx, "svc", api.SwapRequest{ChangeRequest: base, To: other, Drain: api.Duration(drain)})
			return err
		})
	case k < 30:
		w.step("cli-swap "+other, swapped, drain, func() error { return w.byCLI("swap", "svc", other, "--no-wait", "--drain", drain.String()) })
	case k < 35:
		w.step("back", func(m *model) {
			if m.previous != "" {
				m.active, m.previous = m.previous, m.active
			}
		}, drain, func() error {
			_, err := w.Client.Back(ctx, "svc", api.SwapRequest{ChangeRequest: base, Drain: api.Duration(drain)})
			return err
		})
	case k < 45:
		w.step("drain "+path, func(m *model) { m.drained |= bit(server) }, drain, func() error {
			if rng.IntN(4) == 0 {
				return w.byCLI("drain", path, "--no-wait", "--drain", drain.String())
			}
			_, err := w.Client.Drain(ctx, "svc", pool, string(server), api.DrainRequest{ChangeRequest: base, Drain: api.Duration(drain)})
			return err
		})
	case k < 58:
		w.step("ready "+path, func(m *model) { m.drained &^= bit(server) }, 0, func() error {
			_, err := w.Client.Ready(ctx, "svc", pool, string(server), api.ReadyRequest{ChangeRequest: base})
			return err
		})
	case k < 66:
		weight := []int{0, 1, 1, 3, 5}[rng.IntN(5)]
		w.step(fmt.Sprintf("weight %s %d", path, weight), func(m *model) {
			m.weight0 &^= bit(server)
			if weight == 0 {
				m.weight0 |= bit(server)
			}
		}, 0, func() error {
			_, err := w.Client.Weight(ctx, "svc", pool, string(server), api.WeightRequest{ChangeRequest: base, Weight: &weight})
			return err
		})
	case k < 76:
		w.reload()
	case k < 82:
		if w.model.held {
			w.step("release", func(m *model) { m.held = false }, 0, func() error { _, err := w.Client.Release(ctx, "svc", base); return err })
		} else {
			w.step("hold", func(m *model) { m.held = true }, 0, func() error { _, err := w.Client.Hold(ctx, "svc", api.HoldRequest{ChangeRequest: base}); return err })
		}
	case k < 86:
		on, soft := !w.model.maintenance, rng.IntN(2) == 0
		long := drain
		if soft || !on {
			long = 0
		}
		w.step(fmt.Sprintf("maintenance %v soft %v", on, soft), func(m *model) { m.maintenance = on }, long, func() error {
			_, err := w.Client.Maintenance(ctx, "svc", api.MaintenanceRequest{ChangeRequest: base, On: &on, Soft: soft && on, Drain: api.Duration(long)})
			return err
		})
	case len(w.dead) < 3:
		w.killOrRaise(names[rng.IntN(len(names))])
	}
	for n := range w.dead {
		if rng.IntN(8) == 0 {
			w.killOrRaise(n)
		}
	}
	if emptied(&w.model) {
		w.fail("the active pool %s has no server for new work", w.model.active)
	}
	// Nobody waits or is turned away for long, or there would be little to see.
	if w.model.maintenance && rng.IntN(2) == 0 {
		off := false
		w.step("maintenance off", func(m *model) { m.maintenance = false }, 0, func() error {
			_, err := w.Client.Maintenance(ctx, "svc", api.MaintenanceRequest{ChangeRequest: base, On: &off})
			return err
		})
	}
	if w.model.held && rng.IntN(2) == 0 {
		w.step("release", func(m *model) { m.held = false }, 0, func() error { _, err := w.Client.Release(ctx, "svc", base); return err })
	}
}

// byCLI gives the CLI's exit code as the error that it stands for.
func (w *driver) byCLI(args ...string) error {
	r := w.cli(args...)
	switch r.code {
	case 0:
		return nil
	case 4:
		return &api.Error{Code: api.CodeGate, Message: r.err}
	}
	return fmt.Errorf("turnout %s: %s", strings.Join(args, " "), r)
}

func (w *driver) reload() {
	was := w.model
	next := was
	next.hasExtra = w.rng.IntN(2) == 0
	next.drain = []time.Duration{200 * time.Millisecond, time.Minute}[w.rng.IntN(2)]
	if next.takes() == 0 {
		next.hasExtra = true // a file may do this; the door would obey
	}
	w.model = next
	text := w.file()
	w.model = was
	w.write(text)
	w.step(fmt.Sprintf("reload extra %v", next.hasExtra), func(m *model) { *m = next }, was.drain, func() error {
		if w.rng.IntN(2) == 0 {
			_, err := w.Client.Reload(context.Background(), api.ReloadRequest{ChangeRequest: api.ChangeRequest{Wait: &no}})
			return err
		}
		count := w.look().Reloads
		w.signal(syscall.SIGHUP)
		eventually(w.t, "SIGHUP is carried out", func() bool { return w.look().Reloads > count })
		return nil
	})
	if was.hasExtra && !next.hasExtra { // also when its pool was not active: what it had drains
		w.cuts = append(w.cuts, trouble{w.spans[len(w.spans)-1].from + int64(was.drain), w.spans[len(w.spans)-1].to + int64(was.drain+slower(4*time.Second)), extra})
	}
}

func (w *driver) killOrRaise(n byte) {
	if since, dead := w.dead[n]; dead {
		w.sides[n].up()
		delete(w.dead, n)
		w.downs = append(w.downs, trouble{since, mono(), bit(n)})
		w.counts["returns"]++
		w.log = append(w.log, fmt.Sprintf("%d server %c is back", mono(), n))
		return
	}
	at := mono()
	w.sides[n].down()
	w.deaths = append(w.deaths, trouble{at, mono(), bit(n)})
	w.dead[n] = at
	w.counts["deaths"]++
	w.log = append(w.log, fmt.Sprintf("%d server %c died", at, n))
}

// rest brings the world to where every client is served.
func (w *driver) rest() {
	ctx := context.Background()
	for n := range w.dead {
		w.killOrRaise(n)
	}
	if w.model.maintenance {
		off := false
		w.step("maintenance off", func(m *model) { m.maintenance = false }, 0, func() error {
			_, err := w.Client.Maintenance(ctx, "svc", api.MaintenanceRequest{On: &off})
			return err
		})
	}
	w.step("release", func(m *model) { m.held = false }, 0, func() error { _, err := w.Client.Release(ctx, "svc", api.ChangeRequest{}); return err })
	w.spans = append(w.spans, span{w.spans[len(w.spans)-1].to, 1 << 62, []mask{w.model.gives()}})
}

func touches(list []trouble, from, to int64, servers mask) bool {
	return slices.ContainsFunc(list, func(t trouble) bool { return t.from <= to && t.to >= from && (servers == 0 || t.servers&servers != 0) })
}

// unexplained says what is wrong with a story; "" when all is well or excused.
func (w *driver) unexplained(s *story) string {
	if s.bad != "" {
		return s.bad
	}
	if s.reply != 0 {
		if !slices.ContainsFunc(w.spans, func(sp span) bool {
			return sp.from <= s.reply && sp.to >= s.begin && slices.ContainsFunc(sp.sets, func(m mask) bool { return m&bit(s.side) != 0 })
		}) {
			return fmt.Sprintf("reached server %c, which took no new work at any moment of it", s.side)
		}
	}
	if s.err == nil {
		return ""
	}
	if s.reply != 0 {
		if touches(w.deaths, s.begin, s.end, bit(s.side)) || touches(w.cuts, s.begin, s.end, bit(s.side)) {
			return ""
		}
		return "broke, and its server had no trouble"
	}
	if touches(w.aways, s.begin, s.end, 0) || touches(w.deaths, s.begin, s.end, 0) || touches(w.cuts, s.begin, s.end, 0) {
		return ""
	}
	for _, sp := range w.spans {
		if sp.from > s.end || sp.to < s.begin {
			continue
		}
		for _, set := range sp.sets {
			up := set
			for _, n := range bitsOf(set) {
				if touches(w.downs, max(sp.from, s.begin), min(sp.to, s.end), bit(n)) {
					up &^= bit(n)
				}
			}
			if set != 0 && up == 0 {
				return ""
			}
		}
	}
	return "was not served, though a server was there"
}

// customer is a client with random manners, over and over.
func customer(rng *rand.Rand, address string, quit <-chan struct{}, served *atomic.Int64) (stories []story) {
	for {
		select {
		case <-quit:
			return stories
		default:
		}
		s := story{}
		switch k := rng.IntN(10); {
		case k < 3:
			s.kind, s.attempt = "once", once(address)
		case k < 5:
			s = bulk(rng, address)
		case k < 8:
			s = chat(rng, address)
		case k < 9:
			s.kind = "leaves in the middle"
			var c net.Conn
			if s.attempt, c = greet(address); c != nil {
				_, _ = c.Write(make([]byte, rng.IntN(100_000)))
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
				s.end = mono()
			}
		default:
			s.kind, s.begin = "says nothing", mono()
			c, err := net.DialTimeout("tcp", address, patience)
			if s.err = err; err == nil {
				pace(time.Duration(rng.IntN(30)) * time.Millisecond)
				_ = c.Close()
			}
			s.end = mono()
		}
		if s.end == 0 {
			s.end = mono()
		}
		// The door always takes clients. It may reset one before connect() has looked.
		if errors.Is(s.err, syscall.ECONNREFUSED) || errors.Is(s.err, os.ErrDeadlineExceeded) {
			s.bad = s.err.Error()
		}
		stories = append(stories, s)
		if s.err != nil {
			pace(5 * time.Millisecond)
		} else {
			served.Add(1)
		}
	}
}

// bulk sends much, half-closes, and must get back the same bytes and then the end.
func bulk(rng *rand.Rand, address string) (s story) {
	s.kind = "bulk"
	var c net.Conn
	if s.attempt, c = greet(address); c == nil {
		return s
	}
	defer c.Close() //nolint:errcheck // its end was seen
	sent := make([]byte, rng.IntN(400_000))
	_, _ = rand.NewChaCha8([32]byte{byte(s.id), byte(s.id >> 8)}).Read(sent)
	slow := rng.IntN(4) == 0
	wrote := make(chan error, 1)
	go func() { // ends with the connection
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+int(s.id*7919)%60_000)
			if _, err := c.Write(rest[:n]); err != nil {
				wrote <- err
				return
			}
			rest = rest[n:]
		}
		wrote <- c.(*net.TCPConn).CloseWrite()
	}()
	got, buf := []byte(nil), make([]byte, 32<<10)
	for s.err == nil {
		var n int
		n, s.err = c.Read(buf)
		got = append(got, buf[:n]...)
		if slow {
			pace(time.Millisecond)
		}
	}
	s.end = mono()
	if !bytes.HasPrefix(sent, got) {
		s.bad = fmt.Sprintf("the %d bytes that came back are not those that were sent", len(got))
	}
	if s.err == io.EOF && len(got) == len(sent) {
		s.err = <-wrote
	}
	return s
}

// chat sends small messages with pauses and waits for each answer.
func chat(rng *rand.Rand, address string) (s story) {
	s.kind = "chat"
	var c net.Conn
	if s.attempt, c = greet(address); c == nil {
		return s
	}
	defer func() { _ = c.Close(); s.end = mono() }()
	for range 1 + rng.IntN(30) {
		msg := make([]byte, 1+rng.IntN(1500))
		_, _ = rand.NewChaCha8([32]byte{byte(s.id), byte(len(msg))}).Read(msg)
		if _, s.err = c.Write(msg); s.err != nil {
			return s
		}
		back := make([]byte, len(msg))
		n := 0
		if n, s.err = io.ReadFull(c, back); !bytes.Equal(msg[:n], back[:n]) {
			s.bad = "the answer has other bytes"
		}
		if s.err != nil {
			return s
		}
		pace(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
	return s
}

// Random changes, deaths and clients; each connection that broke must have an excuse, each that began must have reached
// a server that took new work at some moment of it, and each byte must be the right one.
func TestDoor_RandomChangesKeepThePromises(t *testing.T) {
	length := 5 * time.Second
	if text := os.Getenv("TURNOUT_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("TURNOUT_SOAK=%s: %v", text, err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TURNOUT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TURNOUT_SEED=%s: %v", text, err)
		}
	}
	t.Logf("TURNOUT_SEED=%d", seed)
	w := &driver{rng: rand.New(rand.NewPCG(seed, 0)), address: freePort(t), sides: map[byte]*side{}, dead: map[byte]int64{}, counts: map[string]int{},
		model: model{active: "a", drain: time.Minute}}
	for i := range names {
		w.sides[names[i]] = startSide(t, names[i])
	}
	w.door = newDoor(t, w.file()).start()
	started := w.figures()
	w.step("release", func(*model) {}, 0, func() error { _, err := w.Client.Release(context.Background(), "svc", api.ChangeRequest{}); return err })

	quit := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var stories []story
	var served atomic.Int64
	for i := range uint64(lighter(24, 2)) {
		rng := rand.New(rand.NewPCG(seed, i+1))
		wg.Go(func() {
			own := customer(rng, w.address, quit, &served)
			mu.Lock()
			defer mu.Unlock()
			stories = append(stories, own...)
		})
	}
	stop := sync.OnceFunc(func() { close(quit); wg.Wait() })
	defer stop()
	// A machine that is busy with other things may take longer until there is something to judge.
	for end, most := time.Now().Add(length), time.Now().Add(10*length); time.Now().Before(end) || served.Load() < 200 && time.Now().Before(most); {
		w.change()
		pace(time.Duration(w.rng.IntN(40)) * time.Millisecond)
	}
	w.rest()
	stop()

	broken, shown, kinds := 0, 0, map[string]int{}
	for i := range stories {
		s := &stories[i]
		kinds[s.kind]++
		if s.err != nil {
			broken++
		}
		if why := w.unexplained(s); why != "" {
			if shown++; shown <= 5 {
				t.Errorf("%s %d, %d..%d (reply %d, side %q): %v: %s", s.kind, s.id, s.begin, s.end, s.reply, s.side, s.err, why)
				for _, line := range w.log {
					var at int64
					if _, err := fmt.Sscanf(line, "%d", &at); err == nil && at > s.begin-int64(400*time.Millisecond) && at < s.end+int64(20*time.Millisecond) {
						t.Log(line)
					}
				}
			}
		}
	}
	if shown > 0 {
		t.Errorf("%d of %d connections broke a promise", shown, len(stories))
	}
	for i := range names {
		eventually(t, "the servers are quiet", w.sides[names[i]].quiet)
	}
	eventually(t, "nothing is left", func() bool {
		sv := w.service("svc")
		return sv.Connections == 0 && sv.Held == 0 && w.figures().descriptors <= started.descriptors+4
	})
	t.Logf("%s: %v; %v; %d connections broke with an excuse; at the end %s", length, w.counts, kinds, broken, w.figures())
	if len(stories)-broken < 100 { // servers that die take theirs with them, more or fewer by chance
		t.Errorf("%d connections, %d broken: the test shows too little", len(stories), broken)
	}
}
