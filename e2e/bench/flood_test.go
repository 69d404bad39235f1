//go:build bench

package bench

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var (
	flagRate   = flag.Int("rate", 2000, "bad requests and connections a second, of all kinds together, in a flood")
	flagFloods = flag.Int("floods", 5, "rounds of quiet and flood, in turn")
)

const (
	// floodRound is the length of one round.
	floodRound = 4 * time.Second
	// goodRate is how many good requests each caller sends a second, and
	// goodCallers how many there are of each kind. They come at their times, whatever
	// became of the one before: what waits for a late answer counts as late, too.
	goodRate, goodCallers = 10, 4
	// maxRatio is what is promised of the 99th percentile.
	maxRatio = 3.0
)

// badKinds are what a flood is made of; each sends a share of the rate, over
// addresses that no good caller has.
var badKinds = []struct {
	name  string
	share float64
	run   func(ctx context.Context, f *flooder)
}{
	{"bad signature, one connection", 0.4, again(func(f *flooder) *shot { return &f.wrong })},
	{"unknown access key, one connection", 0.2, again(func(f *flooder) *shot { return &f.unknown })},
	{"bad signature, a connection each", 0.15, once(func(f *flooder) []byte { return f.wrong.head })},
	{"garbage", 0.15, once(func(*flooder) []byte { return []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") })},
	{"connection without a request", 0.1, once(func(*flooder) []byte { return nil })},
}

// flooder sends one kind of bad requests.
type flooder struct {
	addr           string
	from           net.Addr
	every          time.Duration
	wrong, unknown shot
	sent           *atomic.Int64
}

// again sends the same request over one connection.
func again(which func(*flooder) *shot) func(context.Context, *flooder) {
	return func(ctx context.Context, f *flooder) {
		w := newWire(f.addr)
		w.from = f.from
		defer w.close()
		pace(ctx, f.every, func(time.Time) bool {
			if _, err := w.send(ctx, which(f)); err == nil {
				f.sent.Add(1)
			}
			return true
		})
	}
}

// once opens a connection for each, writes, and leaves it open for a while.
func once(which func(*flooder) []byte) func(context.Context, *flooder) {
	return func(ctx context.Context, f *flooder) {
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		d := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: f.from}
		pace(ctx, f.every, func(time.Time) bool {
			c, err := d.DialContext(ctx, "tcp", f.addr)
			if err != nil {
				return true
			}
			f.sent.Add(1)
			if b := which(f); b != nil {
				_, _ = c.Write(b)
			}
			if open = append(open, c); len(open) > 500 {
				open[0].Close()
				open = open[1:]
			}
			return true
		})
	}
}

// pace calls do at regular times until ctx ends or do says so.
func pace(ctx context.Context, every time.Duration, do func(due time.Time) bool) {
	for due := time.Now(); ; due = due.Add(every) {
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		if ctx.Err() != nil || !do(due) {
			return
		}
	}
}

// good is one kind of good requests.
type good struct {
	title string
	side  *endpoint
	shots []shot
	// all latencies, quiet and flooded; ratios of the 99th percentiles by round.
	times  [2][]time.Duration
	ratios []float64
	failed int
}

// TestFlood is the other program; see the package's documentation.
func TestFlood(t *testing.T) {
	settle(t)
	s := start(t, program(t))
	kinds := []*good{
		// The control: not through the proxy at all. What a flood does to it, the
		// machine does, which store, database, proxy, callers and flood share.
		{title: "GET 4 KiB, direct", side: s.sides["direct"]},
		{title: "GET 4 KiB, unguarded", side: s.sides["unguarded"]},
		{title: "PUT 4 KiB, unguarded", side: s.sides["unguarded"]},
		{title: "PUT 4 KiB, sealed", side: s.sides["sealed"]},
	}
	bad := s.sides["unguarded"]
	wrongCreds := *bad
	wrongCreds.creds.SecretAccessKey = "wrong"
	unknownCreds := *bad
	unknownCreds.creds = aws.Credentials{AccessKeyID: "nobody", SecretAccessKey: "wrong"}
	var sent atomic.Int64
	for round := range *flagFloods + 1 {
		length := floodRound
		if round == 0 {
			length = time.Second // warms up
		}
		var ends [2][4]time.Duration
		for flooded := range 2 {
			now := time.Now()
			for _, k := range kinds {
				k.shots = nil
				for i := range goodCallers * goodRate * int(length/time.Second) {
					method, key, body := http.MethodPut, fmt.Sprintf("flood/%d", i), make([]byte, 4096)
					if strings.HasPrefix(k.title, "GET") {
						method, key, body = http.MethodGet, fmt.Sprintf("flood/%d", i%goodCallers), nil
					}
					one, err := k.side.object(t.Context(), method, key, body, now)
					if err != nil {
						t.Fatal(err)
					}
					k.shots = append(k.shots, one)
				}
			}
			if round == 0 && flooded == 0 {
				// What is read must be there.
				for _, e := range []*endpoint{bad, s.sides["direct"]} {
					w := newWire(e.addr)
					for i := range goodCallers {
						one, err := e.object(t.Context(), http.MethodPut, fmt.Sprintf("flood/%d", i), make([]byte, 4096), now)
						if err == nil {
							_, err = w.send(t.Context(), &one)
						}
						if err != nil {
							t.Fatal(err)
						}
					}
					w.close()
				}
			}
			ctx, stop := context.WithTimeout(t.Context(), length)
			var flood sync.WaitGroup
			if flooded == 1 {
				f := flooder{addr: bad.addr, sent: &sent}
				var err error
				if f.wrong, err = wrongCreds.object(ctx, http.MethodGet, "flood/0", nil, now); err == nil {
					f.unknown, err = unknownCreds.object(ctx, http.MethodGet, "flood/0", nil, now)
				}
				if err != nil {
					t.Fatal(err)
				}
				f.wrong.status, f.unknown.status = http.StatusForbidden, http.StatusForbidden
				for i, kind := range badKinds {
					const each = 4
					one := f
					one.from = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i))}
					one.every = time.Duration(float64(each) * float64(time.Second) / (kind.share * float64(*flagRate)))
					for range each {
						flood.Go(func() { kind.run(ctx, &one) })
					}
				}
			}
			var goods sync.WaitGroup
			for i, k := range kinds {
				goods.Go(func() {
					times, bads := k.run(ctx)
					k.failed += bads
					if round > 0 {
						k.times[flooded] = append(k.times[flooded], times...)
					}
					slices.Sort(times)
					ends[flooded][i] = quantile(times, 0.99)
				})
			}
			goods.Wait()
			stop()
			flood.Wait()
		}
		if round > 0 {
			for i, k := range kinds {
				k.ratios = append(k.ratios, float64(ends[1][i])/float64(ends[0][i]))
			}
		}
	}
	_, peak, err := residentMemory(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stdout, "\n%-22s %9s %9s %9s %9s  %s\n", "good requests", "quiet p50", "p99", "flood p50", "p99", "p99 of flood / quiet, by round")
	var all []verdict
	failed, control := 0, 0.0
	var beside strings.Builder
	for _, k := range kinds {
		failed += k.failed
		slices.Sort(k.times[0])
		slices.Sort(k.times[1])
		fmt.Fprintf(os.Stdout, "%-22s %9v %9v %9v %9v  %.2f\n", k.title, short(quantile(k.times[0], 0.5)), short(quantile(k.times[0], 0.99)),
			short(quantile(k.times[1], 0.5)), short(quantile(k.times[1], 0.99)), k.ratios)
		ratio := float64(quantile(k.times[1], 0.99)) / float64(quantile(k.times[0], 0.99))
		if k == kinds[0] {
			control = ratio
			continue
		}
		fmt.Fprintf(&beside, "%s: %.2f of the control's\n", k.title, ratio/control)
		all = append(all, judge("p99 under flood, of quiet: "+k.title, ratio, "", most(maxRatio)))
	}
	fmt.Fprintf(os.Stdout, "\n%sp99 under flood, of quiet: the control's is %.2f\n", beside.String(), control)
	fmt.Fprintf(os.Stdout, "\n%d bad requests and connections in %v, %.0f a second (asked for: %d); %d good requests failed; resident memory of the proxy at most %.1f MiB\n\n",
		sent.Load(), time.Duration(*flagFloods)*floodRound+time.Second, float64(sent.Load())/(float64(*flagFloods)*floodRound.Seconds()+1), *flagRate, failed, float64(peak)/mib)
	if _, err := targets(os.Stdout, all); err != nil {
		t.Fatal(err)
	}
	if failed > 0 {
		t.Errorf("%d good requests failed", failed)
	}
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// run sends all shots at their times and returns how long after those each answer
// was there, and how many requests failed.
func (k *good) run(ctx context.Context) (times []time.Duration, failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	share := len(k.shots) / goodCallers
	for i := range goodCallers {
		mine := k.shots[i*share : (i+1)*share]
		wg.Go(func() {
			w := newWire(k.side.addr)
			defer w.close()
			time.Sleep(time.Duration(i) * time.Second / (goodCallers * goodRate)) // not all at once
			n := 0
			pace(ctx, time.Second/goodRate, func(due time.Time) bool {
				if n == len(mine) {
					return false
				}
				_, err := w.send(context.WithoutCancel(ctx), &mine[n])
				n++
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed++
					fmt.Fprintln(os.Stderr, err)
				}
				times = append(times, time.Since(due))
				return true
			})
		})
	}
	wg.Wait()
	return times, failed
}
