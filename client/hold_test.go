package client_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// A hold renews once before it begins, then every third of its lease, and its
// deadline counts from before each was asked for.
func TestHoldRenews(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{time.Second, 30 * time.Second, 10 * time.Minute} {
		bubble(t, ttl.String(), func(t *testing.T, f *fake) {
			f.ttl = ttl
			slow := min(ttl/50, 5*time.Second)
			f.on("renew", func(int) answer { a := f.granted(); a.after = slow; return a })
			h := f.hold(t, client.WithTTL(ttl), client.WithOwner("ann"))
			assert.Equal(t, ttl.String(), f.last("acquire").body.TTL)
			assert.Equal(t, "ann", f.last("acquire").body.Owner)
			require.Len(t, f.calls("renew"), 1, "before Hold returns")
			assert.Equal(t, int64(7), h.Token())
			assert.Equal(t, jobs, h.Scope())
			assert.Equal(t, f.start.Add(ttl), h.Lease().Deadline, "counted from before the renewal was asked for, which took %v", slow)

			time.Sleep(20 * ttl)
			require.NoError(t, h.Context().Err())
			at := f.calls("renew")
			for i := 1; i < len(at); i++ {
				gap := at[i] - at[i-1]
				assert.LessOrEqual(t, gap, ttl/3+time.Millisecond)
				assert.GreaterOrEqual(t, gap, ttl*3/10-time.Millisecond)
			}
			assert.GreaterOrEqual(t, len(at), 60)
			assert.LessOrEqual(t, len(at), 67)
			require.NoError(t, h.Release(t.Context()))
			assert.Equal(t, len(f.calls("renew")), len(at), "nothing is renewed after the release")
		})
	}
	bubble(t, "not all at once for ever", func(t *testing.T, f *fake) {
		holds := make([]*client.Held, 20)
		for i := range holds {
			holds[i] = f.hold(t)
		}
		time.Sleep(10 * ttl)
		synctest.Wait()
		seen := map[time.Duration]int{}
		for _, at := range f.calls("renew")[len(holds):] {
			seen[at.Truncate(100*time.Millisecond)]++
		}
		assert.Greater(t, len(seen), 100, "renewals of 20 holds over 300 s")
	})
}

// What ends a hold, and when: for certain by what the service says, else before
// the lease could be over.
func TestHoldLosses(t *testing.T) {
	t.Parallel()
	fresh := func(f *fake) time.Duration { return f.calls("renew")[0] }
	for _, tc := range []struct {
		name string
		// renew answers from the second renewal on; the first one succeeds.
		renew func(n int, f *fake) answer
		want  error
		also  error // wrapped as well
		says  string
		// tries are the most and the fewest renewals after the first.
		fewest, most int
	}{
		{"lost", func(int, *fake) answer { return lockLost }, client.ErrLost, client.ErrLost, "8 was granted to bob", 1, 1},
		{"stale", func(int, *fake) answer {
			return answer{status: 412, body: `{"code":"StaleFencingToken","message":"stale"}`}
		}, client.ErrLost, client.ErrStale, "stale", 1, 1},
		{"another holder", func(int, *fake) answer { return answer{status: 403, body: `{"code":"OtherHolder","message":"other"}`} }, client.ErrLost, client.ErrDenied, "other", 1, 1},
		{"never granted: the state is an old copy", func(int, *fake) answer {
			return answer{status: 400, body: `{"code":"InvalidFencingToken","message":"never"}`}
		}, client.ErrLost, nil, "never", 1, 1},
		{"lost after an outage", func(n int, _ *fake) answer {
			if n < 4 {
				return unavailable
			}
			return lockLost
		}, client.ErrLost, nil, "bob", 3, 3},
		{"denied, which may be a mistake that is mended", func(int, *fake) answer { return answer{status: 403, body: `{"code":"AccessDenied","message":"no"}`} }, client.ErrMaybeLost, client.ErrDenied, "no renewal was answered for 27s; the last failed: no", 6, 40},
		{"unavailable", func(int, *fake) answer { return unavailable }, client.ErrMaybeLost, client.ErrUnavailable, "cannot be asked", 6, 40},
		{"refused", func(int, *fake) answer { return answer{err: errRefused} }, client.ErrMaybeLost, client.ErrUnreachable, "connection refused", 6, 40},
		{"not answered", func(int, *fake) answer { return answer{never: true} }, client.ErrMaybeLost, client.ErrUnreachable, "no answer within", 3, 20},
		{"answered too late, each time", func(_ int, f *fake) answer { a := f.granted(); a.after = 20 * time.Second; return a }, client.ErrMaybeLost, client.ErrUnreachable, "no answer within", 3, 20},
		{"outcome unknown", func(int, *fake) answer { return answer{status: 504, body: `{"code":"OutcomeUnknown"}`} }, client.ErrMaybeLost, client.ErrUnknownOutcome, "", 6, 40},
		{"a gateway's page", func(int, *fake) answer { return answer{status: 502, body: "<html>"} }, client.ErrMaybeLost, client.ErrUnreachable, "does not answer as s3fence", 6, 40},
		{"another token's lease", func(int, *fake) answer {
			return answer{status: 200, body: `{"scope":"s3://data/jobs/","token":8,"ttl":"30s","expires_in_ms":30000}`}
		}, client.ErrMaybeLost, client.ErrUnreachable, "token 8 for token 7", 6, 40},
		{"a lease that is nearly over", func(int, *fake) answer {
			return answer{status: 200, body: `{"scope":"s3://data/jobs/","token":7,"ttl":"30s","expires_in_ms":2000}`}
		}, client.ErrMaybeLost, nil, "", 1, 1},
	} {
		bubble(t, tc.name, func(t *testing.T, f *fake) {
			f.on("renew", func(n int) answer {
				if n == 1 {
					return f.granted()
				}
				return tc.renew(n, f)
			})
			o := &observed{}
			h := f.hold(t, o.option())
			<-h.Context().Done()
			ended := f.since()
			cause := context.Cause(h.Context())
			require.ErrorIs(t, h.Context().Err(), context.Canceled)
			require.ErrorIs(t, cause, tc.want)
			if tc.also != nil {
				require.ErrorIs(t, cause, tc.also)
			}
			require.ErrorContains(t, cause, tc.says)
			var e *client.HoldError
			require.ErrorAs(t, cause, &e)
			assert.Equal(t, jobs, e.Scope)
			assert.Equal(t, int64(7), e.Token)
			if errors.Is(tc.want, client.ErrMaybeLost) {
				assert.NotErrorIs(t, cause, client.ErrLost)
				assert.LessOrEqual(t, ended-fresh(f), lasts)
				if tc.fewest > 1 {
					assert.GreaterOrEqual(t, ended-fresh(f), lasts-time.Millisecond, "not before it must")
				}
			} else {
				assert.NotErrorIs(t, cause, client.ErrMaybeLost)
				at := f.calls("renew")
				assert.Equal(t, at[len(at)-1], ended, "at once")
			}
			tries := len(f.calls("renew")) - 1
			assert.GreaterOrEqual(t, tries, tc.fewest)
			assert.LessOrEqual(t, tries, tc.most)

			synctest.Wait()
			last := o.events[len(o.events)-1]
			assert.Equal(t, client.HoldLost, last.Kind)
			assert.Equal(t, cause, last.Err)
			assert.Equal(t, 1, o.kinds()[client.HoldLost])
			time.Sleep(time.Hour)
			assert.Len(t, f.calls("renew"), tries+1, "nothing is renewed any more")
			assert.Empty(t, f.calls("release"), "nothing was given back")
		})
	}
}

// Failures that pass within the lease end nothing.
func TestHoldSurvives(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		renew func(n int, f *fake) answer
	}{
		{"a proxy restarted", func(_ int, f *fake) answer {
			if in(f, 9, 20) {
				return answer{err: errRefused}
			}
			return f.granted()
		}},
		{"the database restarted", func(_ int, f *fake) answer {
			if in(f, 5, 22) {
				return unavailable
			}
			return f.granted()
		}},
		{"every other answer lost", func(n int, f *fake) answer {
			if n%2 == 0 {
				return answer{err: errors.New("read: connection reset by peer"), after: time.Second}
			}
			return f.granted()
		}},
		{"a proxy that hangs", func(_ int, f *fake) answer {
			if in(f, 5, 15) {
				return answer{never: true}
			}
			return f.granted()
		}},
		{"always slow", func(_ int, f *fake) answer { a := f.granted(); a.after = 5 * time.Second; return a }},
		{"denied for a moment", func(_ int, f *fake) answer {
			if in(f, 5, 15) {
				return answer{status: 403, body: `{"code":"InvalidAccessKeyId"}`}
			}
			return f.granted()
		}},
	} {
		bubble(t, tc.name, func(t *testing.T, f *fake) {
			f.on("renew", func(n int) answer { return tc.renew(n, f) })
			o := &observed{}
			h := f.hold(t, o.option())
			for range 600 {
				time.Sleep(time.Second / 10)
				require.NoError(t, h.Context().Err(), "after %v", f.since())
			}
			require.NoError(t, h.Release(t.Context()))
			assert.Zero(t, o.kinds()[client.HoldLost])
			for _, e := range o.events {
				if e.Kind == client.HoldRetrying {
					assert.Error(t, e.Err)
					assert.Positive(t, e.RetryIn)
					assert.Positive(t, e.Left)
					assert.Less(t, e.Left, lasts)
				}
			}
		})
	}
}

// in says whether the time is within so many seconds from the beginning.
func in(f *fake, from, to int) bool {
	return f.since() >= time.Duration(from)*time.Second && f.since() < time.Duration(to)*time.Second
}

// Time in which the machine slept counts, whatever timers say, and no renewal
// is believed that was answered after the lease was over.
func TestHoldSuspended(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		jump func(f *fake, d time.Duration)
	}{
		{"suspended", func(f *fake, d time.Duration) { f.sleep(d) }},
		{"stopped by its host, clock set after", func(f *fake, d time.Duration) { f.set(d) }},
	} {
		bubble(t, tc.name+" for an hour", func(t *testing.T, f *fake) {
			h := f.hold(t)
			child, cancel := context.WithCancel(h.Context())
			defer cancel()
			time.Sleep(time.Second)
			synctest.Wait()
			tc.jump(f, time.Hour)
			select {
			case <-h.Context().Done():
				t.Fatal("nothing has looked yet")
			default:
			}
			require.Error(t, h.Context().Err(), "asking looks")
			<-h.Context().Done()
			<-child.Done()
			require.ErrorIs(t, context.Cause(child), client.ErrMaybeLost)
			require.ErrorContains(t, context.Cause(h.Context()), "no renewal was answered for 1h0m1s")
			assert.Len(t, f.calls("renew"), 1)
		})
		bubble(t, tc.name+" for an hour, nobody asks", func(t *testing.T, f *fake) {
			for _, ttl := range []time.Duration{30 * time.Second, time.Second} {
				f.ttl = ttl
				h := f.hold(t)
				before := len(f.calls("renew"))
				time.Sleep(ttl * 52 / 1000)
				synctest.Wait()
				tc.jump(f, time.Hour)
				woken := time.Now()
				<-h.Context().Done()
				assert.LessOrEqual(t, time.Since(woken), min(500*time.Millisecond, ttl/20))
				require.ErrorIs(t, context.Cause(h.Context()), client.ErrMaybeLost)
				assert.Len(t, f.calls("renew"), before, "before anything was renewed")
			}
		})
		bubble(t, tc.name+" with a renewal under way", func(t *testing.T, f *fake) {
			f.on("renew", func(n int) answer {
				a := f.granted()
				if n > 1 {
					a.after = 20 * time.Millisecond
				}
				return a
			})
			h := f.hold(t)
			for len(f.calls("renew")) < 2 {
				time.Sleep(time.Millisecond)
			}
			tc.jump(f, time.Hour)
			<-h.Context().Done()
			require.ErrorIs(t, context.Cause(h.Context()), client.ErrMaybeLost, "the answer came after the end of the lease")
			assert.Equal(t, f.start.Add(ttl), h.Lease().Deadline, "it was not taken over")
		})
		bubble(t, tc.name+" within the lease", func(t *testing.T, f *fake) {
			h := f.hold(t)
			for range 20 {
				time.Sleep(time.Second)
				synctest.Wait()
				before := len(f.calls("renew"))
				tc.jump(f, 20*time.Second)
				time.Sleep(500 * time.Millisecond)
				synctest.Wait()
				require.NoError(t, h.Context().Err())
				assert.Len(t, f.calls("renew"), before+1, "what is overdue is done at once")
			}
		})
	}
	bubble(t, "the wall clock set back", func(t *testing.T, f *fake) {
		f.on("renew", func(n int) answer {
			if n == 1 {
				return f.granted()
			}
			return unavailable
		})
		h := f.hold(t)
		f.set(-time.Hour)
		<-h.Context().Done()
		assert.Equal(t, lasts, f.since(), "does not make a lease longer")
	})
}

// What Hold fails with, and that a lock it took meanwhile is given back.
func TestHoldDoesNotBegin(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	bubble(t, "held", func(t *testing.T, f *fake) {
		f.on("acquire", func(int) answer {
			return answer{status: 409, body: `{"code":"LockHeld","holder":{"owner":"bob","token":6}}`}
		})
		_, err := f.client(t).Hold(ctx, jobs)
		require.ErrorIs(t, err, client.ErrHeld)
		assert.Empty(t, f.calls("release"))
	})
	bubble(t, "lost at once", func(t *testing.T, f *fake) {
		f.on("renew", func(int) answer { return lockLost })
		_, err := f.client(t).Hold(ctx, jobs)
		require.ErrorIs(t, err, client.ErrLost)
		require.ErrorContains(t, err, "token 7")
	})
	bubble(t, "never renewed", func(t *testing.T, f *fake) {
		f.on("renew", func(int) answer { return answer{err: errRefused} })
		_, err := f.client(t).Hold(ctx, jobs)
		require.ErrorIs(t, err, client.ErrUnreachable)
		assert.NotErrorIs(t, err, client.ErrMaybeLost, "nothing has begun")
		assert.Equal(t, lasts, f.since())
		assert.Len(t, f.calls("release"), 1)
	})
	bubble(t, "never renewed, nor given back", func(t *testing.T, f *fake) {
		f.on("renew", func(int) answer { return unavailable })
		f.on("release", func(int) answer { return answer{err: errRefused} })
		_, err := f.client(t).Hold(ctx, jobs)
		require.ErrorIs(t, err, client.ErrUnavailable)
		require.ErrorIs(t, err, client.ErrUnreachable)
		require.ErrorContains(t, err, "free after 30s")
		assert.LessOrEqual(t, f.since(), lasts+10*time.Second)
	})
	bubble(t, "the caller gives up", func(t *testing.T, f *fake) {
		f.on("renew", func(int) answer { return answer{never: true} })
		ctx, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(time.Second, func() { cancel(errors.New("enough")) })
		_, err := f.client(t).Hold(ctx, jobs)
		require.ErrorContains(t, err, "enough")
		assert.Equal(t, time.Second, f.since())
		assert.Len(t, f.calls("release"), 1)
	})
	bubble(t, "renewed after a while", func(t *testing.T, f *fake) {
		f.on("renew", func(n int) answer {
			if n < 4 {
				return unavailable
			}
			return f.granted()
		})
		h := f.hold(t)
		assert.Equal(t, f.start.Add(f.calls("renew")[3]+ttl), h.Lease().Deadline)
	})
	bubble(t, "an answer without a ttl", func(t *testing.T, f *fake) {
		f.on("acquire", func(int) answer { return answer{status: 200, body: `{"scope":"s3://data/jobs/","token":7}`} })
		_, err := f.client(t).Hold(ctx, jobs)
		require.ErrorIs(t, err, client.ErrUnreachable)
	})
	for name, opts := range map[string][]client.HoldOption{
		"force without a reason": {client.WithForce("")},
		"force that waits":       {client.WithForce("it hangs"), client.WithWait(time.Second)},
	} {
		bubble(t, name, func(t *testing.T, f *fake) {
			_, err := f.client(t).Hold(ctx, jobs, opts...)
			require.ErrorIs(t, err, client.ErrInvalid)
			assert.Empty(t, f.seen)
		})
	}
	bubble(t, "force", func(t *testing.T, f *fake) {
		f.hold(t, client.WithForce("it hangs"), client.WithOwner("ann"), client.WithTTL(ttl))
		assert.Empty(t, f.calls("acquire"))
		assert.Equal(t, "it hangs", f.last("take").body.Reason)
		assert.Equal(t, "ann", f.last("take").body.Owner)
		assert.Equal(t, "30s", f.last("take").body.TTL)
	})
}
