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

// chances of the actions, of their sum.
var chances = []struct {
	do    Action
	share int
}{
	{Acquire, 10}, {Take, 7}, {Renew, 3}, {Release, 3}, {Put, 34}, {PutBig, 1}, {Get, 14}, {List, 6}, {Delete, 7}, {Batch, 3}, {Copy, 4}, {Upload, 4}, {Carry, 2},
}

func newOrder(rng *rand.Rand) Order {
	sum := 0
	for _, c := range chances {
		sum += c.share
	}
	o := Order{
		After: time.Duration(rng.Int64N(int64(400 * time.Millisecond))), Key: rng.IntN(3), Proxy: rng.IntN(3),
		Fenced: rng.IntN(2) == 0, Tries: 1 + rng.IntN(3), N: rng.IntN(1000),
	}
	if rng.IntN(10) == 0 {
		o.After *= 20
	}
	switch n := rng.IntN(10); {
	case n < 5:
	case n < 6:
		o.Scope = 1
	case n < 8:
		o.Scope = 2
	default:
		o.Scope = 3
	}
	if n := rng.IntN(10); n < 4 {
		o.If = 1 + n/2
	}
	n := rng.IntN(sum)
	for _, c := range chances {
		if n -= c.share; n < 0 {
			o.Do = c.do
			break
		}
	}
	return o
}

func newOperation(rng *rand.Rand) Order {
	o := newOrder(rng)
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
