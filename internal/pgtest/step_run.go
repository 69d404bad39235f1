package pgtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// stepWait bounds each wait of a test that steps.
	stepWait = 60 * time.Second
	// ownWait is how long an answer is waited for while another connection of the same call
	// has a statement to pass.
	ownWait = 50 * time.Millisecond
)

// Stop runs call, the only one that uses the relay, and stops it where its first n
// statements have been answered (or wait for each other) and the next one is held. There at is called with that
// one; when it returns, call goes on to its end. It returns the statements that passed,
// and false where call came to its end without another one: then at was not called.
func (s *Stepper) Stop(t testing.TB, n int, call func(), at func(next *Statement)) (passed []string, stopped bool) {
	t.Helper()
	done := make(chan struct{})
	s.Hold()
	defer s.Flow()
	go func() {
		defer close(done)
		call()
	}()
	bound := time.After(stepWait)
	for queue := []*Statement(nil); ; {
		if len(queue) == 0 {
			select {
			case st := <-s.held:
				queue = append(queue, st)
			case <-done:
				return passed, false
			case <-bound:
				t.Fatalf("pgtest: neither another statement nor the end came after %q", passed)
			}
		}
		st := queue[0]
		queue = queue[1:]
		if len(passed) == n {
			at(st)
			s.Flow()
			await(t, done)
			return passed, true
		}
		passed = append(passed, st.SQL)
		st.Pass()
		for answered := false; !answered; {
			select {
			case <-st.answered:
				answered = true
			case other := <-s.held:
				queue = append(queue, other)
			case <-time.After(ownWait):
				// It may wait for a lock of another connection of the same call.
				answered = len(queue) > 0
			case <-bound:
				t.Fatalf("pgtest: a statement is not answered, the last of %q", passed)
			}
		}
	}
}

func await(t testing.TB, c <-chan struct{}) {
	t.Helper()
	bound := time.NewTimer(stepWait)
	defer bound.Stop()
	select {
	case <-c:
	case <-bound.C:
		t.Fatal("pgtest: a statement that was stepped, or the call that sent it, does not end")
	}
}

// Watch looks at the locks of a server.
type Watch struct{ conn *pgx.Conn }

// OpenWatch opens one on the database that dsn names; it ends with the test. It is for
// one goroutine.
func OpenWatch(t testing.TB, dsn string) *Watch {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("pgtest: the watch: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &Watch{conn}
}

// EndOrBlock waits until done is closed, or until one of the server processes waits for
// a lock of another: then it returns true.
func (w *Watch) EndOrBlock(t testing.TB, done <-chan struct{}, pids func() []int32) (blocked bool) {
	t.Helper()
	pause := 4 * time.Millisecond // most have ended by then, and asking costs more than waiting
	for begun := time.Now(); time.Since(begun) < stepWait; pause = time.Millisecond {
		select {
		case <-done:
			return false
		case <-time.After(pause): // asks again; proves nothing
		}
		err := w.conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM unnest($1::integer[]) AS p WHERE cardinality(pg_blocking_pids(p)) > 0)`, pids()).Scan(&blocked)
		if err != nil {
			t.Fatalf("pgtest: looking at locks: %v", err)
		}
		if blocked {
			return true
		}
	}
	t.Fatal("pgtest: it neither ends nor waits for a lock")
	return false
}
