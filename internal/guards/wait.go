package guards

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// longDead is when a proxy that did not renew is taken for dead by the
// database's clock. It is long because that clock may be set: a step of less
// than an hour must not make a living proxy look dead. Waiting for a proxy never
// takes more than a lease anyway.
const longDead = time.Hour

// outlast is how long a lease can last on the slowest clock that is allowed for.
func outlast(lease time.Duration) time.Duration { return lease + lease/10 + time.Second }

// bind waits until every mutation of every proxy is bound by a version of the
// guard list that is committed at the moment of the call: until each proxy has
// acknowledged it, or a whole lease has passed since. See the package's comment
// for why that is enough.
func (a *Admin) bind(ctx context.Context, version int64) error {
	// Go's monotonic clock on purpose: it does not run in suspend, so it never
	// shows more time than really passed.
	since := time.Now()
	pause := 5 * time.Millisecond
	for {
		a.hurry(ctx)
		proxies, now, err := a.state.Proxies(ctx)
		if err == nil && !slices.ContainsFunc(proxies, func(p state.Proxy) bool {
			return p.Acked < version && now.Sub(p.Seen) < longDead+outlast(a.lease)
		}) {
			return nil
		}
		left := outlast(a.lease) - time.Since(since)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for every proxy to take notice of the guard: %w", context.Cause(ctx))
		case <-time.After(min(pause, left)):
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}
