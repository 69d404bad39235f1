package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Guard is a rule that makes keys belong to scopes. Empty fields of a guard that
// is added take the service's defaults, those of a guard that is set stay.
type Guard struct {
	// Pattern is s3://bucket/prefix/, with * for a whole segment.
	Pattern string `json:"pattern"`
	// Writes is sealed.
	Writes string `json:"writes,omitempty"`
	// Tokens is required, optional or none.
	Tokens string `json:"tokens,omitempty"`
	// Issuer is s3fence or external.
	Issuer string `json:"issuer,omitempty"`
	// MaxJump bounds how far one request raises an external issuer's mark.
	MaxJump int64 `json:"max_jump,omitempty"`
	// LockDelay, such as 15s, is how long nobody is granted a lock after a lease on it
	// ran out; up to 1h, 0s for none.
	LockDelay string `json:"lock_delay,omitempty"`
	// State is pending, active or removing; answers only.
	State string `json:"state,omitempty"`
	// Created is when it was added; answers only.
	Created time.Time `json:"created,omitzero"`
}

// Guards lists the guards that the caller may see.
func (c *Client) Guards(ctx context.Context) ([]Guard, error) {
	var out struct{ Guards []Guard }
	err := c.call(ctx, callTime, http.MethodGet, "guards", nil, &out)
	return out.Guards, err
}

// AddGuard puts a guard into force; that needs the right admin. It returns when
// every proxy judges by it and existing objects are taken in, which may take
// minutes. Adding the same guard again is fine, and goes on where a call before
// was cut off.
func (c *Client) AddGuard(ctx context.Context, g Guard) (Guard, error) {
	return c.guard(ctx, guardTime, http.MethodPost, g)
}

// SetGuard changes tokens, max_jump or lock_delay of a guard.
func (c *Client) SetGuard(ctx context.Context, g Guard) (Guard, error) {
	return c.guard(ctx, callTime, http.MethodPatch, g)
}

func (c *Client) guard(ctx context.Context, within time.Duration, method string, g Guard) (Guard, error) {
	g.State, g.Created = "", time.Time{}
	var out Guard
	err := c.call(ctx, within, method, "guards", g, &out)
	return out, err
}

// RemoveGuard takes a guard out of force. It is refused with [ErrConflict] while
// objects stand under it.
func (c *Client) RemoveGuard(ctx context.Context, pattern string) error {
	return c.call(ctx, guardTime, http.MethodDelete, "guards?"+url.Values{"pattern": {pattern}}.Encode(), nil, new(struct{}))
}
