package postgres

import (
	"context"
	"net"
	"net/url"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/testserver"
)

// TestOpenSaysWhatIsWrong in one line, without the password.
func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-secret"
	good, err := url.Parse(pgtest.DSN(t))
	require.NoError(t, err)
	with := func(change func(*url.URL)) string {
		u := *good
		u.User = url.UserPassword(good.User.Username(), secret)
		change(&u)
		return u.String()
	}
	port, err := testserver.FreePort()
	require.NoError(t, err)
	closed := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	for name, c := range map[string]struct{ dsn, want string }{
		"nobody listens":    {with(func(u *url.URL) { u.Host = closed }), closed + " cannot be reached: connect: connection refused; start it"},
		"silence":           {with(func(u *url.URL) { u.Host = silent.Addr().String(); u.RawQuery += "&connect_timeout=1" }), "does not answer"},
		"unknown user":      {with(func(u *url.URL) { u.User = url.UserPassword("ann", secret) }), `does not let user "ann" in`},
		"no such database":  {with(func(u *url.URL) { u.Path = "/absent" }), `has no database "absent": create it (createdb absent), then run: s3fence migrate`},
		"no such host":      {with(func(u *url.URL) { u.Host = "absent.invalid:5432" }), "absent.invalid:5432 cannot be found"},
		"malformed URL":     {"postgres://ann:" + secret + "@host:port/db", "write postgres://"},
		"malformed words":   {"host=localhost password='" + secret, "write postgres://"},
		"another database":  {"mysql://ann:" + secret + "@host/db", "write postgres://"},
		"malformed setting": {"postgres://ann:" + secret + "@host/db?sslmode=perhaps", "write postgres://"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(t.Context(), c.dsn, Options{})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), secret)
			require.NotContains(t, err.Error(), "\n")
			_, _, err = Migrate(t.Context(), c.dsn)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

// TestOpenWithAWrongPassword needs a server that asks for one.
func TestOpenWithAWrongPassword(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	conn := connect(t, server.DSN("postgres"))
	var rules string
	require.NoError(t, conn.QueryRow(t.Context(), "SHOW hba_file").Scan(&rules))
	_, err := conn.Exec(t.Context(), "CREATE ROLE ann LOGIN PASSWORD 'right'")
	require.NoError(t, err)
	before, err := os.ReadFile(rules)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(rules, append([]byte("host all ann 127.0.0.1/32 scram-sha-256\n"), before...), 0o600))
	_, err = conn.Exec(t.Context(), "SELECT pg_reload_conf()")
	require.NoError(t, err)
	dsn, err := url.Parse(server.DSN("postgres"))
	require.NoError(t, err)
	dsn.User = url.UserPassword("ann", "wrong-secret")
	require.Eventually(t, func() bool {
		db, err := Open(t.Context(), dsn.String(), Options{})
		if err == nil { // the rules are not read yet
			_ = db.Close()
			return false
		}
		require.ErrorContains(t, err, `does not let user "ann" in: correct user and password in state`)
		require.ErrorIs(t, err, state.ErrUnavailable)
		require.NotContains(t, err.Error(), "wrong-secret")
		return true
	}, waitLong, waitTick)
	dsn.User = url.UserPassword("ann", "right")
	db, err := Open(t.Context(), dsn.String(), Options{})
	require.NoError(t, err)
	require.ErrorIs(t, db.Check(t.Context()), state.ErrSchema)
	require.NoError(t, db.Close())
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, pgtest.DSN(t), Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, state.ErrUnavailable)
}
