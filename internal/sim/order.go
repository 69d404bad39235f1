package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Action is what a client does.
type Action string

// The actions of clients.
const (
	Acquire Action = "acquire"
	Take    Action = "take"
	Renew   Action = "renew"
	Release Action = "release"
	Put     Action = "put"
	PutBig  Action = "put big"
	Get     Action = "get"
	List    Action = "list"
	Delete  Action = "delete"
	Batch   Action = "delete batch"
	Copy    Action = "copy"
	Upload  Action = "upload"
	// Carry has the client send its token in fenced credentials from then on.
	Carry Action = "carry"
)

// The actions of the operator.
const (
	AddGuard    Action = "add guard"
	RemoveGuard Action = "remove guard"
	Raise       Action = "raise"
	Reset       Action = "reset"
)

// Order is one thing to do, after a pause.
type Order struct {
	Do    Action        `json:"do"`
	After time.Duration `json:"after"`
	Scope int           `json:"scope"`
	Key   int           `json:"key"`
	// Proxy is where it begins; retries go on from there.
	Proxy int `json:"proxy"`
	// If is 1 for If-None-Match: *, 2 for If-Match. Fenced says whether a read
	// presents the token.
	If     int  `json:"if,omitempty"`
	Fenced bool `json:"fenced,omitempty"`
	// Tries is how often it is sent at most; N is what else there is to choose.
	Tries int `json:"tries"`
	N     int `json:"n"`
}

func (o Order) String() string {
	return fmt.Sprintf("%s %s%d via p%d", o.Do, scopes[o.Scope].prefix, o.Key, o.Proxy)
}

// share is how often something is done, of the sum of all shares.
type share struct {
	do    Action
	share int
}

// Some seeds have a few actions only, so that they meet: holders that take a scope from
// one another, and writers that swap.
var (
	allActions = []share{
		{Acquire, 10}, {Take, 7}, {Renew, 3}, {Release, 3}, {Put, 34}, {PutBig, 1}, {Get, 14}, {List, 6}, {Delete, 7}, {Batch, 3}, {Copy, 4}, {Upload, 4}, {Carry, 2},
	}
	duel = []share{{Take, 18}, {Put, 50}, {Get, 20}, {List, 10}, {Delete, 6}}
	swap = []share{{Take, 3}, {Put, 60}, {Delete, 24}, {Get, 12}}
)

// mood is what all orders of a seed have in common: how close together they come, in
// time and in place.
type mood struct {
	pause time.Duration
	keys  int
	// home is how many of ten orders are for the first scope, conditions how many of ten
	// are conditional.
	home, conditions int
	shares           []share
}

func newMood(rng *rand.Rand) mood {
	m := mood{
		shares: allActions, conditions: 4,
		pause: []time.Duration{time.Millisecond, 10 * time.Millisecond, 400 * time.Millisecond}[rng.IntN(3)],
		keys:  1 + rng.IntN(keysOfAScope), home: []int{9, 9, 4}[rng.IntN(3)],
	}
	switch rng.IntN(4) {
	case 0:
		m.shares, m.pause, m.home = duel, time.Millisecond, 10
	case 1:
		m.shares, m.pause, m.home, m.conditions, m.keys = swap, time.Millisecond, 10, 8, 1
	}
	return m
}

const keysOfAScope = 3

func newOrder(rng *rand.Rand, m mood) Order {
	sum := 0
	for _, c := range m.shares {
		sum += c.share
	}
	o := Order{
		After: time.Duration(rng.Int64N(int64(m.pause))), Key: rng.IntN(m.keys), Proxy: rng.IntN(3),
		Fenced: rng.IntN(2) == 0, Tries: 1 + rng.IntN(3), N: rng.IntN(1000),
	}
	if rng.IntN(10) == 0 {
		o.After *= 20
	}
	if rng.IntN(10) >= m.home {
		o.Scope = 1 + rng.IntN(3)
	}
	if n := rng.IntN(10); n < m.conditions {
		o.If = 1 + n%2
	}
	n := rng.IntN(sum)
	for _, c := range m.shares {
		if n -= c.share; n < 0 {
			o.Do = c.do
			break
		}
	}
	return o
}

func newOperation(rng *rand.Rand, m mood) Order {
	o := newOrder(rng, m)
	o.After *= 2
	switch n := rng.IntN(10); {
	case n < 5:
		o.Do, o.Scope = AddGuard, 3
	case n < 7:
		o.Do, o.Scope = RemoveGuard, 3
	case n < 9:
		o.Do, o.Scope = Raise, rng.IntN(3)
	default:
		o.Do, o.Scope = Reset, 2
	}
	return o
}
