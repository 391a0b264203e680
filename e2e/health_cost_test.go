package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// BenchmarkDoor_AThousandServersChecked prints what a whole door costs, as a share of one core, that checks 1,000 servers each
// second and has no client; and what the same door costs when it checks once an hour.
func BenchmarkDoor_AThousandServersChecked(b *testing.B) {
	servers := make([]string, 1000)
	for i := range servers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // only accepts
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"ready":true,"result":"0x1b4"}`)
		})}
		go func() { _ = srv.Serve(l) }() // ends with l
		servers[i] = fmt.Sprintf("{name: s%d, address: %q}", i, l.Addr())
	}
	const question = `'{"jsonrpc":"2.0","method":"eth_syncing","params":[],"id":1}'`
	for _, c := range []struct{ name, check, interval string }{
		{"none", "{tcp: {}}", "1h"},
		{"tcp", "{tcp: {}}", "1s"},
		{"http", "{http: {path: /readyz}, expect: status == 200 && body.ready == true}", "1s"},
		{"http POST", "{http: {path: /, body: " + question + "}, expect: body.ready == true}", "1s"},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := newDoor(b, fmt.Sprintf("checks: {up: %s}\nservices:\n  web:\n    listen: %q\n    health: {checks: [up], interval: %s, timeout: 900ms}\n    pools:\n      a: [%s]\n",
				c.check, freePort(b), c.interval, strings.Join(servers, ", "))).start()
			if c.interval == "1s" {
				eventually(b, "all are ready", func() bool {
					ready := 0
					for _, s := range d.service("web").Pools["a"].Servers {
						if s.State == "ready" {
							ready++
						}
					}
					return ready == len(servers)
				})
			}
			time.Sleep(2 * time.Second)
			for b.Loop() {
				before := d.cpu()
				time.Sleep(5 * time.Second)
				b.ReportMetric(100*(d.cpu()-before).Seconds()/5, "%core")
			}
		})
	}
}
