package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/s3fence/s3fence/client"
)

const (
	// lockWait bounds how long a worker waits for a lock beyond one lease.
	lockWait = 15 * time.Second
	// askEvery is how often the recipe asks for a lock that is held.
	askEvery = 25 * time.Millisecond
)

// lockPlace is a lock and the way to it: of a proxy where Endpoint is set, else in
// a Redis.
type lockPlace struct {
	TTL time.Duration

	Redis redisPlace
	Key   string

	Endpoint, AccessKey, SecretKey string
	Scope                          string
}

// lock is one holding of a lock.
type lock interface {
	// take waits for the lock; busy is called once where it is held, with who holds
	// it where that is known.
	take(ctx context.Context, busy func(holder string)) error
	// mine asks whether the lock is still ours; false is an answer, no error.
	mine(ctx context.Context) (bool, error)
	// left is what the holder's own clock says of the lease.
	left() time.Duration
	// giveBack is false where there was nothing to give back.
	giveBack(ctx context.Context) (bool, error)
	// token is 0 where the lock has none.
	token() int64
	close()
}

// open makes a holding for one job of owner.
func (p lockPlace) open(ctx context.Context, owner string) (lock, error) {
	if p.Endpoint == "" {
		conn, err := p.Redis.dial(ctx)
		return &recipe{place: p, conn: conn, value: rand.Text()}, err
	}
	c, err := client.New(p.Endpoint, p.AccessKey, p.SecretKey)
	return &grant{place: p, owner: owner, client: c}, err
}

// recipe is the lock that Redis's documentation describes: set if absent, with a
// value of one's own and a time to live; release by comparing and deleting in one
// step. It is done right as far as it goes.
type recipe struct {
	place lockPlace
	conn  redis.Conn
	value string
	until time.Time
}

// compareAndDelete is the release of the recipe, as Redis's documentation has it.
const compareAndDelete = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`

func (l *recipe) take(ctx context.Context, busy func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, l.place.TTL+lockWait)
	defer cancel()
	for told := false; ; {
		// Counted from before it was asked, so that it never ends later than in Redis.
		asked := time.Now()
		_, err := redis.String(redis.DoContext(l.conn, ctx, "SET", l.place.Key, l.value, "NX", "PX", l.place.TTL.Milliseconds()))
		if err == nil {
			l.until = asked.Add(l.place.TTL)
			return nil
		}
		if !errors.Is(err, redis.ErrNil) {
			return fmt.Errorf("SET NX PX: %w", err)
		}
		if !told {
			told = true
			busy("")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the lock was not had within %v: %w", l.place.TTL+lockWait, context.Cause(ctx))
		case <-time.After(askEvery):
		}
	}
}

func (l *recipe) mine(ctx context.Context) (bool, error) {
	value, err := redis.String(redis.DoContext(l.conn, ctx, "GET", l.place.Key))
	if errors.Is(err, redis.ErrNil) {
		return false, nil
	}
	return value == l.value && l.left() > 0, err
}

func (l *recipe) left() time.Duration { return time.Until(l.until) }

func (l *recipe) giveBack(ctx context.Context) (bool, error) {
	n, err := redis.Int(redis.DoContext(l.conn, ctx, "EVAL", compareAndDelete, 1, l.place.Key, l.value))
	return n == 1, err
}

func (l *recipe) token() int64 { return 0 }

func (l *recipe) close() { _ = l.conn.Close() }

// grant is a lock of s3fence.
type grant struct {
	place  lockPlace
	owner  string
	client *client.Client
	lease  client.Lease
}

func (l *grant) take(ctx context.Context, busy func(string)) error {
	a := client.Acquisition{Scope: l.place.Scope, Owner: l.owner, TTL: l.place.TTL}
	lease, err := l.client.Acquire(ctx, a)
	if errors.Is(err, client.ErrHeld) {
		holder := ""
		var e *client.Error
		if errors.As(err, &e) && e.Holder != nil {
			holder = e.Holder.Owner
		}
		busy(holder)
		a.Wait = l.place.TTL + lockWait
		lease, err = l.client.Acquire(ctx, a)
	}
	if err != nil {
		return err
	}
	// A lease counts from before it was asked for, waiting included: renewing makes
	// it whole.
	l.lease, err = l.client.Renew(ctx, lease.Scope, lease.Token, l.place.TTL)
	return err
}

func (l *grant) mine(ctx context.Context) (bool, error) {
	_, err := l.client.Check(ctx, l.place.Scope, l.lease.Token)
	if errors.Is(err, client.ErrStale) {
		return false, nil
	}
	return l.left() > 0, err
}

func (l *grant) left() time.Duration { return time.Until(l.lease.Deadline) }

func (l *grant) giveBack(ctx context.Context) (bool, error) {
	err := l.client.Release(ctx, l.place.Scope, l.lease.Token)
	if errors.Is(err, client.ErrLost) {
		return false, nil
	}
	return err == nil, err
}

func (l *grant) token() int64 { return l.lease.Token }

func (l *grant) close() {}
