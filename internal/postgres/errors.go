package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/s3fence/s3fence/internal/state"
)

// SQLSTATEs that are acted on
// (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
	uniqueViolation  = "23505"
	checkViolation   = "23514"
	duplicateTable   = "42P07"
	undefinedTable   = "42P01"
	undefinedColumn  = "42703"
	undefinedRoutine = "42883"
	badPassword      = "28P01"
	badAuthorization = "28000"
	noDatabase       = "3D000"
	diskFull         = "53100"
	tooManySessions  = "53300"
	adminShutdown    = "57P01"
	crashShutdown    = "57P02"
	// markFalls is raised by our own schema, as is S3F02 (must_write).
	markFalls = "S3F01"
)

// remedy is what a person types to mend the schema.
const remedy = "run: s3fence migrate"

func unavailable(err error) error { return fmt.Errorf("%w: %w", state.ErrUnavailable, err) }

// sqlState is the code of a server's error, or "".
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// undone wraps the error of a transaction that is known to have changed nothing.
func undone(err error) error {
	switch sqlState(err) {
	case lockNotAvailable, deadlockDetected:
		return fmt.Errorf("%w: %w", state.ErrBusy, err)
	case diskFull:
		return fmt.Errorf("%w: %w: %w", state.ErrUnavailable, state.ErrDiskFull, err)
	case markFalls:
		return fmt.Errorf("%w: %w", state.ErrMarkFalls, err)
	case undefinedTable, undefinedColumn, undefinedRoutine:
		return fmt.Errorf("%w: %w: %w; %s", state.ErrUnavailable, state.ErrSchema, err, remedy)
	}
	return unavailable(err)
}

// refusedByServer reports that the server itself said that a statement failed,
// and goes on with the session: the transaction was not committed. FATAL and
// PANIC end the session at a moment that says nothing about a COMMIT sent
// before, and class 08 is how poolers speak of connections that they lost.
func refusedByServer(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(pg.Code, "08") && !strings.HasPrefix(pg.Code, "57P")
}

// lostConnection reports that a connection was found dead, so that another one
// may do better. A timeout is none: another one would only wait again.
func lostConnection(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil || pgconn.Timeout(err) {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == adminShutdown || pg.Code == crashShutdown || strings.HasPrefix(pg.Code, "08")
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return !connecting
}

// badDSN says what is wrong with a connection string without repeating it: a
// malformed one may show its password anywhere.
func badDSN(err error) error {
	why := "malformed"
	if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		// Its text is "cannot parse `…`: why (details)"; the details repeat input.
		if _, after, ok := strings.Cut(parse.Error(), "`: "); ok {
			why, _, _ = strings.Cut(after, " (")
		}
	}
	return fmt.Errorf("state: not a PostgreSQL connection string: %s; write postgres://user:password@host:5432/database", why)
}

// explain turns the error of an attempt to connect into one line that says what
// to do. It wraps state.ErrUnavailable; it never has the password.
func explain(config *pgx.ConnConfig, err error) error {
	where := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if strings.HasPrefix(config.Host, "/") {
		where = config.Host
	}
	say := func(format string, args ...any) error {
		return fmt.Errorf("%w: PostgreSQL at %s "+format, append([]any{state.ErrUnavailable, where}, args...)...)
	}
	switch sqlState(err) {
	case badPassword, badAuthorization:
		return say("does not let user %q in: correct user and password in state", config.User)
	case tooManySessions:
		return say("refuses: %w (SQLSTATE %s)", state.ErrNoConnection, tooManySessions)
	case noDatabase:
		return say("has no database %q: create it (createdb %s), then %s", config.Database, config.Database, remedy)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return say("refuses: %s (SQLSTATE %s)", pg.Message, pg.Code)
	}
	if errors.Is(err, context.Canceled) {
		return unavailable(context.Canceled)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return say("cannot be found: %s; correct the host in state", dns.Err)
	}
	if pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return say("does not answer: check that it runs and that nothing in between drops packets")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return say("cannot be reached: %v; start it, or correct state", op.Err)
	}
	inner := err
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		inner = connect.Unwrap()
	}
	return say("cannot be used: %s", strings.Join(strings.Fields(inner.Error()), " "))
}
