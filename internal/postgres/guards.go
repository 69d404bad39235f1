package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

const readDeployment = `SELECT id, incarnation FROM deployment`

// Deployment identifies the state.
func (db *DB) Deployment(ctx context.Context) (state.Deployment, error) {
	var d state.Deployment
	err := db.one(ctx, func() {}, func(rows pgx.Rows) error {
		return rows.Scan((*[16]byte)(&d.ID), &d.Incarnation)
	}, readDeployment)
	return d, err
}

// shareGuardList orders renewals with changes of the list. Whoever changes it
// holds this lock exclusively until COMMIT. A renewal before that is visible to
// the changer's later look at the proxies; one after it sees the new version.
// Without the lock a renewal could fall between the two: read the old list and
// not yet be seen (F9).
const shareGuardList = `SELECT pg_advisory_xact_lock_shared($1)`

// renewProxy writes one row, which only that proxy writes.
const renewProxy = `
INSERT INTO proxies (id, acked, seen) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET acked = excluded.acked, seen = excluded.seen`

// readNewerGuards gives nothing where the caller knows the list. Later statement
// than the lock, so version and list agree.
const readNewerGuards = `
SELECT ` + guardColumns + ` FROM guards WHERE (SELECT version FROM guard_list) <> $1 ORDER BY id`

// RenewGuards renews a proxy's lease on the guard list in one round trip; see
// [state.State]. READ COMMITTED. With any error the lease is not renewed for the
// caller, even if the row was written: that is the safe side.
func (db *DB) RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (version int64, list []fence.Guard, err error) {
	var tag string
	// Whoever froze while changing the list must not take the lease, and with it
	// every write, from all proxies.
	stop := db.breakLocks(0, []int64{lockID(listDomain)}, nil)
	defer stop()
	err = db.flush(ctx, func(f *pipeline) {
		list = nil
		f.exec(begin)
		f.exec(setLimits, milliseconds(state.DefaultWait), milliseconds(idleLimit))
		f.exec(shareGuardList, lockID(listDomain))
		f.exec(renewProxy, pgUUID(proxy), acked)
		f.query(func(rows pgx.Rows) error {
			var last int64
			return rows.Scan(&version, &last)
		}, readListVersion)
		f.query(func(rows pgx.Rows) error {
			g, err := scanGuard(rows)
			list = append(list, g)
			return err
		}, readNewerGuards, known)
		f.command(&tag, commit)
	})
	if err != nil {
		return 0, nil, err
	}
	if tag != "COMMIT" {
		return 0, nil, fmt.Errorf("%w: COMMIT was answered with %q", state.ErrUnavailable, tag)
	}
	if version != known && list == nil {
		list = []fence.Guard{}
	}
	return version, list, nil
}

const listProxies = `SELECT id, acked, seen FROM proxies ORDER BY id`

// Proxies lists the proxies by id, with the database's time. The clock is read
// first: where the two differ, a proxy must look alive for too long, not dead too
// soon.
func (db *DB) Proxies(ctx context.Context) ([]state.Proxy, time.Time, error) {
	var list []state.Proxy
	var now time.Time
	err := db.flush(ctx, func(f *pipeline) {
		list = nil
		f.query(func(rows pgx.Rows) error { return scanTime(rows, &now) }, readClock)
		f.query(func(rows pgx.Rows) error {
			var p state.Proxy
			if err := rows.Scan((*[16]byte)(&p.ID), &p.Acked, &p.Seen); err != nil {
				return err
			}
			p.Seen = p.Seen.UTC()
			list = append(list, p)
			return nil
		}, listProxies)
	})
	return list, now, err
}

const forgetProxy = `DELETE FROM proxies WHERE id = $1`

// ForgetProxy removes a proxy that has stopped for good; one that is not there is
// fine.
func (db *DB) ForgetProxy(ctx context.Context, proxy uuid.UUID) error {
	return db.flush(ctx, func(f *pipeline) { f.exec(forgetProxy, pgUUID(proxy)) })
}
