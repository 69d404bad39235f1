package sim

import (
	"slices"
	"time"
)

// Shrink looks for a smaller schedule that fails the same check: it leaves out
// whatever can be left out. It tries for as long as it is given, at most, and returns
// the smallest with its result.
func Shrink(p *Plan, check Check, within time.Duration, run func(*Plan) *Result) (*Plan, *Result) {
	until := time.Now().Add(within)
	best := run(p)
	try := func(q *Plan) bool {
		if time.Now().After(until) {
			return false
		}
		r := run(q)
		if r.Failed(check) {
			best = r
			return true
		}
		return false
	}
	for again := true; again && time.Now().Before(until); {
		again = false
		p := best.Plan
		if faults, less := without(p.Faults, func(fs []Fault) bool { return try(p.with(func(q *Plan) { q.Faults = fs })) }); less {
			p, again = p.with(func(q *Plan) { q.Faults = faults }), true
		}
		for _, k := range sortedKinds(p.Rates) {
			q := p.with(func(q *Plan) { delete(q.Rates, k) })
			if try(q) {
				p, again = q, true
			}
		}
		for i := range p.Clients {
			set := func(orders []Order) *Plan { return p.with(func(q *Plan) { q.Clients[i] = orders }) }
			if orders, less := without(p.Clients[i], func(os []Order) bool { return try(set(os)) }); less {
				p, again = set(orders), true
			}
		}
	}
	return best.Plan, best
}

// with is a changed copy.
func (p *Plan) with(change func(*Plan)) *Plan {
	q := &Plan{Seed: p.Seed, Proxies: p.Proxies, Shared: p.Shared, Faults: slices.Clone(p.Faults), Rates: map[Kind]float64{}}
	for k, v := range p.Rates {
		q.Rates[k] = v
	}
	for _, orders := range p.Clients {
		q.Clients = append(q.Clients, slices.Clone(orders))
	}
	change(q)
	return q
}

// without leaves out as many elements as it can, in chunks that become smaller
// (Zeller, Hildebrandt: Simplifying and Isolating Failure-Inducing Input, 2002).
func without[T any](list []T, fails func([]T) bool) (rest []T, less bool) {
	rest = list
	for size := len(rest); size > 0; size /= 2 {
		for at := 0; at < len(rest); {
			smaller := slices.Delete(slices.Clone(rest), at, min(at+size, len(rest)))
			if fails(smaller) {
				rest, less = smaller, true
				continue
			}
			at += size
		}
	}
	return rest, less
}
