package history

import (
	"maps"

	"github.com/s3fence/s3fence/internal/fence"
)

// register is a scope as it should be: a mark and a few keys. Marks are doubled: an
// odd one is that of a grant nobody was told of, somewhere above the even one
// below it. Values are never changed in place, so that states can share them.
type register struct {
	mark int64
	keys map[string]string
}

func double(t int64) int64 { return 2 * t }

func (r register) equal(o register) bool { return r.mark == o.mark && maps.Equal(r.keys, o.keys) }

// with returns the register after a write, "" for a delete.
func (r register) with(key, value string) register {
	keys := maps.Clone(r.keys)
	if keys == nil {
		keys = map[string]string{}
	}
	if value == "" {
		delete(keys, key)
	} else {
		keys[key] = value
	}
	return register{r.mark, keys}
}

func (r register) marked(mark int64) register { return register{mark, r.keys} }

// step gives the states that an operation may leave, none if its answer was wrong.
func (r register) step(issuer fence.Issuer, o *Op) []register {
	if o.Kind == Grant {
		return r.grant(o)
	}
	// at is the register under the operation's token, and holds whether that is
	// admitted. Tokens of others raise the mark when they are first used.
	at, holds := r, double(o.Token) == r.mark
	if issuer == fence.External && o.Token != 0 && double(o.Token) >= r.mark {
		at, holds = r.marked(double(o.Token)), true
	}
	below := double(o.Token) < r.mark
	switch o.Kind {
	case Get, List:
		if o.Token == 0 {
			at, holds = r, true
		}
		switch {
		case o.Result == Unknown:
			return both(r, at, holds)
		case !holds:
			return only(r, o.Result == Stale && below) // F3
		case o.Kind == List:
			return only(at, o.Result == OK && maps.Equal(o.Shown, r.keys)) // F5, F6
		}
		now, is := r.keys[o.Key]
		if o.Result == Absent {
			return only(at, !is)
		}
		return only(at, o.Result == OK && is && now == o.Got) // F5, F6
	case Put, Delete:
		now, is := r.keys[o.Key]
		good := (!o.Create || !is) && (o.Match == "" || is && o.Match == now)
		switch o.Result {
		case OK:
			return only(at.with(o.Key, o.Value), holds && good) // F4, F10
		case Stale:
			return only(r, below)
		case Failed:
			return only(at, holds && (o.Create && is || o.Match != "" && is && o.Match != now))
		case Absent:
			return only(at, holds && o.Match != "" && !is)
		case Unknown:
			after := both(r, at, holds)
			if holds && good {
				after = append(after, at.with(o.Key, o.Value))
			}
			return after
		}
	}
	return nil
}

func (r register) grant(o *Op) []register {
	switch {
	case o.Result == Unknown:
		return []register{r, r.marked(r.mark | 1)}
	case o.Result != OK || double(o.Granted) <= r.mark: // F1, F2
		return nil
	}
	return []register{r.marked(double(o.Granted))}
}

func only(r register, allowed bool) []register {
	if allowed {
		return []register{r}
	}
	return nil
}

// both are the states that an operation leaves that may have raised the mark.
func both(r, at register, holds bool) []register {
	if holds && at.mark != r.mark {
		return []register{r, at}
	}
	return []register{r}
}
