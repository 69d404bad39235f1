package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// The verifier is told what is wrong with credentials in its own words.
func TestLookup(t *testing.T) {
	t.Parallel()
	keyring, err := auth.NewKeyring([]auth.Credential{{AccessKey: "ann", SecretKey: "ann-secret"}})
	require.NoError(t, err)
	now := time.Now()
	ring, err := session.New(keyring, session.Options{Deployment: "test", Now: func() time.Time { return now }})
	require.NoError(t, err)
	ann, err := ring.Principal(t.Context(), "ann", "")
	require.NoError(t, err)
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	c, err := ring.Issue(ann, sc, fence.FirstGeneration, 34)
	require.NoError(t, err)
	for _, tc := range []struct {
		name, key, token string
		later            time.Duration
		secret           string
		want             error
	}{
		{"configured", "ann", "", 0, "ann-secret", nil},
		{"temporary", c.AccessKey, c.SessionToken, 0, c.SecretKey, nil},
		{"unknown", "bob", "", 0, "", sigv4.ErrUnknownKey},
		{"without its token", c.AccessKey, "", 0, "", sigv4.ErrBadSessionToken},
		{"forged", c.AccessKey, c.SessionToken + "A", 0, "", sigv4.ErrBadSessionToken},
		{"configured with a token", "ann", c.SessionToken, 0, "", sigv4.ErrBadSessionToken},
		{"old", c.AccessKey, c.SessionToken, session.DefaultMaxAge, "", sigv4.ErrExpiredSession},
	} {
		now = now.Add(tc.later)
		secret, err := secrets{ring}.Lookup(t.Context(), tc.key, tc.token)
		require.ErrorIs(t, err, tc.want, tc.name)
		assert.Equal(t, tc.secret, secret, tc.name)
	}
}
