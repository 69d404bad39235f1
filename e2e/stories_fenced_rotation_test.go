package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A session secret is introduced, rotated and dropped over a rolling restart of two
// proxies, as docs/operations.md has it: at every moment each proxy opens what each
// of them issued. What ends sessions is then tried, one after the other.
func TestSessionSecrets(t *testing.T) {
	t.Parallel()
	const parentKey, parentSecret = "e2e-parent", "e2e-parent-secret"
	first, second := strings.Repeat("1", 32)+"-first", strings.Repeat("2", 32)+"-second"
	c := NewCluster(t, Options{
		Proxies: 2, Guards: []Guard{{Prefix: "jobs/"}}, Config: map[string]any{"log": map[string]any{"level": "debug"}},
		Credentials: []map[string]any{{"access_key": parentKey, "secret_key": parentSecret, "rights": []string{"read", "write", "lock"}, "buckets": []string{"*"}}},
	})
	p := c.Proxies[0]
	token := c.Take("jobs/", "rotation")
	issue := func(p *Proxy) (f Fenced) {
		t.Helper()
		p.Send(t, Request{Method: "POST", RawPath: "/-/v1/credentials", AccessKey: parentKey, SecretKey: parentSecret,
			Body: fmt.Sprintf(`{"scope":%q,"token":%d}`, c.Scope("jobs/"), token)}).Want(t, 200).JSON(t, &f)
		return f
	}
	base := maps.Clone(p.Env)
	restart := func(p *Proxy, env ...string) {
		t.Helper()
		p.Env = with(base, env...)
		p.Restart()
	}
	all := []Fenced{issue(p)}
	for step, env := range [][]string{
		{"S3FENCE_SESSION_SECRETS_ACCEPTED", first},
		{"S3FENCE_SESSION_SECRETS_ACCEPTED", "none", "S3FENCE_SESSION_SECRET", first},
		{"S3FENCE_SESSION_SECRETS_ACCEPTED", "none," + second, "S3FENCE_SESSION_SECRET", first},
		{"S3FENCE_SESSION_SECRETS_ACCEPTED", "none," + first, "S3FENCE_SESSION_SECRET", second},
	} {
		for _, rolling := range c.Proxies {
			restart(rolling, env...)
			for _, p := range c.Proxies {
				all = append(all, issue(p))
			}
			for i, f := range all {
				for _, p := range c.Proxies {
					if answer := f.Put(t, p, "jobs/k", "x"); answer.Status != 200 {
						t.Errorf("step %d, the %d. one: %s", step, i, answer)
					}
				}
			}
		}
	}
	f := all[len(all)-1]
	restart(p, "S3FENCE_SESSION_SECRET", second)
	all[0].Put(t, p, "jobs/k", "x").WantCode(t, 400, "InvalidToken")
	all[1].Put(t, p, "jobs/k", "x").WantCode(t, 400, "InvalidToken")
	f.Put(t, p, "jobs/k", "x").Want(t, 200)
	restart(p, "S3FENCE_SESSION_SECRET", second, "S3FENCE_CREDENTIALS__1__SECRET_KEY", "another-secret")
	f.Put(t, p, "jobs/k", "x").WantCode(t, 400, "InvalidToken")
	restart(p, "S3FENCE_SESSION_SECRET", second, "S3FENCE_CREDENTIALS__1__ACCESS_KEY", "another-key")
	f.Put(t, p, "jobs/k", "x").WantCode(t, 403, "InvalidAccessKeyId")
	restart(p, "S3FENCE_SESSION_SECRET", second)
	f.Put(t, p, "jobs/k", "x").Want(t, 200)

	// Another deployment with the very same configuration.
	other := NewCluster(t, Options{State: SQLite, Guards: []Guard{{Prefix: "jobs/"}}, Config: map[string]any{"session_secret": second},
		Credentials: c.options.Credentials})
	other.Take("jobs/", "other")
	f.Put(t, other.Proxies[0], "jobs/k", "x").WantCode(t, 400, "InvalidToken")

	printed := p.local("config", "print", "--config", "s3fence.yaml").Must(t)
	for _, text := range []string{p.Log(), printed} {
		for _, secret := range []string{first, second, parentSecret, f.SecretKey, f.SessionToken} {
			assert.NotContains(t, text, secret)
		}
	}
	assert.Contains(t, p.Log(), "session="+f.AccessKey, "a request can be traced to its temporary key")
}
