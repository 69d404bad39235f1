package client

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// renewCredentials is how long before their end fenced credentials are fetched
	// anew.
	renewCredentials = 5 * time.Minute
	// credentialsTime bounds how long a service that does not answer is asked for
	// them.
	credentialsTime = 15 * time.Second
)

// Credentials are fenced credentials for the SDK and whatever takes a provider:
// every request signed with them carries the token in the lock's scope, parts of
// uploads, presigned URLs and the requests of transfer managers included. They
// are fetched when first needed and kept.
//
// Once the Context has ended there are none: the provider fails with its cause.
// Requests already signed are for the service to refuse. What the provider
// returns expires no later than the lease as it is then, so that a cache around
// it asks again; the credentials as such are good for longer.
func (h *Held) Credentials() aws.CredentialsProvider { return heldCredentials{h} }

type heldCredentials struct{ held *Held }

func (p heldCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	h := p.held
	if h.ctx.Err() != nil {
		return aws.Credentials{}, context.Cause(h.ctx)
	}
	out, err := h.cache.Retrieve(ctx)
	if h.ctx.Err() != nil {
		return aws.Credentials{}, context.Cause(h.ctx)
	}
	if err != nil {
		return aws.Credentials{}, err
	}
	if until := h.clock.Now().Add(h.left()); until.Before(out.Expires) {
		out.Expires = until
	}
	return out, nil
}

func newCredentialsCache(h *Held) *aws.CredentialsCache {
	return aws.NewCredentialsCache(fetched{h}, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = renewCredentials
		o.ExpiryWindowJitterFrac = 0.5
	})
}

// fetched asks the service, within the life of the hold: the caller's context
// stands for one caller only, and several may wait.
type fetched struct{ held *Held }

func (p fetched) Retrieve(context.Context) (aws.Credentials, error) {
	h := p.held
	ctx, cancel := context.WithTimeout(h.ctx.Context, credentialsTime)
	defer cancel()
	for tries := 1; ; tries++ {
		c, err := h.client.Credentials(ctx, h.Lease().Ref(), h.token)
		switch {
		case err == nil:
			return aws.Credentials{
				AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken,
				Source: "s3fence", CanExpire: true, Expires: c.Expiration,
			}, nil
		case isLoss(err):
			h.end(ErrLost, err)
			return aws.Credentials{}, err
		case !mayPass(err):
			return aws.Credentials{}, err
		}
		select {
		case <-time.After(backoff(tries, credentialsTime)):
		case <-ctx.Done():
			return aws.Credentials{}, err
		}
	}
}

// HandleFailToRefresh goes on with what there is while the service cannot be
// asked, and has it asked again soon: the end of credentials is advice.
func (p fetched) HandleFailToRefresh(_ context.Context, before aws.Credentials, err error) (aws.Credentials, error) {
	if mayPass(err) && before.HasKeys() {
		before.Expires = time.Now().Add(renewCredentials + credentialsTime)
		return before, nil
	}
	return aws.Credentials{}, err
}

var _ aws.HandleFailRefreshCredentialsCacheStrategy = fetched{}
