package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Claim says whose a slot is.
type Claim struct {
	Job, Slot string
	// Holder is the access key that claimed it, Owner the label that it gave.
	Holder, Owner string
	ClaimedAt     time.Time
}

type claimJSON struct {
	Job       string    `json:"job"`
	Slot      string    `json:"slot"`
	Holder    string    `json:"holder"`
	Owner     string    `json:"owner"`
	ClaimedAt time.Time `json:"claimed_at"`
}

func (c *claimJSON) claim() Claim { return Claim(*c) }

const (
	// claimTries is how often Claim asks, and claimPause what it waits after the
	// first time; each pause is twice the one before.
	claimTries = 5
	claimPause = 200 * time.Millisecond
)

// Claim claims a slot of a job, once and for all: it succeeds for exactly one caller
// in the whole deployment. [ErrClaimed] for all others: do not run; Error.Claim says
// who does. Times of RFC 3339 are one slot whatever their zone.
//
// A call whose answer is lost is repeated a few times under an Idempotency-Key of
// its own, so that its own claim is not taken for somebody else's. If it fails in
// the end with [ErrUnreachable] or [ErrUnknownOutcome], the slot may be claimed all
// the same. Who must be able to ask again then, from another process too, chooses
// the key: [WithIdempotencyKey]. It must be the caller's alone: two that share one
// are both told that the slot is theirs.
func (c *Client) Claim(ctx context.Context, job, slot, owner string) (Claim, error) {
	if keyOf(ctx) == "" {
		ctx = WithIdempotencyKey(ctx, rand.Text())
	}
	in := struct {
		Job   string `json:"job"`
		Slot  string `json:"slot"`
		Owner string `json:"owner,omitempty"`
	}{job, slot, owner}
	pause := claimPause
	for try := 1; ; try++ {
		var out claimJSON
		err := c.call(ctx, callTime, http.MethodPost, "claims", in, &out)
		switch {
		case err == nil && out.Slot == "":
			return Claim{}, fmt.Errorf("%w: %s does not answer as s3fence does: a claim without a slot", ErrUnreachable, c.base)
		case err == nil:
			return out.claim(), nil
		case try == claimTries, !mayPass(err):
			return Claim{}, err
		}
		select {
		case <-ctx.Done():
			return Claim{}, err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// Claims returns a page of the claims of a job, in descending order of their slots,
// so of times the latest first. next is empty on the last page, and after for the
// next one otherwise. limit is 1 to 1000.
func (c *Client) Claims(ctx context.Context, job, after string, limit int) (claims []Claim, next string, err error) {
	q := url.Values{"job": {job}, "limit": {strconv.Itoa(limit)}}
	if after != "" {
		q.Set("after", after)
	}
	var out struct {
		Claims []claimJSON
		Next   string
	}
	if err := c.call(ctx, callTime, http.MethodGet, "claims?"+q.Encode(), nil, &out); err != nil {
		return nil, "", err
	}
	for i := range out.Claims {
		claims = append(claims, out.Claims[i].claim())
	}
	return claims, out.Next, nil
}

type keyOfContext struct{}

// WithIdempotencyKey makes the calls of a context one request, of 1 to 256 bytes:
// whoever repeats it, after a crash in another process too, is given the first
// answer for at least a day, and another request under the key is refused with
// [ErrKeyReused]. It counts for acquiring, taking, releasing, raising, resetting and
// claiming; the other calls do no harm when they are repeated. A release may have the
// key of the acquire. [Held.Release] has one of its own.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyOfContext{}, key)
}

func keyOf(ctx context.Context) string {
	key, _ := ctx.Value(keyOfContext{}).(string)
	return key
}
