package front

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

// Place is where an address leads: one socket address, or those that a host name has at present.
type Place struct {
	addrs atomic.Pointer[[]loop.Sockaddr]
	next  atomic.Uint32 // with which of several to begin: the one after the last that failed
}

// Begin is the address to dial first.
func (p *Place) Begin() uint8 { return uint8(p.next.Load()) }

// Pick returns the nth socket address to dial, counted from begin; nil: there are no more, or the name does
// not resolve at present.
func (p *Place) Pick(begin, nth uint8) *loop.Sockaddr {
	addrs := p.addrs.Load()
	if addrs == nil || int(nth) >= len(*addrs) {
		return nil
	}
	return &(*addrs)[(int(begin)+int(nth))%len(*addrs)]
}

// Failed has later dials begin after an address that failed. A dial that goes through all of them counts from its own
// begin, so that it tries each once whatever others do meanwhile.
func (p *Place) Failed(begin, nth uint8) {
	p.next.Store(uint32(begin) + uint32(nth) + 1)
}

// Set says where the address leads from now on.
func (p *Place) Set(addrs []loop.Sockaddr) { p.addrs.Store(&addrs) }

// Places resolves the addresses of servers, off the loops. Host names are looked up again as long as they
// are in use.
type Places struct {
	mu    sync.Mutex
	known map[string]*Place
}

const resolveEvery = 10 * time.Second

// Of returns the place of an address that prepare has seen.
func (ps *Places) Of(address string) *Place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.known[address]
	if p == nil {
		p = &Place{}
		ps.known[address] = p
	}
	return p
}

// prepare makes the addresses of all servers of a snapshot ready to be dialled. A name that does not resolve
// is an error for whoever wants to know, and dials to it fail until it does.
func (ps *Places) prepare(ctx context.Context, snap *proxy.Snapshot) []error {
	var errs []error
	for _, svc := range snap.Services {
		for _, pool := range svc.Pools {
			for i := range pool.Members {
				address := pool.Members[i].Address
				p := ps.Of(address)
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
func (ps *Places) refresh(ctx context.Context) {
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ps.mu.Lock()
		names := map[string]*Place{}
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
func (p *Place) resolve(ctx context.Context, address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		sa, err := loop.UnixSockaddr(path)
		if err == nil {
			p.Set([]loop.Sockaddr{sa})
		}
		return err
	}
	if a, err := loop.ParseAddr(address); err == nil {
		p.Set([]loop.Sockaddr{a.Sockaddr()})
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
	p.Set(out)
	return nil
}
