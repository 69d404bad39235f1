//go:build !pausepoints

package sealed

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/s3fence/s3fence/internal/fence"
)

// A history is what clients asked of a scope and what they were told, in real
// time. It is judged by the plainest fenced store there is (register): a mark and
// a few keys, one operation after the other.

// asked is the question of one operation.
type asked struct {
	kind  kind
	key   int
	token fence.Token
	// value is what a put writes; each is written once.
	value string
	// create and match are If-None-Match: * and If-Match with the ETag of a value.
	create bool
	match  string
}

type kind int

const (
	grants kind = iota
	puts
	deletes
	gets
)

// told is the answer. Operations that were answered "did not happen, may be sent
// again" (503) are left out of histories: whatever they did shows as something
// that nobody asked for (F7).
type told struct {
	result answer
	value  string      // of a get
	token  fence.Token // of a grant
}

// answer is how an operation ended.
type answer int

const (
	ok      answer = iota
	stale          // the token is below the mark
	failed         // the condition is false
	absent         // there is no such object
	unknown        // it may have happened, or may still
)

// register is the state of the model. marks are doubled: an odd one is that of a
// grant nobody was told of, above the even one below it.
type register struct {
	mark int64
	keys [historyKeys]string
}

const historyKeys = 3

func double(t fence.Token) int64 { return 2 * int64(t) }

// step gives the states that an operation may leave, none if its answer was wrong.
func step(before register, in asked, out told) []register {
	holds := double(in.token) == before.mark
	switch in.kind {
	case grants:
		after := before
		switch {
		case out.result == unknown:
			after.mark |= 1
			return []register{before, after}
		case double(out.token) <= before.mark: // F1, F2
			return nil
		}
		after.mark = double(out.token)
		return []register{after}
	case gets:
		if in.token != 0 && !holds { // F3
			return only(before, out.result == stale && double(in.token) < before.mark)
		}
		now := before.keys[in.key]
		if out.result == absent {
			return only(before, now == "")
		}
		return only(before, out.result == ok && now != "" && out.value == now) // F5, F6
	}
	after := before
	after.keys[in.key] = in.value // "" for deletes
	now := before.keys[in.key]
	possible := holds && (!in.create || now == "") && (in.match == "" || in.match == now)
	switch out.result {
	case ok:
		return only(after, possible) // F4, F10
	case stale:
		return only(before, double(in.token) < before.mark)
	case failed:
		return only(before, holds && (in.create && now != "" || in.match != "" && now != "" && now != in.match))
	case absent:
		return only(before, holds && in.match != "" && now == "")
	case unknown:
		if possible {
			return []register{before, after}
		}
		return []register{before}
	}
	return nil
}

func only(r register, allowed bool) []register {
	if allowed {
		return []register{r}
	}
	return nil
}

var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{register{}} },
	Step: func(state, in, out any) []any {
		var after []any
		for _, r := range step(state.(register), in.(asked), out.(told)) {
			after = append(after, r)
		}
		return after
	},
	DescribeOperation: func(in, out any) string { return in.(asked).String() + " -> " + out.(told).String() },
}).ToModel()

func (a asked) String() string {
	s := fmt.Sprintf("%s key %d token %d", [...]string{"grant", "put", "delete", "get"}[a.kind], a.key, a.token)
	if a.value != "" {
		s += " value " + a.value
	}
	if a.create {
		s += " if absent"
	}
	if a.match != "" {
		s += " if it is " + a.match
	}
	return s
}

func (o told) String() string {
	s := [...]string{"ok", "stale", "412", "404", "unknown"}[o.result]
	if o.value != "" {
		s += " " + o.value
	}
	if o.token != 0 {
		s += fmt.Sprintf(" token %d", o.token)
	}
	return s
}

func etagOf(value string) string {
	sum := md5.Sum([]byte(value))
	return hex.EncodeToString(sum[:])
}

// history gathers operations.
type history struct {
	mu    sync.Mutex
	ops   []porcupine.Operation
	begun time.Time
}

// now is a moment of the history.
func (h *history) now() int64 { return int64(time.Since(h.begun)) }

// add records an operation that was called at a moment and has just returned. One
// of unknown outcome never returns: it may take effect at any time.
func (h *history) add(client int, call int64, in asked, out told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	back := h.now()
	if out.result == unknown {
		back = 1 << 62
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: back})
}

// judge fails the test unless some order of the operations explains every answer.
func (h *history) judge(t *testing.T) {
	t.Helper()
	if got := porcupine.CheckOperationsTimeout(model, h.ops, time.Minute); got == porcupine.Ok {
		return
	} else if got == porcupine.Unknown {
		t.Fatal("the history could not be judged in time")
	}
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var b strings.Builder
	for _, op := range h.ops {
		fmt.Fprintf(&b, "%10.3f – %10.3f ms  client %d  %s\n", float64(op.Call)/1e6, float64(op.Return)/1e6, op.ClientId, model.DescribeOperation(op.Input, op.Output))
	}
	t.Fatalf("no order of these operations explains their answers:\n%s", b.String())
}

// TestModel: the judge itself refuses what it must, or every history would pass.
func TestModel(t *testing.T) {
	t.Parallel()
	grant := func(tok fence.Token) (asked, told) { return asked{kind: grants}, told{token: tok} }
	put := func(tok fence.Token, v string) asked { return asked{kind: puts, token: tok, value: v} }
	get := func(tok fence.Token) asked { return asked{kind: gets, token: tok} }
	for _, c := range []struct {
		name string
		good bool
		ops  func(add func(asked, told))
	}{
		{"a grant, a write, a read", true, func(add func(asked, told)) {
			add(grant(1))
			add(put(1, "a"), told{})
			add(get(1), told{value: "a"})
		}},
		{"a write of a lower token after a grant", false, func(add func(asked, told)) { // F4
			add(grant(1))
			add(grant(2))
			add(put(1, "a"), told{})
		}},
		{"a refused write that shows", false, func(add func(asked, told)) { // F7
			add(grant(1))
			add(grant(2))
			add(put(1, "a"), told{result: stale})
			add(get(0), told{value: "a"})
		}},
		{"an acknowledged write that is not there", false, func(add func(asked, told)) { // F6
			add(grant(1))
			add(put(1, "a"), told{})
			add(get(0), told{result: absent})
		}},
		{"a token granted twice", false, func(add func(asked, told)) { // F2
			add(grant(2))
			add(grant(2))
		}},
		{"stale although it is not", false, func(add func(asked, told)) { // F7
			add(grant(1))
			add(put(1, "a"), told{result: stale})
		}},
		{"two that create", false, func(add func(asked, told)) { // F10
			add(grant(1))
			first, second := put(1, "a"), put(1, "b")
			first.create, second.create = true, true
			add(first, told{})
			add(second, told{})
		}},
		{"an unknown write that shows, or does not", true, func(add func(asked, told)) {
			add(grant(1))
			add(put(1, "a"), told{result: unknown})
			add(get(0), told{result: absent})
			add(get(0), told{value: "a"})
		}},
		{"an unknown write that shows after a takeover", false, func(add func(asked, told)) { // F5
			add(grant(1))
			add(put(1, "a"), told{result: unknown})
			add(grant(2))
			add(get(2), told{result: absent})
			add(get(2), told{value: "a"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := &history{begun: time.Now()}
			c.ops(func(in asked, out told) { h.add(0, h.now(), in, out) })
			if got := porcupine.CheckOperations(model, h.ops); got != c.good {
				t.Fatalf("judged %v", got)
			}
		})
	}
}
