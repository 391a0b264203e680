// Package proxytest is what the tests of both planes have in common.
package proxytest

import (
	"crypto/tls"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
	"github.com/turnout-proxy/turnout/proxy/certs/certstest"
)

// Secured makes the one service of a spec terminate TLS, and gives a client's configuration for it.
func Secured(t testing.TB, spec *proxy.Spec) (*proxy.Spec, *tls.Config) {
	t.Helper()
	ca := certstest.New(t)
	cert, key := ca.Pair(t.TempDir(), "door", "door.test")
	spec.Services[0].TLS = &proxy.TLSSpec{Mode: proxy.Terminate, MinVersion: tls.VersionTLS12, Handshake: 20 * time.Second, Certs: []proxy.CertSpec{{Cert: cert, Key: key}}}
	return spec, ca.Client("door.test")
}

// ToServers has the one service of a spec speak TLS with its servers.
func ToServers(spec *proxy.Spec, t proxy.ServerTLSSpec) *proxy.Spec {
	t.MinVersion = tls.VersionTLS12
	spec.Services[0].ServerTLS = &t
	return spec
}

// Storm is many swaps between two pools while clients ask without end.
type Storm struct {
	Swaps, Clients int
	Between        int                                       // how many answers there are between two swaps at least
	Swap           func(to string)                           // returns with the swap's answer
	Ask            func(client int) (pool string, err error) // asks once, and says which pool has answered
}

// patience is how long the clients may take for what must come between two swaps.
const patience = 60 * time.Second

// Run swaps to and fro between the pool from, which is active, and to. Nobody may fail, and who has begun after a swap's answer
// and ended before the next swap must have been answered by the pool that it named.
func (s Storm) Run(t testing.TB, from, to string) {
	t.Helper()
	var epoch atomic.Uint64 // odd: a swap is under way
	var total, failed, late atomic.Int64
	var stop atomic.Bool
	var clients sync.WaitGroup
	sides := [2]string{from, to}
	for i := range s.Clients {
		clients.Go(func() { // ends after the last swap
			for !stop.Load() {
				before := epoch.Load()
				pool, err := s.Ask(i)
				after := epoch.Load()
				total.Add(1)
				switch {
				case err != nil:
					failed.Add(1)
					t.Logf("client %d: %v", i, err)
				case before == after && before%2 == 0 && pool != sides[before/2%2]:
					late.Add(1)
				}
			}
		})
	}
	for i := range s.Swaps {
		for end := time.Now().Add(patience); total.Load() < int64(s.Between*i); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%d answers in all before swap %d; want %d", total.Load(), i, s.Between*i)
				break
			}
		}
		epoch.Add(1)
		s.Swap(sides[(i+1)%2])
		epoch.Add(1)
	}
	stop.Store(true)
	clients.Wait()
	if failed.Load() != 0 || late.Load() != 0 {
		t.Errorf("of %d: %d failed, %d late", total.Load(), failed.Load(), late.Load())
	}
}
