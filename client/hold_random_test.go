package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// Whatever happens to requests, answers, machine and clocks, a hold's Context
// does not say that it goes on once its lease is over at the service, where
// somebody else may have the lock by then. In a third of the runs the service is
// well, and the hold must then not end by itself.
func TestHoldNeverOutlivesItsLease(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		bubble(t, fmt.Sprint("seed ", seed), func(t *testing.T, f *fake) {
			r := rand.New(rand.NewPCG(seed, 3))
			var mu sync.Mutex
			roll := func(n int) int { mu.Lock(); defer mu.Unlock(); return r.IntN(n) }
			well := seed%3 == 0
			f.ttl = []time.Duration{time.Second, 10 * time.Second, time.Minute}[roll(3)]
			second := f.ttl / 30

			until := f.ttl // of the lease at the service, in true time
			over := func() bool { return f.since() >= until }
			f.on("renew", func(int) answer {
				kind := roll(10)
				if well {
					kind = 0
				} else if kind == 9 {
					return []answer{unavailable, {err: errRefused}, {never: true}, {status: 502, body: "<html>"}}[roll(4)]
				}
				// On the way for a while, then carried out.
				time.Sleep(time.Duration(roll(8)) * second / 2)
				mu.Lock()
				defer mu.Unlock()
				if over() {
					return lockLost
				}
				until = f.since() + f.ttl
				a := f.granted()
				a.after = time.Duration(r.IntN(8)) * second / 2
				if kind >= 7 {
					a.err = errors.New("read: connection reset by peer")
				}
				return a
			})
			h := f.hold(t)
			renewals := len(f.calls("renew"))
			for range 1000 {
				time.Sleep(time.Duration(1+roll(10)) * second / 10)
				if !well && roll(40) == 0 {
					synctest.Wait()
					f.sleep(time.Duration(roll(40)) * second)
				}
				err := h.Context().Err()
				mu.Lock()
				late := over()
				mu.Unlock()
				if err == nil && late {
					t.Fatalf("at %v the context goes on, and the lease is over since %v", f.since(), until)
				}
				if err != nil {
					break
				}
			}
			if well {
				require.NoError(t, h.Context().Err())
				assert.Greater(t, len(f.calls("renew")), renewals+10)
				return
			}
			if cause := context.Cause(h.Context()); cause != nil {
				assert.True(t, errors.Is(cause, client.ErrLost) || errors.Is(cause, client.ErrMaybeLost), "%v", cause)
			}
		})
	}
}

// A renewed lease counts from before it was asked for, however long the answer took:
// so does the service's own count, at the latest.
func TestHoldCountsFromBeforeItAsked(t *testing.T) {
	t.Parallel()
	bubble(t, "a slow renewal, and none after it", func(t *testing.T, f *fake) {
		var asked time.Duration
		f.on("renew", func(n int) answer {
			a := f.granted()
			switch n {
			case 1:
			case 2:
				asked, a.after = f.since(), f.ttl/4
			default:
				a = answer{never: true}
			}
			return a
		})
		h := f.hold(t)
		<-h.Context().Done()
		require.ErrorIs(t, context.Cause(h.Context()), client.ErrMaybeLost)
		assert.GreaterOrEqual(t, f.since(), asked+f.ttl/2, "the slow renewal counts")
		assert.LessOrEqual(t, f.since(), asked+lasts)
	})
}
