package failover

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnout-proxy/turnout/proxy"
)

// A kernel whose queue of connections is full drops what asks for one, which asks again after a second. A server that is
// only busy was once taken for one that is gone: the lockout did not hold, and an exclusive service moved.
func TestAutomation_AServerWhoseQueueWasFullStillAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := &proxy.Spec{Services: []proxy.ServiceSpec{{Name: "node", Active: "a", Pools: []proxy.PoolSpec{
			{Name: "a", Servers: []proxy.ServerSpec{{Name: "busy", Address: "busy:1", Weight: 1}, {Name: "gone", Address: "gone:1", Weight: 1}}},
		}}}}
		sw := proxy.New(spec, &proxy.Memory{}, proxy.Options{Loops: 1})
		a := &Automation{ctx: t.Context(), opt: Options{Dial: func(ctx context.Context, srv *proxy.Server) error {
			again := time.Hour
			if srv.Name == "busy" {
				again = time.Second
			}
			select {
			case <-time.After(again):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}}
		if got := a.answering(sw.Current().Service("node")); len(got) != 1 || got[0].Name != "busy" {
			t.Errorf("answering: %v", got)
		}
	})
}
