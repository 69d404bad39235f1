package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/history"
)

const scope = "s3://data/a/"

func grant(t int64) history.Op {
	return history.Op{Kind: history.Grant, Result: history.OK, Granted: t}
}

func put(t int64, value string, r history.Result) history.Op {
	return history.Op{Kind: history.Put, Key: "k", Token: t, Value: value, Result: r}
}

func create(t int64, value string, r history.Result) history.Op {
	o := put(t, value, r)
	o.Create = true
	return o
}

func swap(t int64, old, value string, r history.Result) history.Op {
	o := put(t, value, r)
	o.Match = old
	return o
}

func remove(t int64, r history.Result) history.Op {
	return history.Op{Kind: history.Delete, Key: "k", Token: t, Result: r}
}

func get(t int64, got string) history.Op {
	o := history.Op{Kind: history.Get, Key: "k", Token: t, Result: history.OK, Got: got}
	if got == "" {
		o.Result = history.Absent
	}
	return o
}

func list(t int64, shown map[string]string) history.Op {
	return history.Op{Kind: history.List, Token: t, Result: history.OK, Shown: shown}
}

// inTurn places operations one after the other.
func inTurn(ops ...history.Op) []history.Op {
	for i := range ops {
		ops[i].Client, ops[i].Scope = "c", scope
		ops[i].Call, ops[i].Return = time.Duration(2*i+1), time.Duration(2*i+2)
	}
	return ops
}

// TestJudge: the judge refuses what it must, or every history would pass, and lets
// pass what may be.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		issuer fence.Issuer
		breaks string // empty for a correct history
		ops    []history.Op
	}{
		{"a grant, a write, a read", fence.Own, "", inTurn(grant(1), put(1, "a", history.OK), get(1, "a"), list(1, map[string]string{"k": "a"}))},
		{"a token granted twice", fence.Own, "F2", inTurn(grant(2), grant(2))},
		{"a mark that falls", fence.Own, "F1", inTurn(grant(2), grant(1))},
		{"a fenced read under an old token", fence.Own, "F3", inTurn(grant(1), grant(2), get(1, ""))},
		{"a write of a lower token after a grant", fence.Own, "F4", inTurn(grant(1), grant(2), put(1, "a", history.OK))},
		{"a delete of a lower token after a grant", fence.Own, "F4", inTurn(grant(1), put(1, "a", history.OK), grant(2), remove(1, history.OK))},
		{"a write under a token above the mark", fence.Own, "F8", inTurn(grant(1), put(2, "a", history.OK))},
		{"a fenced read without what was acknowledged", fence.Own, "F5", inTurn(grant(1), put(1, "a", history.OK), grant(2), get(2, ""))},
		{"an unknown write that shows after a takeover", fence.Own, "F5", inTurn(grant(1), put(1, "a", history.Unknown), grant(2), get(2, ""), get(2, "a"))},
		{"an unknown delete that strikes after a takeover", fence.Own, "F5", inTurn(grant(1), put(1, "a", history.OK), remove(1, history.Unknown), grant(2), get(2, "a"), get(2, ""))},
		{"an acknowledged write that is not there", fence.Own, "F6", inTurn(grant(1), put(1, "a", history.OK), get(0, ""))},
		{"an acknowledged write that is not listed", fence.Own, "F6", inTurn(grant(1), put(1, "a", history.OK), list(0, nil))},
		{"an older value that comes back", fence.Own, "F6", inTurn(grant(1), put(1, "a", history.OK), put(1, "b", history.OK), get(0, "a"))},
		{"a refused write that shows", fence.Own, "F7", inTurn(grant(1), grant(2), put(1, "a", history.Stale), get(0, "a"))},
		{"a value that nobody wrote", fence.Own, "F7", inTurn(grant(1), get(0, "a"))},
		{"stale although it is not", fence.Own, "F7", inTurn(grant(1), put(1, "a", history.Stale))},
		{"two that create", fence.Own, "F10", inTurn(grant(1), create(1, "a", history.OK), create(1, "b", history.OK))},
		{"two swaps of one value", fence.Own, "F10", inTurn(grant(1), put(1, "a", history.OK), swap(1, "a", "b", history.OK), swap(1, "a", "c", history.OK))},
		{"a swap that fails although it should not", fence.Own, "F10", inTurn(grant(1), put(1, "a", history.OK), swap(1, "a", "b", history.Failed))},
		{"a swap of nothing", fence.Own, "", inTurn(grant(1), swap(1, "a", "b", history.Absent))},
		{"a grant nobody was told of", fence.Own, "", inTurn(grant(1), history.Op{Kind: history.Grant, Result: history.Unknown}, put(1, "a", history.Stale), grant(3), put(3, "b", history.OK))},
		{"an unknown write that shows late", fence.Own, "", inTurn(grant(1), put(1, "a", history.Unknown), get(0, ""), get(0, "a"))},
		{"an unknown write that shows and goes", fence.Own, "F6", inTurn(grant(1), put(1, "a", history.Unknown), get(0, "a"), get(0, ""))},

		{"tokens of others raise the mark", fence.External, "", inTurn(put(5, "a", history.OK), put(7, "b", history.OK), put(5, "c", history.Stale), get(7, "b"))},
		{"a fenced read raises the mark", fence.External, "", inTurn(get(7, ""), put(5, "a", history.Stale))},
		{"a write below a fenced read", fence.External, "F5", inTurn(get(7, ""), put(5, "a", history.OK))},
		{"a refused condition raises the mark", fence.External, "F4", inTurn(put(5, "a", history.OK), create(7, "b", history.Failed), put(5, "c", history.OK))},
		{"an unknown write may have raised the mark", fence.External, "", inTurn(put(5, "a", history.OK), put(7, "b", history.Unknown), put(5, "c", history.Stale))},
		{"a list below the mark", fence.External, "F3", inTurn(put(7, "a", history.OK), list(5, map[string]string{"k": "a"}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, keys := range []bool{false, true} {
				o := history.Options{Issuer: c.issuer, Keys: keys}
				if keys && onlyTheScopeShows(c.ops) {
					continue
				}
				err := history.Judge(c.ops, o)
				if (err == nil) != (c.breaks == "") {
					t.Fatalf("keys %v: breaks %q, judged %v", keys, c.breaks, err)
				}
				var v *history.Violation
				if err == nil {
					continue
				}
				if !errors.As(err, &v) {
					t.Fatal(err)
				}
				// All went well up to the last operation, which is the one that cannot be.
				last, culprit := c.ops[len(c.ops)-1], v.Culprit
				if keys && last.Kind == history.List {
					last, culprit = history.Op{Call: last.Call}, history.Op{Call: culprit.Call} // it is the read of a key
				}
				if !reflect.DeepEqual(culprit, last) || v.Explained != len(v.Ops)-1 {
					t.Errorf("the culprit is %v after %d, want %v", v.Culprit, v.Explained, last)
				}
				if !strings.Contains(err.Error(), "\n! ") {
					t.Errorf("the culprit is not marked:\n%v", err)
				}
			}
		})
	}
}

// onlyTheScopeShows: keys judged one by one cannot see it.
func onlyTheScopeShows(ops []history.Op) bool {
	return !slices.ContainsFunc(ops, func(o history.Op) bool { return o.Key != "" || len(o.Shown) > 0 })
}

// TestJudgeOverlap: what overlaps may have been in either order, across scopes
// nothing is compared.
func TestJudgeOverlap(t *testing.T) {
	t.Parallel()
	ops := inTurn(grant(1), put(1, "a", history.OK), put(1, "b", history.OK), get(1, "a"))
	if history.Judge(ops, history.Options{}) == nil {
		t.Error("b was there and went")
	}
	ops[1].Return = ops[2].Return
	if err := history.Judge(ops, history.Options{}); err != nil {
		t.Errorf("a may have been later: %v", err)
	}
	other := inTurn(grant(1))
	other[0].Scope = "s3://data/b/"
	if err := history.Judge(append(ops, other...), history.Options{}); err != nil {
		t.Errorf("another scope's token is of no account: %v", err)
	}
}

// TestJudgeManyUnknown: writes of unknown outcome are no burden once their tokens are
// stale. Were they open for ever, each subset of them would be tried.
func TestJudgeManyUnknown(t *testing.T) {
	t.Parallel()
	var ops []history.Op
	for holder := range int64(60) {
		ops = append(ops, grant(holder+1), put(holder+1, fmt.Sprint("u", holder), history.Unknown), put(holder+1, fmt.Sprint("v", holder), history.OK), get(0, fmt.Sprint("v", holder)))
	}
	ops = inTurn(append(ops, get(0, "v3"))...)
	var v *history.Violation
	if err := history.Judge(ops, history.Options{Within: 30 * time.Second}); !errors.As(err, &v) {
		t.Fatalf("an old value came back: %v", err)
	}
	if err := history.Judge(ops[:len(ops)-1], history.Options{Within: 30 * time.Second}); err != nil {
		t.Error(err)
	}
}

// TestJudgeListsByKey: a key that only lists show is judged, too.
func TestJudgeListsByKey(t *testing.T) {
	t.Parallel()
	ops := inTurn(grant(1), put(1, "a", history.OK), list(0, map[string]string{"k": "a", "ghost": "b"}))
	if err := history.Judge(ops, history.Options{Keys: true}); err == nil || !strings.Contains(err.Error(), "ghost") {
		t.Errorf("nobody wrote ghost: %v", err)
	}
}

// TestRecorded: what is written is read again.
func TestRecorded(t *testing.T) {
	t.Parallel()
	r := history.NewRecorder(nil)
	for _, o := range []history.Op{grant(1), create(1, "a", history.OK), list(1, map[string]string{"k": "a"}), remove(1, history.Unknown)} {
		o.Client, o.Scope, o.Call = "c", scope, r.Now()
		r.Add(o)
	}
	var b bytes.Buffer
	if err := history.Write(&b, r.Ops()); err != nil {
		t.Fatal(err)
	}
	again, err := history.Read(&b)
	if err != nil || !reflect.DeepEqual(again, r.Ops()) {
		t.Fatalf("%v: %v, want %v", err, again, r.Ops())
	}
	if _, err := history.Read(strings.NewReader("{\"client\":1}\n")); err == nil || !strings.Contains(err.Error(), "operation 1") {
		t.Errorf("a broken file: %v", err)
	}
}
