package auth

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMay(t *testing.T) {
	t.Parallel()
	c := &Credential{AccessKey: "k", SecretKey: "s", Grants: []Grant{
		{Bucket: "data", Prefix: "jobs/", Rights: Read | Write},
		{Bucket: "data", Prefix: "jobs/nightly/", Rights: Lock},
		{Bucket: Anywhere, Rights: Read},
	}}
	for _, tc := range []struct {
		name        string
		right       Right
		bucket, key string
		want        bool
	}{
		{"write inside", Write, "data", "jobs/a", true},
		{"write outside", Write, "data", "job", false},
		{"write other bucket", Write, "logs", "jobs/a", false},
		{"read anywhere", Read, "logs", "x", true},
		{"rights of two grants add up", Write | Lock, "data", "jobs/nightly/x", true},
		{"lock only where granted", Lock, "data", "jobs/x", false},
		{"one of two rights is not both", Write | Lock, "data", "jobs/x", false},
		{"bucket itself needs the whole bucket", Write, "data", "", false},
	} {
		assert.Equal(t, tc.want, c.May(tc.right, tc.bucket, tc.key), tc.name)
	}
	assert.False(t, c.MayUnder(Write, "data", "job"))
	assert.True(t, c.MayUnder(Write, "data", "jobs/"))
	assert.True(t, c.MaySomewhere(Write, "data"))
	assert.False(t, c.MaySomewhere(Write, "logs"))
	assert.True(t, c.MaySomewhereUnder(Lock, "data", ""))
	assert.True(t, c.MaySomewhereUnder(Lock, "data", "jobs/"))
	assert.True(t, c.MaySomewhereUnder(Lock, "data", "jobs/nightly/x/"))
	assert.False(t, c.MaySomewhereUnder(Lock, "data", "jobs/daily/"))
	assert.False(t, c.MaySomewhereUnder(Lock, "logs", ""))
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	_, err := NewKeyring([]Credential{{AccessKey: "a", SecretKey: "1"}, {AccessKey: "a", SecretKey: "2"}})
	require.ErrorContains(t, err, "two credentials")
	k, err := NewKeyring([]Credential{{AccessKey: "a", SecretKey: "1"}})
	require.NoError(t, err)
	p, err := k.Principal(t.Context(), "a", "")
	require.NoError(t, err)
	assert.Equal(t, "1", p.SecretKey)
	_, err = k.Principal(t.Context(), "b", "")
	require.ErrorIs(t, err, ErrUnknownKey)
	_, err = k.Principal(t.Context(), "a", "forged")
	require.ErrorIs(t, err, ErrBadToken)
}
