package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// ratePerSecond is E2E_RATE, for figures, else what a busy machine can do.
func ratePerSecond() int {
	if n, err := strconv.Atoi(os.Getenv("E2E_RATE")); err == nil {
		return n
	}
	return 50
}

// rate asks a door at a steady pace, whether or not it answers: what it owes is asked as soon as the machine lets it.
type rate struct {
	address string
	stop    chan struct{}
	work    sync.WaitGroup
	// request makes the n-th request, and answered gets what came with 200; it is called by one at a time.
	request  func(n int) *http.Request
	answered func(r *http.Request, body []byte)
	// refused tells whether an answer that is not 200 is as it should be; nil: none is. It is called by one at a time.
	refused func(r *http.Request, resp *http.Response) bool

	mu      sync.Mutex
	since   time.Time         // when it began
	begun   int               // requests
	under   map[int]time.Time // those under way, and since when
	asked   int               // those that have ended
	longest time.Duration
	failed  []failedAsk
}

type failedAsk struct {
	n     int
	began time.Time
	why   string
}

func startRate(address string, perSecond int) *rate {
	r := &rate{address: address, stop: make(chan struct{}), answered: func(*http.Request, []byte) {}}
	r.request = func(int) *http.Request {
		q, _ := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
		return q
	}
	return r.begin(perSecond)
}

func (r *rate) begin(perSecond int) *rate {
	h := &http.Client{Timeout: slower(60 * time.Second), Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	r.since, r.under = time.Now(), map[int]time.Time{}
	r.work.Go(func() { // ends with stop
		defer h.CloseIdleConnections()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		var asking sync.WaitGroup
		defer asking.Wait()
		for begun := 0; ; {
			select {
			case <-tick.C: // a busy machine drops ticks
			case <-r.stop:
				return
			}
			due := int(time.Since(r.since).Seconds() * float64(perSecond))
			for n := begun; n < due; n++ {
				q := r.request(n)
				asking.Go(func() { r.ask(h, n, q) }) // ends with its answer
			}
			begun = due
		}
	})
	return r
}

func (r *rate) ask(h *http.Client, n int, q *http.Request) {
	began := time.Now()
	r.mu.Lock()
	r.begun++
	r.under[n] = began
	r.mu.Unlock()
	resp, err := h.Do(q)
	why := ""
	var b []byte
	if err != nil {
		why = err.Error()
	} else {
		b, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			why = fmt.Sprintf("%s %s: %s: %s %v", q.Method, q.URL.Path, resp.Status, b, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.under, n)
	r.asked++
	r.longest = max(r.longest, time.Since(began))
	if why != "" && resp != nil && r.refused != nil && r.refused(q, resp) {
		return
	}
	if why != "" {
		r.failed = append(r.failed, failedAsk{n, began, why})
		return
	}
	r.answered(q, b)
}

// total is how many have been answered; it forgets the longest wait.
func (r *rate) total() (asked int, longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, longest = r.asked, r.longest
	r.longest = 0
	return asked, longest
}

func (r *rate) failures() int { r.mu.Lock(); defer r.mu.Unlock(); return len(r.failed) }

// settle waits until everything that has begun by now has ended. It returns the longest wait since the last total.
func (r *rate) settle(t *testing.T) time.Duration {
	t.Helper()
	now := time.Now()
	eventually(t, "those that waited are answered, and others after them", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, began := range r.under {
			if began.Before(now) {
				return false
			}
		}
		return true
	})
	_, longest := r.total()
	return longest
}

// underWay are the requests that have begun and not ended.
func (r *rate) underWay() map[int]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[int]bool{}
	for n := range r.under {
		all[n] = true
	}
	return all
}

// pace is how many have begun each second.
func (r *rate) pace() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(r.begun) / time.Since(r.since).Seconds()
}

func (r *rate) end() { close(r.stop); r.work.Wait() }

// kill ends a node at once and returns when it was dead, with the requests that it may have been sent: those under way
// before.
func (r *rate) kill(n *lockNode) (dead time.Time, sent map[int]bool) {
	_ = n.Process.Kill()
	sent = r.underWay()
	<-n.ended
	dead = time.Now()
	for k := range r.underWay() { // they began while it died
		sent[k] = true
	}
	return dead, sent
}

// judge: only what may have been sent to the dead node may have failed.
func (r *rate) judge(t *testing.T, sent map[int]bool) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	whys, others := map[string]int{}, 0
	for _, f := range r.failed {
		whys[f.why]++
		if !sent[f.n] {
			others++
			t.Errorf("a request that the dead node was not sent failed, begun at %s: %s", f.began.Format(time.StampMicro), f.why)
		}
	}
	t.Logf("%d were under way at the death: %d of them failed %v; of %d others %d failed", len(sent), len(r.failed)-others, whys, r.asked-len(sent), others)
}
