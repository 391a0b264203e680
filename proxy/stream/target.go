package stream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/loop"
)

// target is a server as one loop sees it.
type target struct {
	server *proxy.Server // nil: not in use
	where  *place
	conns  uint32 // list of relaying conns, and of those by which a reset is on its way to it
	dials  int32  // conns that dial it, or whose client is yet to be reset
	count  int32  // conns in the list

	// afterAnswer: its connections end each when the server's bytes have just been carried whole
	// (proxy.CutAfterAnswer). The quiet point clears it, since a change may have ended the drain; a drain
	// that goes on sets it again.
	afterAnswer bool
}

// target finds or makes the loop's target of a server.
func (w *worker) target(s *proxy.Server) int32 {
	if i, ok := w.targetOf[s]; ok {
		return i
	}
	t := target{server: s, where: w.plane.places.of(s.Address), conns: none}
	for i := range w.targets {
		if w.targets[i].server == nil {
			w.targets[i] = t
			w.targetOf[s] = int32(i)
			return int32(i)
		}
	}
	w.targets = append(w.targets, t)
	w.targetOf[s] = int32(len(w.targets) - 1)
	return int32(len(w.targets) - 1)
}

// sweep forgets targets without a connection; those still in use are made anew when they are needed.
func (w *worker) sweep() {
	for i := range w.targets {
		if t := &w.targets[i]; t.server != nil && t.count == 0 && t.dials == 0 {
			delete(w.targetOf, t.server)
			*t = target{conns: none}
		}
	}
	for live, i := range w.queueOf {
		if q := &w.queues[i]; q.length == 0 && q.pouring == 0 {
			delete(w.queueOf, live)
			*q = queue{head: none, tail: none}
		}
	}
}

// place is where an address leads: one socket address, or those that a host name has at present.
type place struct {
	addrs atomic.Pointer[[]loop.Sockaddr]
	next  atomic.Uint32 // with which of several to begin: the one after the last that failed
}

// begin is the address to dial first.
func (p *place) begin() uint8 { return uint8(p.next.Load()) }

// pick returns the nth socket address to dial, counted from begin; nil: there are no more, or the name does
// not resolve at present.
func (p *place) pick(begin, nth uint8) *loop.Sockaddr {
	addrs := p.addrs.Load()
	if addrs == nil || int(nth) >= len(*addrs) {
		return nil
	}
	return &(*addrs)[(int(begin)+int(nth))%len(*addrs)]
}

// failed has later dials begin after an address that failed. A dial that goes through all of them counts from its own
// begin, so that it tries each once whatever others do meanwhile.
func (p *place) failed(begin, nth uint8) {
	p.next.Store(uint32(begin) + uint32(nth) + 1)
}

// places resolves the addresses of servers, off the loops. Host names are looked up again as long as they
// are in use.
type places struct {
	mu    sync.Mutex
	known map[string]*place
}

const resolveEvery = 10 * time.Second

// of returns the place of an address that prepare has seen.
func (ps *places) of(address string) *place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.known[address]
	if p == nil {
		p = &place{}
		ps.known[address] = p
	}
	return p
}

// prepare makes the addresses of all servers of a snapshot ready to be dialled. A name that does not resolve
// is an error for whoever wants to know, and dials to it fail until it does.
func (ps *places) prepare(ctx context.Context, snap *proxy.Snapshot) []error {
	var errs []error
	for _, svc := range snap.Services {
		for _, pool := range svc.Pools {
			for i := range pool.Members {
				address := pool.Members[i].Address
				p := ps.of(address)
				if p.addrs.Load() != nil {
					continue
				}
				if err := p.resolve(ctx, address); err != nil {
					errs = append(errs, fmt.Errorf("%s/%s/%s: %w", svc.Spec.Name, pool.Name, pool.Members[i].Name, err))
				}
			}
		}
	}
	return errs
}

// refresh looks host names up again until ctx is done.
func (ps *places) refresh(ctx context.Context) {
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ps.mu.Lock()
		names := map[string]*place{}
		for address, p := range ps.known {
			if isName(address) {
				names[address] = p
			}
		}
		ps.mu.Unlock()
		for address, p := range names {
			_ = p.resolve(ctx, address) // what is known stays
		}
	}
}

func isName(address string) bool {
	_, err := netip.ParseAddrPort(address)
	return err != nil && !strings.HasPrefix(address, "unix:")
}

// resolve sets the socket addresses of an address: those of a name in the order the resolver gives.
func (p *place) resolve(ctx context.Context, address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		sa, err := loop.UnixSockaddr(path)
		if err == nil {
			p.addrs.Store(&[]loop.Sockaddr{sa})
		}
		return err
	}
	if a, err := loop.ParseAddr(address); err == nil {
		p.addrs.Store(&[]loop.Sockaddr{a.Sockaddr()})
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	var out []loop.Sockaddr
	for _, ip := range ips {
		if a, err := loop.AddrFrom(netip.AddrPortFrom(ip.Unmap(), uint16(number))); err == nil {
			out = append(out, a.Sockaddr())
		}
	}
	if len(out) == 0 {
		return fmt.Errorf("%s has no usable address", host)
	}
	p.addrs.Store(&out)
	return nil
}
