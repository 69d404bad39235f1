package eventlog

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
)

const (
	// firstWindow is how long events that are alike are summed up at first, so that
	// few are counted soon; for events of a scope that differ it is coarseWindow. It
	// doubles with each row up to lastWindow, while they go on.
	firstWindow  = flushEvery
	coarseWindow = sweepEvery
	lastWindow   = 10 * time.Second
	// maxSums bounds the sums, and the scopes whose rate is known.
	maxSums = 1024
	// A scope adds rows for single events, and for those that are alike, at the rate
	// of scopeRate a second beyond a burst of scopeBurst; all scopes together at
	// allRate beyond allBurst, rows for events of a scope that differ included.
	scopeRate, scopeBurst = 1, 64
	allRate, allBurst     = 10, 512
)

// repeatable says of which kinds a client can make as many as it likes without
// changing anything.
func repeatable(k events.Kind) bool {
	return k == events.Refused || k == events.RenewLost || k == events.Alarm
}

// grain is how much the events of one sum have in common. Nothing is left
// uncounted when a finer sum cannot be had: its events go into the next one.
type grain uint8

const (
	same  grain = iota // everything
	place              // the scope, or else the bucket; kind, code and access
	whole              // kind, code and access
)

// alike is what the events of one sum have in common.
type alike struct {
	grain          grain
	kind           events.Kind
	code           string
	access         events.Access
	scope          fence.Scope
	bucket         string
	key            string
	operation      string
	accessKey      string
	token, highest fence.Token
}

func (r *row) alike(g grain) alike {
	a := alike{grain: g, kind: r.Kind, code: r.Code, access: r.Access}
	if g < whole {
		a.scope, a.bucket = r.Scope, r.Bucket
	}
	if g < place {
		a.key, a.operation, a.accessKey, a.token, a.highest = r.Key, r.Operation, r.AccessKey, r.Token, r.Highest
	}
	return a
}

// sum is what has come since the last row for its events.
type sum struct {
	row
	first time.Time
	// next is when the next row may be written, window the time from that one to the
	// one after it.
	next   time.Time
	window time.Duration
}

func newSum(now time.Time, window time.Duration) *sum {
	return &sum{next: now.Add(window), window: window}
}

// add counts one event more, or those of another sum.
func (s *sum) add(r *row, first time.Time) {
	if s.Count == 0 {
		s.row, s.first = *r, first
		return
	}
	count := s.Count + r.Count
	if first.Before(s.first) {
		s.first = first
	}
	if r.seen.After(s.seen) {
		// What may differ is that of the last one.
		s.Highest, s.Holder, s.Owner, s.After, s.Reason, s.RequestID = r.Highest, r.Holder, r.Owner, r.After, r.Reason, r.RequestID
		s.Time, s.seen = r.Time, r.seen
	}
	if s.Remote != r.Remote {
		s.Remote = ""
	}
	s.Suppressed = s.Suppressed || r.Suppressed
	differ(s, &s.Key, r.Key)
	differ(s, &s.Operation, r.Operation)
	differ(s, &s.AccessKey, r.AccessKey)
	differ(s, &s.Token, r.Token)
	differ(s, &s.Bucket, r.Bucket)
	differ(s, &s.Scope, r.Scope)
	if s.Scope.IsZero() {
		// Of several scopes there is no one mark.
		s.Highest, s.Holder, s.Owner, s.After, s.Reason = 0, "", "", 0, ""
	}
	s.Count = count
}

// differ empties what the events of a sum do not have in common.
func differ[T comparable](s *sum, field *T, other T) {
	var none T
	if *field != other {
		*field, s.Suppressed = none, true
	}
}

// written is the row for the sum.
func (s *sum) written() row {
	r := s.row
	r.Span = r.seen.Sub(s.first)
	return r
}

// repeats sums up what is repeated. Not safe for concurrent use.
type repeats struct {
	sums  map[alike]*sum
	rates map[rated]*rate.Limiter
	all   *rate.Limiter
}

// rated is a scope, or a bucket for what lies in none.
type rated struct {
	scope  fence.Scope
	bucket string
}

func newRepeats() repeats {
	return repeats{sums: map[alike]*sum{}, rates: map[rated]*rate.Limiter{}, all: rate.NewLimiter(allRate, allBurst)}
}

// open reports whether there is something to look at.
func (p *repeats) open() bool { return len(p.sums)+len(p.rates) > 0 }

// add takes an event and reports whether the caller is to write a row for it now;
// room says whether there is room for one. Otherwise it is counted.
func (p *repeats) add(r *row, room bool) bool {
	key := r.alike(same)
	if s := p.sums[key]; s != nil {
		s.add(r, r.seen)
		return false
	}
	if room && len(p.sums) < maxSums && p.allow(same, r, r.seen) {
		p.sums[key] = newSum(r.seen, firstWindow)
		return true
	}
	p.coarser(same, r, r.seen, r.seen)
	return false
}

// coarser adds to a sum of the next grain.
func (p *repeats) coarser(g grain, r *row, first, now time.Time) {
	for g++; ; g++ {
		key := r.alike(g)
		s := p.sums[key]
		if s == nil {
			if len(p.sums) >= maxSums && g < whole {
				continue
			}
			s = newSum(now, coarseWindow)
			p.sums[key] = s
		}
		s.add(r, first)
		return
	}
}

// allow asks for a row within the rates.
func (p *repeats) allow(g grain, r *row, now time.Time) bool {
	switch g {
	case whole:
		return true
	case place:
		return p.all.AllowN(now, 1)
	}
	at := rated{r.Scope, r.Bucket}
	l := p.rates[at]
	if l == nil {
		if len(p.rates) >= maxSums {
			return false
		}
		l = rate.NewLimiter(scopeRate, scopeBurst)
		p.rates[at] = l
	}
	return l.AllowN(now, 1) && p.all.AllowN(now, 1)
}

// sweep returns rows for the sums whose time is over, or for all, in the order of
// what they tell of. Where there is no room, or no rate is left, a sum goes into a
// coarser one; fine ones are looked at first.
func (p *repeats) sweep(now time.Time, all bool, room func(more int) bool) (due []row) {
	var over []alike
	for key, s := range p.sums {
		switch {
		case s.Count > 0 && (all || !now.Before(s.next)):
			over = append(over, key)
		case s.Count == 0 && (all || now.Sub(s.next) > lastWindow):
			delete(p.sums, key)
		}
	}
	slices.SortFunc(over, func(a, b alike) int { return cmp.Compare(a.grain, b.grain) })
	for _, key := range over {
		s := p.sums[key]
		r := s.written()
		switch {
		case all || room(len(due)) && p.allow(key.grain, &r, now):
			due = append(due, r)
			if all {
				delete(p.sums, key)
				continue
			}
			s.row, s.window = row{}, min(2*s.window, lastWindow)
			s.next = now.Add(s.window)
		case key.grain < whole:
			delete(p.sums, key)
			p.coarser(key.grain, &r, s.first, now)
		default:
			s.next = now.Add(coarseWindow)
		}
	}
	for at, l := range p.rates {
		if l.TokensAt(now) >= scopeBurst {
			delete(p.rates, at)
		}
	}
	slices.SortFunc(due, func(a, b row) int { return a.seen.Compare(b.seen) })
	return due
}
