package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
)

const (
	deployment = "0198c0de-0000-7000-8000-000000000001"
	annSecret  = "ann's secret key"
	first      = "first session secret, 32 bytes..."
	second     = "second session secret, 32 bytes.."
)

var start = time.Unix(1_790_000_000, 0)

// clock stands still until it is moved.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func scope(t testing.TB, s string) fence.Scope {
	t.Helper()
	sc, err := fence.ParseScope(s)
	require.NoError(t, err)
	return sc
}

// credentials are ann and bob; with the same secret key, so that nothing but the
// name tells them apart.
func credentials() []auth.Credential {
	return []auth.Credential{{AccessKey: "ann", SecretKey: annSecret}, {AccessKey: "bob", SecretKey: annSecret}}
}

func ring(t testing.TB, creds []auth.Credential, change ...func(*Options)) *Ring {
	t.Helper()
	k, err := auth.NewKeyring(creds)
	require.NoError(t, err)
	o := Options{Deployment: deployment, Now: (&clock{start}).now}
	for _, f := range change {
		f(&o)
	}
	r, err := New(k, o)
	require.NoError(t, err)
	return r
}

func with(secret string, accepted ...string) func(*Options) {
	return func(o *Options) { o.Secret, o.Accepted = secret, accepted }
}

// issue makes ann's session for s3://data/jobs/, token 34, generation 2.
func issue(t testing.TB, r *Ring) Credentials {
	t.Helper()
	who, err := r.Principal(t.Context(), "ann", "")
	require.NoError(t, err)
	c, err := r.Issue(who, scope(t, "s3://data/jobs/"), 2, 34)
	require.NoError(t, err)
	return c
}

// opens finds out what both ways into a ring say of credentials; they must agree.
func opens(t testing.TB, r *Ring, accessKey, token string) (*auth.Principal, string, error) {
	t.Helper()
	who, err := r.Principal(t.Context(), accessKey, token)
	secret, serr := r.SecretKey(t.Context(), accessKey, token)
	if !errors.Is(serr, err) || (err == nil) != (serr == nil) {
		t.Fatalf("two answers: %v and %v", err, serr)
	}
	if err != nil && (who != nil || secret != "") {
		t.Fatalf("an error and yet %v %q", who, secret)
	}
	return who, secret, err
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, sc := range []string{"s3://data/", "s3://data/jobs/", "s3://data/a b/ü\n'\"/", "s3://" + strings.Repeat("b", 63) + "/" + strings.Repeat("p", 900) + "/"} {
		for _, token := range []fence.Token{1, fence.MaxGranted, math.MaxInt64} {
			r := ring(t, credentials(), with(first))
			who, err := r.Principal(t.Context(), "ann", "")
			require.NoError(t, err)
			c, err := r.Issue(who, scope(t, sc), 7, token)
			require.NoError(t, err)
			// Another proxy, with the same configuration.
			got, secret, err := opens(t, ring(t, credentials(), with(first)), c.AccessKey, c.SessionToken)
			require.NoError(t, err)
			assert.Equal(t, "ann", got.AccessKey)
			assert.Equal(t, c.SecretKey, secret)
			assert.Equal(t, auth.Carried{Scope: scope(t, sc), Generation: 7, Token: token, Issued: start}, *got.Carried)
			assert.Equal(t, start.Add(DefaultMaxAge), c.Expires)
		}
	}
}

// Forms that SDKs, mc's URLs, presigned URLs and shells take without quoting.
func TestForm(t *testing.T) {
	t.Parallel()
	r := ring(t, credentials())
	seen := map[string]bool{}
	for range 100 {
		c := issue(t, r)
		assert.Regexp(t, regexp.MustCompile(`^[A-Z0-9]{20}$`), c.AccessKey)
		assert.Regexp(t, regexp.MustCompile(`^[A-Za-z0-9_-]{40}$`), c.SecretKey)
		assert.Regexp(t, regexp.MustCompile(`^[A-Za-z0-9_-]+$`), c.SessionToken)
		assert.Less(t, len(c.SessionToken), 128)
		for _, s := range []string{c.AccessKey, c.SecretKey, c.SessionToken} {
			assert.False(t, seen[s], "%s twice", s)
			seen[s] = true
		}
	}
}

// A token is at most 1.5 kB; a scope that does not fit is refused, not cut.
func TestTooLong(t *testing.T) {
	t.Parallel()
	r := ring(t, credentials())
	who, err := r.Principal(t.Context(), "ann", "")
	require.NoError(t, err)
	longest := 0
	for n := 900; n < fence.MaxKeyBytes; n++ {
		c, err := r.Issue(who, scope(t, "s3://"+strings.Repeat("b", 63)+"/"+strings.Repeat("p", n)+"/"), 1, fence.MaxGranted)
		if err == nil {
			require.LessOrEqual(t, len(c.SessionToken), 1500)
			longest = n
			continue
		}
		require.ErrorIs(t, err, ErrTooLong)
		require.ErrorContains(t, err, "X-Fencing-Token")
	}
	assert.Greater(t, longest, 960)
	assert.Less(t, longest, fence.MaxKeyBytes-1)
}

// F8: a client can neither alter nor mint a session token.
func TestAlteredTokens(t *testing.T) {
	t.Parallel()
	r := ring(t, credentials(), with(first, second))
	c := issue(t, r)
	refused := func(what, accessKey, token string) {
		t.Helper()
		if who, _, err := opens(t, r, accessKey, token); err == nil {
			t.Fatalf("%s: opened for %v", what, who)
		} else if !errors.Is(err, auth.ErrBadToken) && !errors.Is(err, auth.ErrUnknownKey) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range len(c.SessionToken) {
		for _, b := range []byte("Aa0-_!\x00\n\xff") {
			if altered := []byte(c.SessionToken); altered[i] != b {
				altered[i] = b
				refused(fmt.Sprintf("character %d is %q", i, b), c.AccessKey, string(altered))
			}
			refused(fmt.Sprintf("%q inserted at %d", b, i), c.AccessKey, c.SessionToken[:i]+string(b)+c.SessionToken[i:])
		}
		refused(fmt.Sprintf("cut to %d", i), c.AccessKey, c.SessionToken[:i]) // "" too
	}
	raw, err := text.DecodeString(c.SessionToken)
	require.NoError(t, err)
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d", bit, i), c.AccessKey, text.EncodeToString(raw))
			raw[i] ^= 1 << bit
		}
	}
	for i := range len(c.AccessKey) {
		for _, b := range []byte("A2a") {
			if key := []byte(c.AccessKey); key[i] != b {
				key[i] = b
				refused("access key "+string(key), string(key), c.SessionToken)
			}
		}
	}
	// Bits of the last character that no byte needs, in tokens of three lengths.
	who, err := r.Principal(t.Context(), "ann", "")
	require.NoError(t, err)
	for _, name := range []string{"s3://data/a/", "s3://data/ab/", "s3://data/abc/"} {
		c, err := r.Issue(who, scope(t, name), 1, 34)
		require.NoError(t, err)
		for _, b := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
			if last := len(c.SessionToken) - 1; c.SessionToken[last] != b {
				refused("ends in "+string(b), c.AccessKey, c.SessionToken[:last]+string(b))
			}
		}
	}
	refused("padded", c.AccessKey, c.SessionToken+"=")
	refused("with a line break", c.AccessKey, c.SessionToken+"\n")
	refused("doubled", c.AccessKey, c.SessionToken+c.SessionToken)
	refused("another session's access key", issue(t, r).AccessKey, c.SessionToken)
	refused("no token", c.AccessKey, "")
	refused("the parent's key with it", "ann", c.SessionToken)
	refused("an unknown key with it", "eve", c.SessionToken)
	refused("a huge one", c.AccessKey, strings.Repeat("A", 1<<20))
	assert.Zero(t, r.known.Len(), "strangers push nothing out of what is remembered")
}

// The name of the parent is authenticated: bob has the very same secret key.
func TestSwappedParent(t *testing.T) {
	t.Parallel()
	r := ring(t, credentials())
	c := issue(t, r)
	raw, err := text.DecodeString(c.SessionToken)
	require.NoError(t, err)
	swapped := text.EncodeToString([]byte(strings.Replace(string(raw), "ann", "bob", 1)))
	require.NotEqual(t, c.SessionToken, swapped)
	_, _, err = opens(t, r, c.AccessKey, swapped)
	require.ErrorIs(t, err, auth.ErrBadToken)
}

// What a session is bound to, and what ends it.
func TestBinding(t *testing.T) {
	t.Parallel()
	now := &clock{start}
	at := func(d time.Duration) func(*Options) {
		return func(o *Options) { o.Now = (&clock{start.Add(d)}).now }
	}
	c := issue(t, ring(t, credentials(), with(first), func(o *Options) { o.Now = now.now }))
	for name, tc := range map[string]struct {
		creds  []auth.Credential
		change []func(*Options)
		want   error
	}{
		"as it was":                     {credentials(), []func(*Options){with(first)}, nil},
		"first is accepted":             {credentials(), []func(*Options){with(second, first)}, nil},
		"among others":                  {credentials(), []func(*Options){with(second, "", first)}, nil},
		"no secret now":                 {credentials(), []func(*Options){with("")}, auth.ErrBadToken},
		"no secret, first is accepted":  {credentials(), []func(*Options){with("", first)}, nil},
		"another secret":                {credentials(), []func(*Options){with(second, "")}, auth.ErrBadToken},
		"another deployment":            {credentials(), []func(*Options){with(first), func(o *Options) { o.Deployment = "0198c0de-0000-7000-8000-000000000002" }}, auth.ErrBadToken},
		"the parent is gone":            {credentials()[1:], []func(*Options){with(first)}, auth.ErrUnknownKey},
		"the parent has another secret": {[]auth.Credential{{AccessKey: "ann", SecretKey: "new"}}, []func(*Options){with(first)}, auth.ErrBadToken},
		"others have changed":           {[]auth.Credential{{AccessKey: "ann", SecretKey: annSecret}, {AccessKey: "carl", SecretKey: "new"}}, []func(*Options){with(first)}, nil},
		"almost too old":                {credentials(), []func(*Options){with(first), at(DefaultMaxAge - 1)}, nil},
		"too old":                       {credentials(), []func(*Options){with(first), at(DefaultMaxAge)}, auth.ErrExpired},
		"too old for a shorter age":     {credentials(), []func(*Options){with(first), at(time.Hour), func(o *Options) { o.MaxAge = time.Hour }}, auth.ErrExpired},
		"from a clock a little ahead":   {credentials(), []func(*Options){with(first), at(-15 * time.Minute)}, nil},
		"from the future":               {credentials(), []func(*Options){with(first), at(-16 * time.Minute)}, auth.ErrBadToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := opens(t, ring(t, tc.creds, tc.change...), c.AccessKey, c.SessionToken)
			require.ErrorIs(t, err, tc.want)
			if err != nil {
				for _, s := range []string{c.SecretKey, c.SessionToken, annSecret, first} {
					assert.NotContains(t, err.Error(), s)
				}
			}
		})
	}
}

// A rolling rotation, as docs/operations.md has it, from none and from one: each
// proxy opens what every other one seals, in each step and while it is taken.
func TestRotation(t *testing.T) {
	t.Parallel()
	for _, tc := range [][]func(*Options){
		{with(first), with(first, second), with(second, first)},
		{with(""), with("", second), with(second, "")},
	} {
		for i := 1; i < len(tc); i++ {
			before, after := ring(t, credentials(), tc[i-1]), ring(t, credentials(), tc[i])
			for _, way := range [][2]*Ring{{before, before}, {before, after}, {after, before}, {after, after}} {
				c := issue(t, way[0])
				_, secret, err := opens(t, way[1], c.AccessKey, c.SessionToken)
				require.NoError(t, err, "step %d", i)
				require.Equal(t, c.SecretKey, secret)
			}
		}
		last, done := ring(t, credentials(), tc[2]), ring(t, credentials(), with(second))
		c := issue(t, last)
		_, _, err := opens(t, done, c.AccessKey, c.SessionToken)
		require.NoError(t, err)
		c = issue(t, ring(t, credentials(), tc[0]))
		_, _, err = opens(t, done, c.AccessKey, c.SessionToken)
		require.ErrorIs(t, err, auth.ErrBadToken, "what was rotated out opens nothing, be it no secret at all")
	}
}

// Secret and key are joined in one way only.
func TestJoining(t *testing.T) {
	t.Parallel()
	c := issue(t, ring(t, []auth.Credential{{AccessKey: "ann", SecretKey: "bc"}}, with("a")))
	_, _, err := opens(t, ring(t, []auth.Credential{{AccessKey: "ann", SecretKey: "c"}}, with("ab")), c.AccessKey, c.SessionToken)
	require.ErrorIs(t, err, auth.ErrBadToken)
}

// Credentials asked for by temporary ones act for the same parent and are not
// younger than those.
func TestAskedForBySessions(t *testing.T) {
	t.Parallel()
	now := &clock{start}
	r := ring(t, credentials(), func(o *Options) { o.Now = now.now })
	c := issue(t, r)
	for range 3 {
		now.at = now.at.Add(2 * 24 * time.Hour)
		who, _, err := opens(t, r, c.AccessKey, c.SessionToken)
		require.NoError(t, err)
		c, err = r.Issue(who, scope(t, "s3://data/other/"), 1, 35)
		require.NoError(t, err)
		assert.Equal(t, start.Add(DefaultMaxAge), c.Expires)
		who, _, err = opens(t, r, c.AccessKey, c.SessionToken)
		require.NoError(t, err)
		assert.Equal(t, "ann", who.AccessKey)
		assert.Equal(t, "s3://data/other/", who.Carried.Scope.String())
	}
	now.at = now.at.Add(2 * 24 * time.Hour)
	_, _, err := opens(t, r, c.AccessKey, c.SessionToken)
	require.ErrorIs(t, err, auth.ErrExpired)
}

// A configured access key stays what it is, even if it looks like a temporary one.
func TestConfiguredKeys(t *testing.T) {
	t.Parallel()
	odd := newAccessKey()
	r := ring(t, append(credentials(), auth.Credential{AccessKey: odd, SecretKey: "odd"}))
	_, secret, err := opens(t, r, odd, "")
	require.NoError(t, err)
	assert.Equal(t, "odd", secret)
	_, _, err = opens(t, r, "carl", "")
	require.ErrorIs(t, err, auth.ErrUnknownKey)
	_, _, err = opens(t, r, "ann", "token")
	require.ErrorIs(t, err, auth.ErrBadToken)
	_, _, err = opens(t, r, golden.AccessKey, "")
	require.ErrorIs(t, err, auth.ErrBadToken, "its session token is missing")
	// Of another service altogether.
	_, _, err = opens(t, r, "ASIAIOSFODNN7EXAMPLE", "IQoJb3JpZ2luX2VjE")
	require.ErrorIs(t, err, auth.ErrUnknownKey)
}

// golden was issued by the first version of this package with the ring of
// FuzzOpen. Sessions outlive the update of a proxy, so it must be opened for ever.
var golden = Credentials{
	AccessKey: "S3FTARAFIKQ37JHAMS6Q", SecretKey: "EESWgUqwRLJhr5boBRxwtbUEfms8sXZA0H0mKJO2",
	SessionToken: "AUj9eLsDYW5uAywD0N9OomK4olLlc6f1XQ0jfiz_mmgFntb2PmZrdRX1Qy1Vu1_ueGbJqkIOSK2NiXQ",
}

func TestGolden(t *testing.T) {
	t.Parallel()
	who, secret, err := opens(t, ring(t, credentials(), with(first)), golden.AccessKey, golden.SessionToken)
	require.NoError(t, err)
	assert.Equal(t, golden.SecretKey, secret)
	assert.Equal(t, auth.Carried{Scope: scope(t, "s3://data/jobs/"), Generation: 2, Token: 34, Issued: start}, *who.Carried)
}

// FuzzOpen: whatever a stranger sends, nothing but what was issued is opened, and
// both ways in agree.
func FuzzOpen(f *testing.F) {
	r := ring(f, credentials(), with(first))
	c := golden // one issued here would be another one in each process
	f.Add(c.AccessKey, c.SessionToken)
	f.Add(c.AccessKey, "")
	f.Add("ann", c.SessionToken)
	f.Add(c.AccessKey, text.EncodeToString([]byte{version, 0, 0, 0, 0, 3, 'a', 'n', 'n'}))
	f.Add(c.AccessKey, text.EncodeToString(append([]byte{version, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, make([]byte, 40)...)))
	f.Fuzz(func(t *testing.T, accessKey, token string) {
		who, _, err := opens(t, r, accessKey, token)
		if err == nil && who.Carried != nil && (accessKey != c.AccessKey || token != c.SessionToken) {
			t.Fatalf("%q with %q was opened", accessKey, token)
		}
	})
}

// FuzzPlain: an opened token says what was sealed, whatever that was.
func FuzzPlain(f *testing.F) {
	f.Add("s3://data/jobs/", int64(1), int64(34))
	f.Add("s3://data/", int64(math.MaxInt64), int64(math.MaxInt64))
	f.Add("s3://data/a\nb/", int64(0), int64(-1))
	r := ring(f, credentials())
	f.Fuzz(func(t *testing.T, name string, generation, token int64) {
		sc, err := fence.ParseScope(name)
		if err != nil {
			return
		}
		s, key := r.parents["ann"].seals[0], newAccessKey()
		want := auth.Carried{Scope: sc, Generation: fence.Generation(generation), Token: fence.Token(token), Issued: start}
		raw := text.EncodeToString(s.seal("ann", key, want))
		who, _, err := opens(t, r, key, raw)
		if bad := generation < 1 || token < 1 || len(raw) > maxToken; bad != (err != nil) {
			t.Fatalf("%v: %v", want, err)
		}
		if err == nil && *who.Carried != want {
			t.Fatalf("%v became %v", want, *who.Carried)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	r := ring(b, credentials(), with(first, second))
	c := issue(b, r)
	ctx := context.Background()
	for name, forget := range map[string]bool{"known": false, "new": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					r.known.Purge()
				}
				if _, err := r.SecretKey(ctx, c.AccessKey, c.SessionToken); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Principal(ctx, c.AccessKey, c.SessionToken); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
