package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/history"
)

// inTurn places operations of one scope one after the other.
func inTurn(ops ...history.Op) []history.Op {
	for i := range ops {
		o := &ops[i]
		o.Scope, o.Call, o.Return = "s", time.Duration(2*i+1), time.Duration(2*i+2)
		if o.Client == "" {
			o.Client = "w0.0"
		}
		if o.Result == "" {
			o.Result = history.OK
		}
	}
	return ops
}

func wrote(key string, v writing) history.Op {
	return history.Op{Kind: history.Put, Key: key, Token: v.token, Client: v.client, Value: v.String()}
}

func read(key string, v writing) history.Op {
	o := history.Op{Kind: history.Get, Key: key, Got: v.String()}
	if v.client == "" {
		o.Got, o.Result = "", history.Absent
	}
	return o
}

func granted(token int64) history.Op { return history.Op{Kind: history.Grant, Granted: token} }

// TestCorruptions: each kind of harm is counted where it is, and none where it is not.
func TestCorruptions(t *testing.T) {
	t.Parallel()
	a, b := writing{token: 1, client: "w1.0", serial: 1}, writing{token: 2, client: "w2.0", serial: 1}
	fromA := func(w writing, serial int) writing { w.serial, w.parent = serial, a.id(); return w }
	published := func(token int64, n, serial int) writing {
		return writing{token: token, client: fmt.Sprint("w", token, ".0"), serial: serial, publication: n}
	}
	unknown := func(o history.Op) history.Op { o.Result = history.Unknown; return o }
	remove := history.Op{Kind: history.Delete, Key: "k", Token: 1, Client: "w1.0"}
	for name, c := range map[string]struct {
		ops                      []history.Op
		former, lost, back, torn int
	}{
		"in turn":                     {inTurn(granted(1), wrote("k", a), granted(2), read("k", a), wrote("k", b), read("k", b)), 0, 0, 0, 0},
		"a write of a former holder":  {inTurn(granted(1), granted(2), wrote("k", a)), 1, 0, 0, 0},
		"a delete of one":             {inTurn(granted(1), granted(2), remove), 1, 0, 0, 0},
		"told in another order":       {inTurn(granted(2), granted(1), wrote("k", a)), 1, 0, 0, 0},
		"one that nobody heard of":    {inTurn(granted(1), granted(2), unknown(wrote("k", a))), 0, 0, 0, 0},
		"two from one value":          {inTurn(wrote("k", a), wrote("k", fromA(a, 2)), wrote("k", fromA(b, 3))), 0, 1, 0, 0},
		"of another key":              {inTurn(wrote("k", a), wrote("k", fromA(a, 2)), wrote("l", fromA(b, 3))), 0, 0, 0, 0},
		"one of two may never be":     {inTurn(wrote("k", a), unknown(wrote("k", fromA(a, 2))), wrote("k", fromA(b, 3))), 0, 0, 0, 0},
		"an old value after a read":   {inTurn(read("k", b), read("k", a)), 0, 0, 1, 0},
		"an old value after a write":  {inTurn(wrote("k", b), read("k", a)), 0, 0, 1, 0},
		"an old value of another key": {inTurn(wrote("k", b), read("l", a)), 0, 0, 0, 0},
		"an older part":               {inTurn(read(manifest, published(2, 1, 4)), read("part-a", published(1, 7, 1))), 0, 0, 0, 1},
		"a part of the one before":    {inTurn(read(manifest, published(2, 2, 8)), read("part-a", published(2, 1, 1))), 0, 0, 0, 1},
		"a part that is not there":    {inTurn(read(manifest, published(2, 2, 8)), read("part-a", writing{})), 0, 0, 0, 1},
		"a newer part":                {inTurn(read(manifest, published(2, 2, 8)), read("part-a", published(2, 3, 9)), read("part-b", published(3, 1, 1))), 0, 0, 0, 0},
		"no manifest yet":             {inTurn(read(manifest, writing{}), read("part-a", published(2, 3, 9))), 0, 0, 0, 0},
	} {
		h := corruptions(c.ops)
		if len(h.former) != c.former || len(h.lost) != c.lost || len(h.back) != c.back || len(h.torn) != c.torn {
			t.Errorf("%s: %v", name, h)
		}
	}
	overlapping := inTurn(read("k", b), read("k", a))
	overlapping[0].Return = overlapping[1].Return
	if h := corruptions(overlapping); len(h.all()) != 0 {
		t.Errorf("reads at one time may show either: %v", h)
	}
	if twice := sameTokens(inTurn(granted(1), granted(2), granted(1))); len(twice) != 1 {
		t.Errorf("a token was granted twice: %v", twice)
	}
}

// TestGather: what was sent and never answered is unknown, also where its writer was
// killed in the middle of a line; what had no effect is left out.
func TestGather(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := newRecorder(filepath.Join(dir, "w0.jsonl"), now())
	if err != nil {
		t.Fatal(err)
	}
	l := r.call(history.Op{Kind: history.Put, Key: "answered"})
	l.Result = history.OK
	r.back(l)
	l = r.call(history.Op{Kind: history.Put, Key: "refused"})
	l.Nothing, l.Odd = true, "418 Teapot"
	r.back(l)
	r.call(history.Op{Kind: history.Get, Key: "a read without an answer"})
	r.call(history.Op{Kind: history.Put, Key: "sent"})
	if _, err := r.file.WriteString(`{"id":4,"kind":"put","key":"se`); err != nil {
		t.Fatal(err)
	}
	end := now() - r.begin + time.Second
	ops, odd := gather(t, dir, end)
	if len(ops) != 2 || ops[0].Key != "answered" || ops[0].Result != history.OK || ops[0].Return <= ops[0].Call ||
		ops[1].Key != "sent" || ops[1].Result != history.Unknown || ops[1].Return != end {
		t.Errorf("%+v", ops)
	}
	if odd["put: 418 Teapot"] != 1 {
		t.Errorf("%v", odd)
	}
	if err := os.WriteFile(filepath.Join(dir, "w1.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, _ := gather(t, dir, end); len(again) != 2 {
		t.Errorf("a worker that wrote nothing is no fault: %v", again)
	}
}

// TestValues: what a value says of itself is read again, and a body that was changed
// is not taken for it.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, w := range []writing{
		{token: 7, client: "w3''.1", serial: 12, parent: "w1.0/4"},
		{token: 1 << 41, client: "heir", serial: 1, publication: 3},
		{token: 7, client: "w3.1", serial: 12, padding: 1000},
	} {
		if again := parseWriting(w.String()); again != w {
			t.Errorf("%v is read as %+v", w, again)
		}
		text := body(w.String())
		if got := valueOf(text); got != w.String() {
			t.Errorf("%.40q", got)
		}
		if got := valueOf(text[:len(text)-1]); got == w.String() && w.padding > 0 {
			t.Error("half a body passes for the whole")
		}
	}
}
