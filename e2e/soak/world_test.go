//go:build soak

package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/storetest"
)

// world is everything that runs, and what came of it. Safe for concurrent use.
type world struct {
	sites []*site
	dsn   string
	store *storetest.Discard // nil for MinIO
	creds aws.Credentials
	gate  gate
	ops   atomic.Int64
	all   []actor

	mu     sync.Mutex
	counts map[string]int64
	wrong  []string
}

// actor does one thing after another, each whole between two rests.
type actor interface {
	step(ctx context.Context)
	// verify looks at what must be there, once no step runs any more.
	verify(t *testing.T)
}

// mostWrong bounds what is told; one is too much already.
const mostWrong = 20

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{counts: map[string]int64{}}
	var access, secret string
	w.sites, w.dsn, w.store, access, secret = startSites(t)
	w.creds = aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}
	for i := range *flagHolders {
		w.all = append(w.all, newHolder(w, i))
	}
	for i := range 4 {
		line := &line{w: w, name: fmt.Sprintf("line/%d/", i)}
		for n := range 6 {
			w.all = append(w.all, &waiter{line: line, name: fmt.Sprint("w", n), first: n == 0})
		}
	}
	swap := &swap{w: w}
	for i := range 3 {
		w.all = append(w.all, &swapper{swap: swap, first: i == 0})
	}
	slots := &slots{w: w, run: rand.Int64()}
	for i := range 2 {
		w.all = append(w.all, &claimer{slots: slots, name: fmt.Sprint("scheduler-", i), site: w.sites[i]})
	}
	for i := range 2 {
		w.all = append(w.all, newStranger(w, i))
	}
	return w
}

func (w *world) actors() []actor { return w.all }

// any is one of the proxies.
func (w *world) any() *site { return w.sites[rand.IntN(len(w.sites))] }

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// fault records what must not be.
func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrong) < mostWrong {
		w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.wrong) > 0
}

func (w *world) problems() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong)
}

// summary says how operations ended.
func (w *world) summary() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(w.counts)) {
		fmt.Fprintf(&b, "%d × %s, ", w.counts[what], what)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// disturb lets everybody work for a while, and ends sessions of the database
// meanwhile, one at a time.
func (w *world) disturb(ctx context.Context, length time.Duration) {
	end := time.NewTimer(length)
	defer end.Stop()
	every := time.NewTicker(max(length/6, time.Second))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-every.C:
			if err := w.endSession(ctx); err != nil && ctx.Err() == nil {
				w.fault("ending a session: %v", err)
			}
		}
	}
}

const endOne = `
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`

func (w *world) endSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, endOne)
	w.count("sessions ended")
	return err
}
