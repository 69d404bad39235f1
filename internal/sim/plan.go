package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is what goes wrong.
type Kind string

// Faults of the schedule strike at a step; For says for how long.
const (
	// FreezeProxy and FreezeClient: it takes no step; the others go on.
	FreezeProxy  Kind = "freeze proxy"
	FreezeClient Kind = "freeze client"
	// Crash: a proxy ends without a word, and starts anew after For.
	Crash Kind = "crash proxy"
	// CutState and CutStore: a proxy cannot reach the state, or the store.
	CutState Kind = "cut from state"
	CutStore Kind = "cut from store"
	// StateDown: the database ends all sessions and answers nobody.
	StateDown Kind = "state down"
	// Clocks jump By: of a proxy, the database, a node of the store.
	ProxyClock Kind = "proxy clock"
	StateClock Kind = "state clock"
	StoreClock Kind = "store clock"
)

// Faults of messages strike each of them with a probability of its own.
const (
	LostRequest   Kind = "lost request"
	LostAnswer    Kind = "lost answer"
	SlowRequest   Kind = "slow request"
	SlowAnswer    Kind = "slow answer"
	TwiceRequest  Kind = "request delivered twice"
	CommitLost    Kind = "commit lost"
	CommitLate    Kind = "commit late"
	CommitUnheard Kind = "commit unheard"
	StateUnheard  Kind = "state unheard"
	StoreLost     Kind = "store request lost"
	StoreUnheard  Kind = "store answer lost"
	StoreSlow     Kind = "store slow"
	StoreTwice    Kind = "store request delivered twice"
	StoreBusy     Kind = "store busy"
	// StoreLate: the store answers 500 and does it later.
	StoreLate Kind = "store late"
	// StoreCut: the store's answer breaks off in its body.
	StoreCut Kind = "store answer cut"
	// StoreLies: it answers 200 to a Complete that it does not do, or stores other bytes
	// than it was sent and says so in the ETag.
	StoreLies Kind = "store lies"
	// StoreSkew: the last writer wins by the clocks of two nodes, which differ.
	StoreSkew Kind = "store skew"
	// FreezeUpload: a proxy is frozen when it is about to hear that its bytes are stored.
	FreezeUpload Kind = "freeze after upload"
)

// Fault is one of the schedule.
type Fault struct {
	Step int           `json:"step"`
	Kind Kind          `json:"kind"`
	Who  int           `json:"who"`
	For  time.Duration `json:"for,omitempty"`
	By   time.Duration `json:"by,omitempty"`
}

func (f Fault) String() string {
	return fmt.Sprintf("%s %d for %v by %v", f.Kind, f.Who, f.For, f.By)
}

// Plan is a schedule: what is asked for, and what goes wrong. The order of steps is
// the seed's.
type Plan struct {
	Seed    uint64 `json:"seed"`
	Proxies int    `json:"proxies"`
	// Shared: every two clients have one hand of tokens, as the workers of one holder.
	Shared bool `json:"shared"`
	// Clients has what each client does, in order; the last one is the operator.
	Clients [][]Order        `json:"clients"`
	Faults  []Fault          `json:"faults"`
	Rates   map[Kind]float64 `json:"rates"`
}

var scheduled = []Kind{FreezeProxy, FreezeClient, Crash, CutState, CutStore, StateDown, ProxyClock, StateClock, StoreClock}

// messages are the faults of messages with their highest rates.
var messages = map[Kind]float64{
	LostRequest: .06, LostAnswer: .08, SlowRequest: .08, SlowAnswer: .08, TwiceRequest: .06,
	CommitLost: .05, CommitLate: .06, CommitUnheard: .06, StateUnheard: .03,
	StoreLost: .04, StoreUnheard: .06, StoreSlow: .08, StoreTwice: .08, StoreBusy: .04, StoreLate: .06, StoreCut: .03, StoreLies: .05, StoreSkew: .2, FreezeUpload: .03,
}

// NewPlan makes the schedule of a seed. Each seed has faults of some kinds only, so
// that rare ones are not always drowned by others.
func NewPlan(seed uint64) *Plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &Plan{Seed: seed, Proxies: 2 + rng.IntN(2), Rates: map[Kind]float64{}}
	m := newMood(rng)
	p.Shared = rng.IntN(2) == 0 || m.keys == 1
	for range 3 + rng.IntN(3) {
		var orders []Order
		for range 10 + rng.IntN(16) {
			orders = append(orders, newOrder(rng, m))
		}
		p.Clients = append(p.Clients, orders)
	}
	var orders []Order
	for range rng.IntN(7) {
		orders = append(orders, newOperation(rng, m))
	}
	p.Clients = append(p.Clients, orders)
	if rng.IntN(12) == 0 {
		return p // nothing goes wrong
	}
	kinds := slices.Clone(scheduled)
	rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	kinds = kinds[:1+rng.IntN(len(kinds))]
	for range rng.IntN(9) {
		p.Faults = append(p.Faults, newFault(rng, kinds[rng.IntN(len(kinds))]))
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return a.Step - b.Step })
	for _, k := range sortedKinds(messages) {
		if share := rng.IntN(5); share > 2 {
			p.Rates[k] = messages[k] * rng.Float64()
		}
	}
	return p
}

func sortedKinds[V any](m map[Kind]V) []Kind {
	var ks []Kind
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

func newFault(rng *rand.Rand, k Kind) Fault {
	f := Fault{Step: rng.IntN(1500), Kind: k, Who: rng.IntN(8)}
	// Most are short; some outlast leases.
	f.For = time.Duration(rng.Int64N(int64(3 * time.Second)))
	if rng.IntN(3) == 0 {
		f.For = time.Duration(rng.Int64N(int64(40 * time.Second)))
	}
	switch k {
	case ProxyClock, StateClock, StoreClock:
		f.For = 0
		f.By = time.Duration(rng.Int64N(int64(6*time.Second))) - 3*time.Second
		if rng.IntN(3) == 0 {
			f.By = time.Duration(rng.Int64N(int64(20*time.Minute))) - 10*time.Minute
		}
	}
	return f
}
