package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Lease is a lock as it was granted or renewed.
type Lease struct {
	// Scope is s3://bucket/prefix/, Token the fencing token.
	Scope string
	Token int64
	// Generation is 1 unless the scope was reset while its tokens came from an
	// external issuer; then requests name it: X-Fencing-Scope: SCOPE?generation=N.
	Generation int64
	Owner      string
	TTL        time.Duration
	// ExpiresAt is by the clock of the service's database.
	ExpiresAt time.Time
	// Deadline is when the lease ends by this process's clock, counted from before
	// the request was sent: never later than for the service. Compare it with
	// time.Now. Go's monotonic clock may stand still while the machine is suspended;
	// who must notice that at once looks at the wall clock too.
	Deadline time.Time
	// Settled says that no write of an older token can take effect any more.
	Settled bool
}

// Holder says who holds a lock.
type Holder struct {
	AccessKey string
	Owner     string
	Token     int64
	GrantedAt time.Time
	ExpiresAt time.Time
	// ExpiresIn is what was left of the lease, unless renewed.
	ExpiresIn time.Duration
}

// Scope is a scope with its mark.
type Scope struct {
	Scope string
	// Mark is the highest token granted or admitted, Generation is 1 unless the
	// scope was reset.
	Mark       int64
	Generation int64
	// LastOwner was granted the mark, at LastAt.
	LastOwner string
	LastAt    time.Time
	// Holder is nil where nobody holds the lock.
	Holder *Holder
	// Delay is what is left of the guard's lock_delay: nobody is granted the lock so
	// long.
	Delay time.Duration
	// Queue is how many wait for it, over all proxies; Waiters are the first of
	// them, ten at most, in order.
	Queue   int
	Waiters []Waiter
}

// Waiter is somebody in the line for a lock.
type Waiter struct {
	AccessKey string `json:"access_key"`
	Owner     string `json:"owner"`
	// Since is when it took its place, by the clock of the service's database.
	Since time.Time `json:"since"`
	// Calling says that a call waits now; otherwise its place is kept for the next.
	Calling bool `json:"calling"`
}

type leaseJSON struct {
	Scope       string
	Token       int64
	Generation  int64
	Owner       string
	TTL         string
	ExpiresAt   time.Time `json:"expires_at"`
	ExpiresInMS int64     `json:"expires_in_ms"`
	Settled     bool
}

func (l *leaseJSON) lease(asked time.Time) Lease {
	// A ttl that does not parse cannot come from the service; zero is harmless.
	ttl, _ := time.ParseDuration(l.TTL)
	return Lease{Scope: l.Scope, Token: l.Token, Generation: max(l.Generation, 1), Owner: l.Owner, TTL: ttl, ExpiresAt: l.ExpiresAt,
		Deadline: asked.Add(time.Duration(l.ExpiresInMS) * time.Millisecond), Settled: l.Settled}
}

type holderJSON struct {
	AccessKey   string `json:"access_key"`
	Owner       string
	Token       int64
	GrantedAt   time.Time `json:"granted_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	ExpiresInMS int64     `json:"expires_in_ms"`
}

func (h *holderJSON) holder() *Holder {
	return &Holder{h.AccessKey, h.Owner, h.Token, h.GrantedAt, h.ExpiresAt, time.Duration(h.ExpiresInMS) * time.Millisecond}
}

type lockBody struct {
	Scope  string `json:"scope"`
	Owner  string `json:"owner,omitempty"`
	Token  int64  `json:"token,omitempty"`
	TTL    string `json:"ttl,omitempty"`
	Wait   string `json:"wait,omitempty"`
	Ticket string `json:"ticket,omitempty"`
	Keep   string `json:"keep,omitempty"`
	To     int64  `json:"to,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func text(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// Take takes a lock by force, whoever holds it; that needs the right admin. The
// reason is recorded.
func (c *Client) Take(ctx context.Context, scope, owner string, ttl time.Duration, reason string) (Lease, error) {
	return c.lease(ctx, callTime, "locks/take", lockBody{Scope: scope, Owner: owner, TTL: text(ttl), Reason: reason})
}

// Renew extends a lease by ttl; zero: by what it had. [ErrLost]: stop working.
func (c *Client) Renew(ctx context.Context, scope string, token int64, ttl time.Duration) (Lease, error) {
	return c.lease(ctx, callTime, "locks/renew", lockBody{Scope: scope, Token: token, TTL: text(ttl)})
}

func (c *Client) lease(ctx context.Context, within time.Duration, path string, body lockBody) (Lease, error) {
	var l leaseJSON
	asked := time.Now()
	if err := c.call(ctx, within, http.MethodPost, path, body, &l); err != nil {
		return Lease{}, err
	}
	if l.Token < 1 {
		return Lease{}, fmt.Errorf("%w: %s does not answer as s3fence does: a lease without a token", ErrUnreachable, c.base)
	}
	return l.lease(asked), nil
}

// Release ends a lease. Releasing again is fine while nobody else was granted
// the lock; then it is [ErrLost].
func (c *Client) Release(ctx context.Context, scope string, token int64) error {
	return c.call(ctx, callTime, http.MethodPost, "locks/release", lockBody{Scope: scope, Token: token}, new(struct{}))
}

// Check compares a token with the mark, for resources that are not S3; it
// advises only. [ErrStale] below the mark. A scope that was reset is named with
// its generation: SCOPE?generation=N. It returns the mark.
func (c *Client) Check(ctx context.Context, scope string, token int64) (highest int64, err error) {
	var out struct{ Highest int64 }
	err = c.call(ctx, callTime, http.MethodPost, "check", lockBody{Scope: scope, Token: token}, &out)
	return out.Highest, err
}

// List returns a page of the scopes that the caller may see and whose name
// begins with prefix and lies above after. next is empty on the last page, and
// after for the next one otherwise. limit is 1 to 1000.
func (c *Client) List(ctx context.Context, prefix, after string, limit int) (scopes []Scope, next string, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	if after != "" {
		q.Set("after", after)
	}
	var out struct {
		Scopes []struct {
			Scope      string
			Mark       int64
			Generation int64
			LastOwner  string    `json:"last_owner"`
			LastAt     time.Time `json:"last_at"`
			Holder     *holderJSON
			DelayMS    int64 `json:"delay_ms"`
			Queue      int
			Waiters    []Waiter
		}
		Next string
	}
	if err := c.call(ctx, callTime, http.MethodGet, "locks?"+q.Encode(), nil, &out); err != nil {
		return nil, "", err
	}
	for _, s := range out.Scopes {
		sc := Scope{Scope: s.Scope, Mark: s.Mark, Generation: max(s.Generation, 1), LastOwner: s.LastOwner, LastAt: s.LastAt,
			Delay: time.Duration(s.DelayMS) * time.Millisecond, Queue: s.Queue, Waiters: s.Waiters}
		if s.Holder != nil {
			sc.Holder = s.Holder.holder()
		}
		scopes = append(scopes, sc)
	}
	return scopes, out.Next, nil
}

// Raise raises the mark of a scope and ends every lease below it; that needs the
// right admin. to is zero to let s3fence choose, which is the rule for its own
// tokens; with an external issuer it is the new mark. It returns the mark.
func (c *Client) Raise(ctx context.Context, scope string, to int64, reason string) (mark int64, err error) {
	var out struct{ Mark int64 }
	err = c.call(ctx, callTime, http.MethodPost, "scopes/raise", lockBody{Scope: scope, To: to, Reason: reason}, &out)
	return out.Mark, err
}

// Reset begins a new generation of a scope whose external issuer started over;
// that needs the right admin. It returns the generation, which requests must
// name from then on.
func (c *Client) Reset(ctx context.Context, scope, reason string) (generation int64, err error) {
	var out struct{ Generation int64 }
	err = c.call(ctx, callTime, http.MethodPost, "scopes/reset", lockBody{Scope: scope, Reason: reason}, &out)
	return out.Generation, err
}
