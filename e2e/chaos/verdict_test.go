package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/history"
)

// harm is what a person would call damage; each kind counts writes, by what is wrong
// with them. What is counted here is certain: it rests on answers alone.
type harm struct {
	// former are acknowledged writes that were begun after somebody else had been
	// told of a higher token (F4).
	former map[string]bool
	// lost are acknowledged writes made from a value that another acknowledged write
	// was made from, too: one of the two did not know of the other (F5).
	lost map[string]bool
	// back are values of a lower token seen after one of a higher (F4).
	back map[string]bool
	// torn are parts that are older than a manifest that was read before them (F4).
	torn map[string]bool
}

// all are the harmful writes, each once.
func (h harm) all() map[string]bool {
	all := map[string]bool{}
	for _, kind := range []map[string]bool{h.former, h.lost, h.back, h.torn} {
		maps.Copy(all, kind)
	}
	return all
}

// heedful are those of writers that looked at their lease before.
func (h harm) heedful() int {
	n := 0
	for id := range h.all() {
		if !strings.Contains(id, fmt.Sprintf(".%d/", lanes-1)) {
			n++
		}
	}
	return n
}

func (h harm) String() string {
	return fmt.Sprintf("%d writes of former holders, %d lost updates, %d old values came back, %d torn publications", len(h.former), len(h.lost), len(h.back), len(h.torn))
}

// place is a key of a scope.
type place struct{ scope, key string }

func corruptions(ops []history.Op) harm {
	h := harm{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	h.formerHolders(ops)
	h.lostUpdates(ops)
	h.comeBacks(ops)
	h.tornPublications(ops)
	return h
}

func writes(o history.Op) bool { return o.Kind == history.Put || o.Kind == history.Delete }

// idOf names a write.
func idOf(o history.Op) string {
	if o.Kind == history.Delete {
		return fmt.Sprintf("%s/deleted at %v", o.Client, o.Call)
	}
	return parseWriting(o.Value).id()
}

func (h harm) formerHolders(ops []history.Op) {
	grants := map[string][]history.Op{}
	for _, o := range ops {
		if o.Kind == history.Grant && o.Result == history.OK {
			grants[o.Scope] = append(grants[o.Scope], o)
		}
	}
	// told is the highest token anybody had been told of by each grant's return.
	for _, g := range grants {
		slices.SortFunc(g, func(a, b history.Op) int { return cmp.Compare(a.Return, b.Return) })
		for i := 1; i < len(g); i++ {
			g[i].Granted = max(g[i].Granted, g[i-1].Granted)
		}
	}
	for _, o := range ops {
		if !writes(o) || o.Result != history.OK {
			continue
		}
		g := grants[o.Scope]
		n, _ := slices.BinarySearchFunc(g, o.Call, func(g history.Op, t time.Duration) int { return cmp.Compare(g.Return, t) })
		if n > 0 && g[n-1].Granted > o.Token {
			h.former[idOf(o)] = true
		}
	}
}

func (h harm) lostUpdates(ops []history.Op) {
	type origin struct {
		place
		parent string
	}
	first := map[origin]history.Op{}
	for _, o := range ops {
		w := parseWriting(o.Value)
		if o.Kind != history.Put || o.Result != history.OK || w.parent == "" {
			continue
		}
		at := origin{place{o.Scope, o.Key}, w.parent}
		other, both := first[at]
		if both && other.Return > o.Return {
			other, o = o, other
		}
		if both {
			h.lost[idOf(o)] = true
			o = other
		}
		first[at] = o
	}
}

// comeBacks compares what each read shows with what reads and writes that had
// returned before its call showed.
func (h harm) comeBacks(ops []history.Op) {
	type seen struct {
		at    time.Duration
		token int64
	}
	witnesses := map[place][]seen{}
	for _, o := range ops {
		at := place{o.Scope, o.Key}
		switch {
		case o.Result != history.OK:
		case o.Kind == history.Put:
			witnesses[at] = append(witnesses[at], seen{o.Return, o.Token})
		case o.Kind == history.Get:
			witnesses[at] = append(witnesses[at], seen{o.Return, parseWriting(o.Got).token})
		}
	}
	for _, all := range witnesses {
		slices.SortFunc(all, func(a, b seen) int { return cmp.Compare(a.at, b.at) })
		for i := 1; i < len(all); i++ {
			all[i].token = max(all[i].token, all[i-1].token)
		}
	}
	for _, o := range ops {
		if o.Kind != history.Get || o.Result != history.OK {
			continue
		}
		w := parseWriting(o.Got)
		all := witnesses[place{o.Scope, o.Key}]
		n, _ := slices.BinarySearchFunc(all, o.Call, func(s seen, t time.Duration) int { return cmp.Compare(s.at, t) })
		if n > 0 && all[n-1].token > w.token {
			h.back[w.id()] = true
		}
	}
}

// tornPublications: parts are written before their manifest, under its token, and
// are never deleted. Whoever reads the manifest and then a part sees that part or a
// later one.
func (h harm) tornPublications(ops []history.Op) {
	byClient := map[string][]history.Op{}
	for _, o := range ops {
		byClient[o.Client] = append(byClient[o.Client], o)
	}
	for _, ops := range byClient {
		slices.SortFunc(ops, func(a, b history.Op) int { return cmp.Compare(a.Call, b.Call) })
		shown := map[string]writing{} // manifests by scope
		for _, o := range ops {
			switch {
			case o.Kind != history.Get:
			case o.Key == manifest:
				shown[o.Scope] = parseWriting(o.Got)
			case slices.Contains(publicationParts, o.Key):
				m, part := shown[o.Scope], parseWriting(o.Got)
				if part.token < m.token || part.token == m.token && part.publication < m.publication {
					h.torn[cmp.Or(part.id(), "nothing in the place of "+m.id())] = true
				}
			}
		}
	}
}

// sameTokens are tokens that were granted twice, in one scope or in two (F2).
func sameTokens(ops []history.Op) (twice []int64) {
	seen := map[int64]bool{}
	for _, o := range ops {
		if o.Kind != history.Grant || o.Result != history.OK {
			continue
		}
		if seen[o.Granted] {
			twice = append(twice, o.Granted)
		}
		seen[o.Granted] = true
	}
	return twice
}

// named puts values where lists have ETags. An ETag that nobody's value has stays,
// and is a value that nobody wrote.
func named(ops []history.Op) {
	values := map[string]string{}
	for _, o := range ops {
		if o.Kind == history.Put {
			for _, etag := range etags(o.Value) {
				values[etag] = o.Value
			}
		}
	}
	for _, o := range ops {
		for key, etag := range o.Shown {
			o.Shown[key] = cmp.Or(values[etag], "ETag "+etag)
		}
	}
}
