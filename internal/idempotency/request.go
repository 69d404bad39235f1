package idempotency

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/s3fence/s3fence/internal/state"
)

// MaxKey is the longest Idempotency-Key, in bytes.
const MaxKey = 256

// CheckKey reads the values of the header Idempotency-Key: the key, or "" where
// there is none. Anything else is an error that wraps [ErrBadKey]: a key that
// silently counted for nothing would be worse than none.
func CheckKey(values []string) (string, error) {
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", fmt.Errorf("%w: it is given %d times; send one", ErrBadKey, len(values))
	case values[0] == "":
		return "", fmt.Errorf("%w: it is empty; leave it out, or send 1 to %d bytes", ErrBadKey, MaxKey)
	case len(values[0]) > MaxKey:
		return "", fmt.Errorf("%w: it has %d bytes; at most %d are taken", ErrBadKey, len(values[0]), MaxKey)
	}
	return values[0], nil
}

// Errors of this package.
var (
	// ErrBadKey: the header Idempotency-Key is not one key. The caller must change
	// it; nothing happened.
	ErrBadKey = errors.New("the header Idempotency-Key cannot be understood")
	// ErrReused: the key belongs to another request. The caller must choose a new
	// key for a new request; nothing happened.
	ErrReused = errors.New("the Idempotency-Key belongs to another request")
	// ErrDamaged: the record of a key cannot be read. Nothing happened; a person
	// must look.
	ErrDamaged = errors.New("the record of an Idempotency-Key cannot be read")
)

// ReusedError says what a key was used for. It wraps [ErrReused].
type ReusedError struct {
	Key string
	// First is the request that the key belongs to, such as
	// "PutObject of s3://data/jobs/a"; At is when it took effect.
	First string
	At    time.Time
	// Differs names the parts that are not the same, such as "the body".
	Differs []string
}

func (e *ReusedError) Error() string {
	return fmt.Sprintf("the Idempotency-Key %q belongs to another request, %s, that took effect at %s; this one differs in %s. Choose a new key for a new request",
		shorten(e.Key), e.First, e.At.UTC().Format(time.RFC3339), list(e.Differs))
}

// Unwrap is [ErrReused].
func (e *ReusedError) Unwrap() error { return ErrReused }

// maxNamed bounds what a message names.
const maxNamed = 6

func list(names []string) string {
	if rest := len(names) - maxNamed; rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), rest)
	}
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}

func shorten(s string) string {
	const most = 120
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// digest stands for the value of one part: enough of a SHA-256 that nobody finds
// two values for it.
type digest [16]byte

func digestOf(value string) digest {
	sum := sha256.Sum256([]byte(value))
	return digest(sum[:len(digest{})])
}

func (d digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

func (d *digest) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("a digest of %d characters", len(b))
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// names of parts that are always there.
const (
	partOperation = "the operation"
	partTarget    = "the target"
	partBody      = "the body"
)

// Request is a request under a key. It belongs to one request of a client at a
// time: two pointers are two requests, even if everything in them is the same.
// It is not safe for concurrent use.
type Request struct {
	key, first string
	lock, id   state.RetryID
	parts      map[string]digest
}

// New begins a request. The key counts for the credential alone. What the request
// is, is said with [Request.Part] and [Request.Body].
func New(credential, key, operation, target string) *Request {
	id := named("", credential, key)
	r := &Request{key: key, first: shorten(operation + " of " + target), lock: id, id: id, parts: map[string]digest{}}
	r.Part(partOperation, operation)
	r.Part(partTarget, target)
	return r
}

func named(parts ...string) state.RetryID {
	b := []byte("s3fence/idempotency")
	for _, p := range parts {
		b = fmt.Appendf(b, " %d:%s", len(p), p)
	}
	return sha256.Sum256(b)
}

// Part adds a part; name is how people call it, such as "the header if-match".
func (r *Request) Part(name, value string) { r.parts[name] = digestOf(value) }

// Body adds the SHA-256 of the body as its sender meant it, without its framing.
// Until it is known the body is not compared.
func (r *Request) Body(sum [sha256.Size]byte) { r.parts[partBody] = digest(sum[:len(digest{})]) }

// Locked is what a transaction must lock before it looks for the record.
func (r *Request) Locked() state.Request {
	q := state.Request{ID: r.lock}
	if r.id != r.lock {
		q.Items = []state.RetryID{r.id}
	}
	return q
}

// Lock is the lock that all requests under the key have in common.
func (r *Request) Lock() state.RetryID { return r.lock }

// ID names the record.
func (r *Request) ID() state.RetryID { return r.id }

// Step is a further request under the same key that goes on with what began under
// it: it has a record of its own, beside that of the beginning and under its lock.
func (r *Request) Step(name string) *Request {
	s := *r
	s.id = r.Item(name)
	s.parts = maps.Clone(r.parts)
	return &s
}

// Item names the record of one of many things that the request does one by one.
func (r *Request) Item(parts ...string) state.RetryID {
	return named(append([]string{"item", string(r.lock[:])}, parts...)...)
}

// record is a Retry's result.
type record struct {
	First  string            `json:"r"`
	Parts  map[string]digest `json:"p"`
	At     time.Time         `json:"t"`
	Answer []byte            `json:"a,omitempty"`
}

// Record is what the transaction writes that makes the request take effect, at
// now by the database's clock.
func (r *Request) Record(now time.Time, answer []byte) state.Retry {
	b, err := json.Marshal(record{r.first, r.parts, now.UTC().Truncate(time.Second), answer})
	if err != nil {
		panic(err) // strings, digests and a time always encode
	}
	return state.Retry{ID: r.id, Result: b}
}

// Find looks for the request in what a transaction read under its lock. found is
// false where it has not taken effect. Where another request did under its key,
// the error is a [*ReusedError].
func (r *Request) Find(retries map[state.RetryID][]byte) (answer []byte, found bool, err error) {
	b, ok := retries[r.id]
	if !ok {
		return nil, false, nil
	}
	var old record
	if err := json.Unmarshal(b, &old); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if differs := r.differs(old.Parts); len(differs) > 0 {
		return nil, false, &ReusedError{Key: r.key, First: old.First, At: old.At, Differs: differs}
	}
	return old.Answer, true, nil
}

// Began is the answer of what took effect under the key, if that was another
// operation on the same target: something that this request may be a [Request.Step]
// of.
func (r *Request) Began(retries map[state.RetryID][]byte, operation string) (answer []byte, ok bool) {
	var old record
	if b, ok := retries[r.lock]; !ok || json.Unmarshal(b, &old) != nil {
		return nil, false
	}
	if old.Parts[partOperation] != digestOf(operation) || old.Parts[partTarget] != r.parts[partTarget] {
		return nil, false
	}
	return old.Answer, true
}

// differs names the parts that are not the same. Where operation or target are
// others, what else differs says nothing.
func (r *Request) differs(old map[string]digest) []string {
	_, whole := r.parts[partBody]
	var names []string
	for name, d := range old {
		if mine, ok := r.parts[name]; (!ok || mine != d) && (whole || name != partBody) {
			names = append(names, name)
		}
	}
	for name := range r.parts {
		if _, ok := old[name]; !ok {
			names = append(names, name)
		}
	}
	for _, first := range []string{partOperation, partTarget} {
		if slices.Contains(names, first) {
			return []string{first}
		}
	}
	slices.Sort(names)
	return names
}
