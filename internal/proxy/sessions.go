package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// sessions makes the keyring that knows fenced credentials. They are bound to the
// state by its id, which every proxy of a deployment reads there.
func (p *Proxy) sessions(ctx context.Context, keyring *auth.Keyring) (*session.Ring, error) {
	d, err := p.state.Deployment(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the deployment: %w", err)
	}
	return session.New(keyring, session.Options{
		Deployment: d.ID.String(), Secret: p.config.SessionSecret.Reveal(), Accepted: p.config.AcceptedSecrets(), MaxAge: p.config.SessionMaxAge,
	})
}

// secrets lets the verifier of signatures ask a session.Ring.
type secrets struct{ ring *session.Ring }

// Lookup implements sigv4.CredentialSource.
func (s secrets) Lookup(ctx context.Context, accessKey, sessionToken string) (string, error) {
	key, err := s.ring.SecretKey(ctx, accessKey, sessionToken)
	for _, e := range [...]struct{ from, to error }{
		{auth.ErrUnknownKey, sigv4.ErrUnknownKey}, {auth.ErrBadToken, sigv4.ErrBadSessionToken}, {auth.ErrExpired, sigv4.ErrExpiredSession},
	} {
		if errors.Is(err, e.from) {
			return "", fmt.Errorf("%w: %w", e.to, err)
		}
	}
	return key, err
}
