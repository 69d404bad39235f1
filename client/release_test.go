package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	bubble(t, "again and again", func(t *testing.T, f *fake) {
		h := f.hold(t)
		done := make(chan error)
		for range 10 {
			go func() { done <- h.Release(t.Context()) }()
		}
		for range 10 {
			require.NoError(t, <-done)
		}
		require.NoError(t, h.Release(t.Context()))
		require.ErrorIs(t, context.Cause(h.Context()), client.ErrReleased)
		require.ErrorContains(t, context.Cause(h.Context()), jobs)
		assert.Len(t, f.calls("release"), 1)
		assert.Equal(t, int64(7), f.last("release").body.Token)
	})
	bubble(t, "a renewal under way comes first", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("renew", func(int) answer { return answer{never: true} })
		for len(f.calls("renew")) < 2 {
			time.Sleep(100 * time.Millisecond)
		}
		require.NoError(t, h.Release(t.Context()))
		assert.Equal(t, "release", f.seen[len(f.seen)-1].call)
		time.Sleep(time.Hour)
		assert.Equal(t, "release", f.seen[len(f.seen)-1].call)
	})
	bubble(t, "under a context that has ended", func(t *testing.T, f *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		h, err := f.client(t).Hold(ctx, jobs)
		require.NoError(t, err)
		cancel()
		<-h.Context().Done()
		require.ErrorIs(t, context.Cause(h.Context()), context.Canceled)
		time.Sleep(time.Hour)
		assert.Empty(t, f.calls("release"), "the caller's work may still run")
		assert.Len(t, f.calls("renew"), 1)
		require.NoError(t, h.Release(ctx))
		assert.Len(t, f.calls("release"), 1)
		require.NoError(t, h.Release(h.Context()))
	})
	bubble(t, "under the context of a hold that was lost", func(t *testing.T, f *fake) {
		outer := f.hold(t)
		other := newFake()
		var o observed
		inner, err := other.client(t).Hold(outer.Context(), jobs, client.WithHoldClock(other.clock()), o.option())
		require.NoError(t, err)
		f.on("renew", func(int) answer { return lockLost })
		<-inner.Context().Done()
		require.ErrorIs(t, context.Cause(inner.Context()), client.ErrLost, "of the outer one")
		require.NoError(t, inner.Release(t.Context()), "this one is not lost")
		assert.Len(t, other.calls("release"), 1)
		assert.Zero(t, o.kinds()[client.HoldLost])
	})
	bubble(t, "through an outage", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("release", func(n int) answer {
			if n < 4 {
				return answer{err: errRefused}
			}
			return answer{status: 200, body: `{}`}
		})
		require.NoError(t, h.Release(t.Context()))
		assert.Len(t, f.calls("release"), 4)
	})
	bubble(t, "bounded, and tried again", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("release", func(int) answer { return answer{never: true} })
		require.ErrorIs(t, h.Release(t.Context()), client.ErrUnreachable)
		assert.Equal(t, 10*time.Second, f.since())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, h.Release(ctx))
		assert.Equal(t, 11*time.Second, f.since())
		f.on("release", nil)
		require.NoError(t, h.Release(t.Context()))
	})
	bubble(t, "what is lost is not given back", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("renew", func(int) answer { return lockLost })
		<-h.Context().Done()
		require.ErrorIs(t, h.Release(t.Context()), client.ErrLost)
		assert.Empty(t, f.calls("release"))
		require.ErrorIs(t, context.Cause(h.Context()), client.ErrLost, "the first cause stays")
	})
	bubble(t, "what may be lost is asked for", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.sleep(time.Hour)
		f.on("release", func(int) answer { return lockLost })
		require.ErrorIs(t, h.Release(t.Context()), client.ErrLost, "the service has the last word")
		assert.Len(t, f.calls("release"), 1)
	})
}

// An observer that is busy, on a terminal that was stopped say, delays nothing,
// and hears of a loss in the end.
func TestObserverThatBlocks(t *testing.T) {
	t.Parallel()
	bubble(t, "a terminal that was stopped", func(t *testing.T, f *fake) {
		goOn := make(chan struct{})
		var told []client.HoldEvent
		h := f.hold(t, client.WithObserver(func(e client.HoldEvent) { <-goOn; told = append(told, e) }))
		time.Sleep(100 * ttl)
		assert.Greater(t, len(f.calls("renew")), 290)
		require.NoError(t, h.Context().Err())
		f.on("renew", func(int) answer { return lockLost })
		<-h.Context().Done()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, h.Release(ctx), client.ErrLost)
		close(goOn)
		require.ErrorIs(t, h.Release(t.Context()), client.ErrLost)
		assert.Less(t, len(told), 50)
		assert.Equal(t, client.HoldLost, told[len(told)-1].Kind, fmt.Sprint(told[len(told)-1]))
		for _, k := range []client.HoldEventKind{client.HoldRenewed, client.HoldRetrying, client.HoldLost, 0} {
			assert.NotEmpty(t, k.String())
		}
	})
}
