package memory_test

import (
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestState(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t testing.TB) statetest.Subject {
		var ahead atomic.Int64
		s := memory.New(memory.WithClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
		t.Cleanup(func() { _ = s.Close() })
		return statetest.Subject{
			State:   s,
			Second:  func(testing.TB) state.State { return s },
			Advance: func(_ testing.TB, d time.Duration) { ahead.Add(int64(d)) },
		}
	})
}
