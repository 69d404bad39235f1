package lockapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
)

// maxFields is more than any call has.
const maxFields = 32

// decode reads one JSON object into v, whose fields are all that it may have.
func decode(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return fmt.Errorf("%w: the body is empty; send a JSON object", errBadRequest)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			// Its own text names types of this program.
			if e.Field == "" {
				return fmt.Errorf("%w: the body is a JSON %s; send a JSON object", errBadRequest, e.Value)
			}
			return fmt.Errorf("%w: %q cannot be a JSON %s", errBadRequest, e.Field, e.Value)
		}
		return fmt.Errorf("%w: %w", errBadRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON object", errBadRequest)
	}
	return nil
}

// twice finds the second of two fields of a JSON object that are one to [decode],
// which takes names in any case: of two values each reader would take another, and a
// call would be compared with its repetitions by one and done by the other. What is
// no object is left to decode.
func twice(body []byte) (name string, found bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", false
	}
	var names []string
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return "", false
		}
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			return name, true
		}
		// Calls have few fields; what has many is refused by decode.
		if names = append(names, name); len(names) > maxFields {
			return "", false
		}
	}
	return "", false
}

// token is a fencing token as a number or as a string: some JSON libraries keep
// numbers exactly up to 2^53 only.
type token fence.Token

func (t *token) UnmarshalJSON(b []byte) error {
	s := string(b)
	if b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	if s == "null" {
		return nil
	}
	n, err := fence.ParseToken(s)
	*t = token(n)
	return err
}

func (t token) MarshalJSON() ([]byte, error) { return []byte(fence.Token(t).String()), nil }

// duration is a Go duration in a string; null is as if absent.
type duration time.Duration

func (d *duration) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string like \"30s\" or \"1m30s\"")
	}
	n, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration; write it like \"30s\" or \"1m30s\"", s)
	}
	*d = duration(n)
	return nil
}

// scope is a scope as it is written.
type scope fence.Scope

func (s *scope) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a scope is a string like \"s3://bucket/prefix/\"")
	}
	parsed, err := fence.ParseScope(text)
	*s = scope(parsed)
	return err
}

// scopeRef is a scope with the generation that may be named with it, as in
// X-Fencing-Scope.
type scopeRef struct {
	scope      scope
	generation fence.Generation
}

func (s *scopeRef) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a scope is a string like \"s3://bucket/prefix/\"")
	}
	parsed, generation, err := fence.ParseScopeRef(text)
	s.scope, s.generation = scope(parsed), generation
	return err
}

// pattern is a pattern as it is written.
type pattern fence.Pattern

func (p *pattern) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a pattern is a string like \"s3://bucket/prefix/\"")
	}
	parsed, err := fence.ParsePattern(text)
	*p = pattern(parsed)
	return err
}

type leaseJSON struct {
	Scope      string    `json:"scope"`
	Token      token     `json:"token"`
	Generation int64     `json:"generation,omitempty"` // beyond the first only
	Owner      string    `json:"owner"`
	TTL        string    `json:"ttl"`
	GrantedAt  time.Time `json:"granted_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	// ExpiresInMS counts from before the request was sent.
	ExpiresInMS int64 `json:"expires_in_ms"`
	Settled     bool  `json:"settled"`
}

func leaseOf(l locks.Lease) leaseJSON {
	return leaseJSON{
		Scope: l.Scope.String(), Token: token(l.Mark.Token), Generation: later(l.Mark), Owner: l.Owner, TTL: l.TTL.String(),
		GrantedAt: l.Granted.UTC(), ExpiresAt: l.Expires.UTC(), ExpiresInMS: l.Left.Milliseconds(), Settled: l.Settled,
	}
}

// later is a generation where it must be named.
func later(m fence.Mark) int64 {
	if g := m.Current(); g != fence.FirstGeneration {
		return int64(g)
	}
	return 0
}

type holderJSON struct {
	AccessKey   string    `json:"access_key"`
	Owner       string    `json:"owner"`
	Token       token     `json:"token"`
	GrantedAt   time.Time `json:"granted_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	ExpiresInMS int64     `json:"expires_in_ms"`
}

func holderOf(h locks.Holding) holderJSON {
	return holderJSON{AccessKey: h.Holder, Owner: h.Owner, Token: token(h.Token), GrantedAt: h.Since.UTC(), ExpiresAt: h.Until.UTC(), ExpiresInMS: h.Left.Milliseconds()}
}

type scopeJSON struct {
	Scope      string      `json:"scope"`
	Mark       token       `json:"mark"`
	Generation int64       `json:"generation,omitempty"`
	LastOwner  string      `json:"last_owner,omitempty"`
	LastAt     *time.Time  `json:"last_at,omitempty"`
	Holder     *holderJSON `json:"holder,omitempty"`
	// DelayMS is what is left of the guard's lock_delay, as in LockHeld.
	DelayMS int64 `json:"delay_ms,omitempty"`
	// Queue is how many wait, over all proxies; Waiters are the first of them.
	Queue   int          `json:"queue"`
	Waiters []waiterJSON `json:"waiters,omitempty"`
}

type waiterJSON struct {
	AccessKey string    `json:"access_key"`
	Owner     string    `json:"owner"`
	Since     time.Time `json:"since"`
	// Calling is false where the place is kept for the next call with its ticket.
	Calling bool `json:"calling"`
}

func scopeOf(st locks.Status) scopeJSON {
	out := scopeJSON{Scope: st.Scope.String(), Mark: token(st.Mark.Token), Generation: later(st.Mark), LastOwner: st.Last.Owner, DelayMS: st.Delay.Milliseconds(), Queue: st.Waiting}
	for _, w := range st.First {
		out.Waiters = append(out.Waiters, waiterJSON{w.Holder, w.Owner, w.Since.UTC(), w.Calling})
	}
	if !st.Last.At.IsZero() {
		at := st.Last.At.UTC()
		out.LastAt = &at
	}
	if st.Held != nil {
		h := holderOf(*st.Held)
		out.Holder = &h
	}
	return out
}

type guardJSON struct {
	ID      int64  `json:"id"`
	Pattern string `json:"pattern"`
	Writes  string `json:"writes"`
	Tokens  string `json:"tokens"`
	Issuer  string `json:"issuer"`
	MaxJump int64  `json:"max_jump"`
	// LockDelay is written like 15s.
	LockDelay string    `json:"lock_delay"`
	State     string    `json:"state"`
	Created   time.Time `json:"created"`
}

func guardOf(g fence.Guard) guardJSON {
	return guardJSON{ID: int64(g.ID), Pattern: g.Pattern.String(), Writes: string(g.Writes), Tokens: string(g.Tokens),
		Issuer: string(g.Issuer), MaxJump: g.MaxJump, LockDelay: g.LockDelay.String(), State: string(g.State), Created: g.Created.UTC()}
}
