package history

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/s3fence/s3fence/internal/fence"
)

// ErrUndecided is wrapped where a history was too large to be judged in time. It
// says nothing of the history, and is no pass.
var ErrUndecided = errors.New("the history could not be judged in time")

// Violation is a history that no order of its operations explains.
type Violation struct {
	// Scope and Key say which part it is; Key is empty where the scope was judged
	// as a whole.
	Scope, Key string
	// Ops are all operations of that part, by call.
	Ops []Op
	// Explained is the longest prefix in time that has an explanation: with the
	// operation that returned next, Culprit, it has none any more.
	Explained int
	Culprit   Op
}

// Error is a readable account of the operations, the culprit marked.
func (v *Violation) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no order of these %d operations in %s explains their answers; up to the marked one there is an order:\n", len(v.Ops), v.Scope+v.Key)
	for _, o := range v.Ops {
		mark := " "
		if v.is(o) {
			mark = "!"
		}
		back := fmt.Sprintf("%.3f", o.Return.Seconds())
		if o.Result == Unknown {
			back = "?"
		}
		fmt.Fprintf(&b, "%s %10.3f – %-10s s  %-12s %-8s %s\n", mark, o.Call.Seconds(), back, o.Client, o.Through, o)
	}
	return b.String()
}

func (v *Violation) is(o Op) bool {
	return o.Client == v.Culprit.Client && o.Call == v.Culprit.Call && o.Kind == v.Culprit.Kind && o.Key == v.Culprit.Key
}

// Options say how a history is judged; zero values stand for the defaults.
type Options struct {
	// Issuer is who makes the scopes' tokens; fence.Own where zero.
	Issuer fence.Issuer
	// Keys judges each key alone with the grants of its scope, for histories that
	// are too long as a whole. It cannot see in which order keys were written; a list
	// it takes as a read of each key, all between its call and its return.
	Keys bool
	// Within bounds the judging of each part; a minute where zero.
	Within time.Duration
}

// Judge returns nil for a correct history, a [*Violation] for another, or an
// error that wraps [ErrUndecided]. Parts of a history (scopes, or keys) are judged
// one after the other and all faults joined.
func Judge(ops []Op, o Options) error {
	if o.Issuer == "" {
		o.Issuer = fence.Own
	}
	if o.Within == 0 {
		o.Within = time.Minute
	}
	parts := split(ops, o.Keys)
	var faults []error
	for _, name := range slices.SortedFunc(maps.Keys(parts), func(a, b part) int {
		return strings.Compare(a.scope+a.key, b.scope+b.key)
	}) {
		if err := judge(name, sorted(parts[name]), o); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

type part struct{ scope, key string }

func split(ops []Op, keys bool) map[part][]Op {
	parts := map[part][]Op{}
	if !keys {
		for _, o := range ops {
			parts[part{o.Scope, ""}] = append(parts[part{o.Scope, ""}], o)
		}
		return parts
	}
	common := map[string][]Op{} // grants and lists, by scope
	for _, o := range ops {
		switch o.Kind {
		case Grant:
			common[o.Scope] = append(common[o.Scope], o)
		case List:
			common[o.Scope] = append(common[o.Scope], o)
			for key := range o.Shown {
				keyOfNobody := part{o.Scope, key} // perhaps
				if _, known := parts[keyOfNobody]; !known {
					parts[keyOfNobody] = nil
				}
			}
		default:
			parts[part{o.Scope, o.Key}] = append(parts[part{o.Scope, o.Key}], o)
		}
	}
	for p := range parts {
		for _, o := range common[p.scope] {
			if o.Kind == List {
				o = o.of(p.key)
			}
			parts[p] = append(parts[p], o)
		}
	}
	return parts
}

// of is what a list says of one key.
func (o Op) of(key string) Op {
	o.Kind, o.Key = Get, key
	if o.Result == OK {
		var is bool
		if o.Got, is = o.Shown[key]; !is {
			o.Result = Absent
		}
	}
	o.Shown = nil
	return o
}

func judge(p part, ops []Op, o Options) error {
	switch check(ops, o) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%w: %d operations in %s", ErrUndecided, len(ops), p.scope+p.key)
	}
	v := &Violation{Scope: p.scope, Key: p.key, Ops: ops}
	v.find(o)
	return v
}

// find looks for the shortest prefix in time without an explanation. Of a prefix,
// what has not returned yet is of unknown outcome; what was not called yet is
// left out. A prefix of a correct history is correct, so halving finds it.
func (v *Violation) find(o Options) {
	returns := slices.Clone(v.Ops)
	slices.SortStableFunc(returns, func(a, b Op) int { return int(a.Return - b.Return) })
	low, high := 0, len(returns) // low is explained, high is not
	for high-low > 1 {
		middle := (low + high) / 2
		if check(prefix(v.Ops, returns[middle-1].Return), o) == porcupine.Illegal {
			high = middle
		} else {
			low = middle
		}
	}
	v.Explained = low
	if high > 0 {
		v.Culprit = returns[high-1]
	}
}

// prefix is what was known of a history at a time.
func prefix(ops []Op, until time.Duration) []Op {
	var known []Op
	for _, o := range ops {
		switch {
		case o.Call > until:
			continue
		case o.Return > until && o.Token == 0 && (o.Kind == Get || o.Kind == List):
			continue // it changes nothing, and nobody was told
		case o.Return > until:
			o.Result, o.Granted = Unknown, 0
		}
		known = append(known, o)
	}
	return known
}

// open is the end of what has none.
const open = 1 << 62

// ends says when each operation has taken effect at the latest, by call. An unknown
// one has no end, unless a grant sets it: under tokens that s3fence issues, a write
// counts while its token is the mark, and a higher one was granted by the return of
// its grant. What comes after changes nothing, wherever it stands, and an order is
// found among fewer.
func ends(ops []Op, issuer fence.Issuer) []int64 {
	var raises []Op
	for _, o := range ops {
		if o.Kind == Grant && o.Result == OK {
			raises = append(raises, o)
		}
	}
	slices.SortFunc(raises, func(a, b Op) int { return cmp.Compare(a.Granted, b.Granted) })
	// earliest is the first return of a grant of this token or a higher one.
	earliest := make([]time.Duration, len(raises))
	for i := len(raises) - 1; i >= 0; i-- {
		earliest[i] = raises[i].Return
		if i+1 < len(raises) {
			earliest[i] = min(earliest[i], earliest[i+1])
		}
	}
	all := make([]int64, len(ops))
	for i, o := range ops {
		all[i] = int64(o.Return)
		if o.Result != Unknown {
			continue
		}
		all[i] = open
		above, _ := slices.BinarySearchFunc(raises, o.Token+1, func(g Op, t int64) int { return cmp.Compare(g.Granted, t) })
		if o.Token != 0 && issuer == fence.Own && above < len(raises) {
			all[i] = max(int64(o.Call)+1, int64(earliest[above]))
		}
	}
	return all
}

func check(ops []Op, o Options) porcupine.CheckResult {
	list := make([]porcupine.Operation, len(ops))
	back := ends(ops, o.Issuer)
	clients := map[string]int{}
	for i := range ops {
		op := &ops[i]
		if _, ok := clients[op.Client]; !ok {
			clients[op.Client] = len(clients)
		}
		list[i] = porcupine.Operation{ClientId: clients[op.Client], Input: op, Call: int64(op.Call), Output: nil, Return: back[i]}
	}
	return porcupine.CheckOperationsTimeout(model(o.Issuer), list, o.Within)
}

func model(issuer fence.Issuer) porcupine.Model {
	return (&porcupine.NondeterministicModel{
		Init: func() []any { return []any{register{}} },
		Step: func(state, in, _ any) []any {
			var after []any
			for _, r := range state.(register).step(issuer, in.(*Op)) {
				after = append(after, r)
			}
			return after
		},
		Equal: func(a, b any) bool { return a.(register).equal(b.(register)) },
	}).ToModel()
}
