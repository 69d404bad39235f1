package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// asked is the body of a call of locks/acquire.
type asked struct{ Wait, Ticket, Keep string }

// hangs is the status of an answer that does not come.
const hangs = -1

// lockService answers calls of locks/acquire without a network. Status 0 is a
// connection that broke.
type lockService struct {
	calls  []asked
	answer func(n int, a asked) (status int, body string)
}

func (s *lockService) RoundTrip(r *http.Request) (*http.Response, error) {
	var a asked
	_ = json.NewDecoder(r.Body).Decode(&a)
	s.calls = append(s.calls, a)
	status, body := s.answer(len(s.calls), a)
	if status == hangs {
		<-r.Context().Done()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	return service(func(*http.Request) (int, string) { return status, body }).RoundTrip(r)
}

func (s *lockService) client(t *testing.T) *client.Client {
	c, err := client.New("http://s3fence.test", "k", "s", client.WithHTTPClient(&http.Client{Transport: s}))
	require.NoError(t, err)
	return c
}

const (
	granted = `{"scope":"s3://data/jobs/","token":7,"ttl":"30s","expires_in_ms":30000}`
	down    = `{"code":"ServiceUnavailable","message":"this proxy is stopping; ask again"}`
)

func held(position, waiting int) string {
	return fmt.Sprintf(`{"code":"LockHeld","position":%d,"waiting":%d,"holder":{"owner":"ann","token":6,"expires_in_ms":12000}}`, position, waiting)
}

// after waits as long as the call asks and refuses.
func after(a asked, position, waiting int) (int, string) {
	d, _ := time.ParseDuration(a.Wait)
	time.Sleep(d)
	return 409, held(position, waiting)
}

// One acquisition has one ticket over all of its calls; the last one keeps no
// place, unless the caller chose the ticket and may come back.
func TestTicket(t *testing.T) {
	t.Parallel()
	for name, ticket := range map[string]string{"made up": "", "chosen": "mine"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &lockService{answer: func(_ int, a asked) (int, string) { return after(a, 1, 1) }}
				c := s.client(t)
				a := client.Acquisition{Scope: jobs, Wait: 2 * time.Minute, Ticket: ticket}
				_, err := c.Acquire(t.Context(), a)
				require.ErrorIs(t, err, client.ErrHeld)
				last := "0s"
				if ticket != "" {
					last = ""
				}
				first := s.calls[0].Ticket
				require.NotEmpty(t, first)
				assert.LessOrEqual(t, len(first), 64)
				assert.Equal(t, []asked{{"50s", first, ""}, {"50s", first, ""}, {"20s", first, last}}, s.calls)
				_, err = c.Acquire(t.Context(), a)
				require.ErrorIs(t, err, client.ErrHeld)
				assert.Equal(t, ticket != "", s.calls[3].Ticket == first)
			})
		})
	}
}

// A try repeats nothing but what may have happened: a grant whose answer was lost is
// found, and does not keep everybody out for a lease.
func TestTry(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		answer      func(n int) (int, string)
		want        error
		calls       int
		least, most time.Duration
	}{
		{"not able to", func(int) (int, string) { return 503, down }, client.ErrUnavailable, 1, 0, 0},
		{"held", func(int) (int, string) { return 409, held(0, 0) }, client.ErrHeld, 1, 0, 0},
		{"not s3fence", func(int) (int, string) { return 404, "<html>" }, client.ErrUnreachable, 1, 0, 0},
		{"answer lost", func(n int) (int, string) {
			if n == 1 {
				return 0, ""
			}
			return 200, granted
		}, nil, 2, 0, time.Second},
		{"answer lost by a proxy that restarts", func(n int) (int, string) {
			switch n {
			case 1:
				return 502, "<html>"
			case 2, 3:
				return 503, down
			}
			return 200, granted
		}, nil, 4, 0, 5 * time.Second},
		{"answer lost, and the lock is another's", func(n int) (int, string) {
			if n == 1 {
				return 504, `{"code":"OutcomeUnknown"}`
			}
			return 409, held(0, 0)
		}, client.ErrHeld, 2, 0, time.Second},
		{"a service that hangs", func(int) (int, string) { return hangs, "" }, client.ErrUnreachable, 2, 40 * time.Second, 41 * time.Second},
		{"all answers lost", func(int) (int, string) { return 0, "" }, client.ErrUnreachable, 10, 5 * time.Second, 8 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &lockService{answer: func(n int, _ asked) (int, string) { return tc.answer(n) }}
				begun := time.Now()
				l, err := s.client(t).Acquire(t.Context(), client.Acquisition{Scope: jobs})
				if tc.want == nil {
					require.NoError(t, err)
					assert.Equal(t, int64(7), l.Token)
				} else {
					require.ErrorIs(t, err, tc.want)
				}
				assert.GreaterOrEqual(t, time.Since(begun), tc.least)
				assert.LessOrEqual(t, time.Since(begun), tc.most)
				assert.LessOrEqual(t, len(s.calls), tc.calls)
				require.NotEmpty(t, s.calls[0].Ticket)
				for _, a := range s.calls {
					assert.Equal(t, asked{"", s.calls[0].Ticket, "0s"}, a, "nobody comes back for a place")
				}
			})
		})
	}
}

// A proxy restarts, answers are lost: within the wait the call is repeated with its
// ticket, and a grant whose answer was lost is found.
func TestWaitOutlivesARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &lockService{answer: func(n int, a asked) (int, string) {
			switch n {
			case 1:
				return after(a, 2, 2)
			case 2:
				time.Sleep(3 * time.Second)
				return 503, down
			case 3, 4, 5:
				return 0, "" // being restarted
			case 6:
				return 504, `{"code":"OutcomeUnknown"}`
			case 7:
				return 502, "<html>" // a balancer's
			}
			return 200, granted
		}}
		begun := time.Now()
		l, err := s.client(t).Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: 5 * time.Minute})
		require.NoError(t, err)
		assert.Equal(t, int64(7), l.Token)
		require.Len(t, s.calls, 8)
		for _, a := range s.calls {
			assert.Equal(t, asked{"50s", s.calls[0].Ticket, ""}, a)
		}
		assert.Less(t, time.Since(begun), 50*time.Second+3*time.Second+8*time.Second, "it asks again soon")
	})
}

func TestWaitGivesUp(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		status       int
		body         string
		wait         time.Duration
		want         error
		least, most  time.Duration
		atMostCalled int
	}{
		{"nobody there", 0, "", time.Hour, client.ErrUnreachable, 28 * time.Second, 32 * time.Second, 40},
		{"not able to", 503, down, time.Hour, client.ErrUnavailable, 28 * time.Second, 32 * time.Second, 40},
		{"not able to, short wait", 503, down, 5 * time.Second, client.ErrUnavailable, 4 * time.Second, 8 * time.Second, 12},
		{"nobody there, short wait", 0, "", 5 * time.Second, client.ErrUnreachable, 10 * time.Second, 13 * time.Second, 15},
		{"denied", 403, `{"code":"AccessDenied"}`, time.Hour, client.ErrDenied, 0, 0, 1},
		{"no guard", 404, `{"code":"NoSuchGuard"}`, time.Hour, client.ErrNoSuchGuard, 0, 0, 1},
		{"wrong", 400, `{"code":"InvalidScope"}`, time.Hour, client.ErrInvalid, 0, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &lockService{answer: func(int, asked) (int, string) { return tc.status, tc.body }}
				begun := time.Now()
				_, err := s.client(t).Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: tc.wait})
				require.ErrorIs(t, err, tc.want)
				assert.GreaterOrEqual(t, time.Since(begun), tc.least)
				assert.LessOrEqual(t, time.Since(begun), tc.most)
				assert.LessOrEqual(t, len(s.calls), tc.atMostCalled)
			})
		})
	}
}

// The last answer of the wait is lost: whether the lock was granted is asked once
// more.
func TestLastAnswerLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &lockService{answer: func(n int, a asked) (int, string) {
			if n == 1 {
				_, _ = after(a, 0, 0)
				return 0, ""
			}
			return 200, granted
		}}
		l, err := s.client(t).Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: 10 * time.Second})
		require.NoError(t, err)
		assert.Equal(t, int64(7), l.Token)
		assert.Equal(t, []asked{{"10s", s.calls[0].Ticket, "0s"}, {"", s.calls[0].Ticket, "0s"}}, s.calls)
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(int, asked) (int, string){
		"in a call":      func(_ int, a asked) (int, string) { return after(a, 1, 1) },
		"between two":    func(int, asked) (int, string) { return 503, down },
		"held and tried": func(_ int, a asked) (int, string) { time.Sleep(time.Second); return 409, held(1, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &lockService{answer: answer}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_, err := s.client(t).Acquire(ctx, client.Acquisition{Scope: jobs, Wait: time.Hour})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, client.ErrUnreachable, "nothing was wrong with the service")
			})
		})
	}
}

// Who watches is told when something changes, and of trouble now and then.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &lockService{answer: func(n int, a asked) (int, string) {
			switch {
			case n <= 2:
				return after(a, 3, 5)
			case n == 3:
				return after(a, 2, 4)
			case n < 20:
				return 0, ""
			case n == 20:
				return 409, `{"code":"LockHeld","waiting":1,"position":1,"delay_ms":9000}`
			}
			return 200, granted
		}}
		var told []client.Wait
		_, err := s.client(t).Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: time.Hour, Watch: func(w client.Wait) { told = append(told, w) }})
		require.NoError(t, err)
		assert.Equal(t, []string{"1s", "2s", "4s"}, []string{s.calls[0].Wait, s.calls[1].Wait, s.calls[2].Wait}, "less and less often")
		require.Greater(t, len(told), 4)
		assert.Equal(t, []int{3, 5}, []int{told[0].Position, told[0].Waiting})
		assert.Equal(t, "ann", told[0].Holder.Owner)
		assert.Equal(t, 12*time.Second, told[0].Holder.ExpiresIn)
		assert.InDelta(t, time.Hour-time.Second, told[0].Left, float64(time.Second))
		assert.Equal(t, []int{2, 4}, []int{told[1].Position, told[1].Waiting}, "nothing is said twice")
		troubles := told[2 : len(told)-1]
		assert.LessOrEqual(t, len(troubles), 7, "every few seconds")
		for _, w := range troubles {
			require.ErrorIs(t, w.Trouble, client.ErrUnreachable)
		}
		last := told[len(told)-1]
		assert.Equal(t, 9*time.Second, last.Delay)
		assert.Nil(t, last.Holder)
	})
}
