package client

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Credentials are fenced credentials: temporary ones whose session token carries a
// scope and a fencing token, so that every S3 request signed with them is fenced
// inside that scope without saying so.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	// Expiration is when they end if nothing ends them before: the token going
	// stale does, and the removal of the credential that asked.
	Expiration time.Time
}

// Credentials asks for fenced credentials of a scope, SCOPE?generation=N where it
// was reset, under a token that a lock service granted. They have the rights of
// the credential that asks. [ErrStale]: the token is below the mark.
func (c *Client) Credentials(ctx context.Context, scope string, token int64) (Credentials, error) {
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	if err := c.call(ctx, callTime, http.MethodPost, "credentials", lockBody{Scope: scope, Token: token}, &out); err != nil {
		return Credentials{}, err
	}
	if out.AccessKeyID == "" || out.SecretAccessKey == "" || out.SessionToken == "" {
		return Credentials{}, fmt.Errorf("%w: %s does not answer as s3fence does: credentials with a part missing", ErrUnreachable, c.base)
	}
	return Credentials(out), nil
}
