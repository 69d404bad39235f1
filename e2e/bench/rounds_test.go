//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

// sample is what one round of one side measured.
type sample struct {
	ops int
	// rate is operations per second: the sum of the callers' own rates, so that
	// a caller whose last request takes long does not idle the others in it.
	rate     float64
	p50, p99 time.Duration
	// Processor times of the whole round, of each process or group of them.
	proxyCPU, storeCPU, databaseCPU, clientCPU time.Duration
	// othersCPU is what the machine spent on anything else meanwhile.
	othersCPU, took time.Duration
	// peak is the proxy's highest resident memory in the round, in bytes; zero
	// for direct rounds.
	peak int64
}

// result is a case of one side over all rounds.
type result struct {
	load    *load
	side    string
	callers int
	samples []sample
	// ratios compares each round's rate with the direct round before it.
	ratios []float64
}

// plan bounds a run.
type plan struct {
	rounds  int
	round   time.Duration
	callers int
	// around, where not nil, wraps a measured round.
	around func(l *load, side string, round int, run func() error) error
}

// drive runs one case on all of its sides in turn.
func drive(t *testing.T, s *servers, l *load, p plan) []*result {
	t.Helper()
	callers := p.callers
	if l.callers > 0 {
		callers = l.callers
	}
	results := make([]*result, len(l.sides))
	for i, side := range l.sides {
		results[i] = &result{load: l, side: side, callers: callers}
	}
	rates := map[string]float64{}
	// On a machine that is far too slow for a round's length there are fewer
	// rounds, at least one. Signing takes time too, hence the allowance.
	enough := time.Now().Add(2*time.Duration(p.rounds*len(l.sides))*p.round + 3*time.Second)
	// Round 0 warms up: it fills caches and pools, opens connections and tells
	// how many requests a round takes.
	for round := range p.rounds + 1 {
		if round > 1 && time.Now().After(enough) {
			break
		}
		length := p.round
		if round == 0 {
			length = p.round / 5
		}
		for _, r := range results {
			got, err := s.oneRound(t.Context(), r, round, length, rates[r.side], p.around)
			if err != nil {
				t.Fatalf("%s, %s: %v", l.title, r.side, err)
			}
			rates[r.side] = got.rate
			if round > 0 {
				r.samples = append(r.samples, got)
				r.ratios = append(r.ratios, got.rate/rates["direct"])
			}
			if l.size >= 16*mib && r.side == "sealed" {
				sweep(t, s, l.size)
			}
		}
	}
	return results
}

// guess is how many requests a caller gets ready for a round: half more than
// the last rate suggests. A round that needs more begins again at the first.
func guess(rate float64, callers int, length time.Duration) int {
	const first = 400 // per second and caller, before anything was measured
	each := first * length.Seconds()
	if rate > 0 {
		each = rate / float64(callers) * length.Seconds() * 1.5
	}
	return int(math.Ceil(each)) + 8
}

// oneRound lets all callers of one side run for a time. Requests under way at
// its end are waited for and count.
func (s *servers) oneRound(ctx context.Context, r *result, round int, length time.Duration, rate float64,
	around func(*load, string, int, func() error) error,
) (sample, error) {
	e := s.sides[r.side]
	each := guess(rate, r.callers, length)
	shots, err := s.ready(ctx, e, r, round, each)
	if err != nil {
		return sample{}, err
	}
	wires := make([]*wire, r.callers)
	for i := range wires {
		wires[i] = newWire(e.addr)
	}
	defer func() {
		for _, w := range wires {
			w.close()
		}
	}()
	// One request each opens the connection.
	for i, w := range wires {
		if _, err := w.send(ctx, &shots[i][len(shots[i])-1]); err != nil {
			return sample{}, err
		}
	}
	var got sample
	run := func() error {
		got, err = s.measure(ctx, r, shots, wires, length)
		return err
	}
	if around != nil && round > 0 {
		return got, errors.Join(around(r.load, r.side, round, run))
	}
	return got, run()
}

// ready signs the requests of a round, on as many goroutines as callers.
func (s *servers) ready(ctx context.Context, e *endpoint, r *result, round, each int) ([][]shot, error) {
	shots := make([][]shot, r.callers)
	errs := make([]error, r.callers)
	var wg sync.WaitGroup
	for caller := range r.callers {
		wg.Go(func() {
			shots[caller], errs[caller] = r.load.shots(ctx, e, r.load, round, caller, each)
		})
	}
	wg.Wait()
	return shots, errors.Join(errs...)
}

// measure is the round itself.
func (s *servers) measure(ctx context.Context, r *result, shots [][]shot, wires []*wire, length time.Duration) (sample, error) {
	proxied := r.side != "direct"
	if proxied {
		if err := resetPeak(s.pid); err != nil {
			return sample{}, fmt.Errorf("peak of resident memory: %w", err)
		}
	}
	before, err := serverTimes(s.root)
	if err != nil {
		return sample{}, err
	}
	machineBefore, err := machine()
	if err != nil {
		return sample{}, err
	}
	ownBefore, err := ownTime()
	if err != nil {
		return sample{}, err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	callers := make([]caller, len(wires))
	start := time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			callers[i].run(ctx, wires[i], shots[i], start, length)
			if callers[i].err != nil {
				cancel() // the round is lost: the others need not go on
			}
		})
	}
	wg.Wait()

	got := sample{took: time.Since(start)}
	var times []time.Duration
	for i := range callers {
		c := &callers[i]
		if c.err != nil && !errors.Is(c.err, context.Canceled) {
			return sample{}, c.err
		}
		if len(c.times) > 0 {
			got.rate += float64(len(c.times)) / c.took.Seconds()
		}
		times = append(times, c.times...)
	}
	ownAfter, err := ownTime()
	if err != nil {
		return sample{}, err
	}
	machineAfter, err := machine()
	if err != nil {
		return sample{}, err
	}
	after, err := serverTimes(s.root)
	if err != nil {
		return sample{}, err
	}
	got.ops, got.clientCPU = len(times), ownAfter-ownBefore
	got.storeCPU = after["minio"] - before["minio"]
	if proxied {
		got.proxyCPU, got.databaseCPU = after["proxy"]-before["proxy"], after["pg"]-before["pg"]
		if _, got.peak, err = residentMemory(s.pid); err != nil {
			return sample{}, err
		}
	}
	got.othersCPU = machineAfter - machineBefore - got.clientCPU
	for kind := range after {
		got.othersCPU -= after[kind] - before[kind]
	}
	slices.Sort(times)
	got.p50, got.p99 = quantile(times, 0.50), quantile(times, 0.99)
	return got, nil
}

// caller sends one request after the other.
type caller struct {
	times []time.Duration
	took  time.Duration
	err   error
}

func (c *caller) run(ctx context.Context, w *wire, shots []shot, start time.Time, length time.Duration) {
	c.times = make([]time.Duration, 0, max(len(shots), 1<<12))
	before := start
	for i := 0; before.Sub(start) < length && ctx.Err() == nil; i++ {
		if _, c.err = w.send(ctx, &shots[i%len(shots)]); c.err != nil {
			return
		}
		now := time.Now()
		c.times = append(c.times, now.Sub(before))
		before = now
	}
	c.took = before.Sub(start)
}

// quantile of sorted values, the nearest rank; zero for none.
func quantile[T any](sorted []T, q float64) T {
	if len(sorted) == 0 {
		var none T
		return none
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// median of values, the mean of the middle two where their number is even.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}
