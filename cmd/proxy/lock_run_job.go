package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/lockrun"
)

const (
	// forever is a wait that nobody sees the end of.
	forever = 100 * 365 * 24 * time.Hour
	// firstTime is how long a service that never answered is asked again: a proxy that
	// is being restarted is back by then, a name that is wrong stays wrong.
	firstTime = 5 * time.Second
	// outages is how many outages a wait survives, of half a minute each, before the
	// service is given up; one after calm counts as the first again.
	outages = 10
	calm    = 2 * time.Minute
	// sayEvery is how often one trouble is told.
	sayEvery = 10 * time.Second
)

// job is one lock run.
type job struct {
	scope, owner, reason string
	// wait is nil for ever.
	wait              *time.Duration
	ttl, grace        time.Duration
	force, quiet      bool
	held              int
	claim, slotText   string
	slot, slotWarning string
	path              string
	args              []string

	c *cobra.Command
	s service
	// troubled is when trouble with renewals was told last, zero when there is none.
	troubled time.Time
	// ended: CMD has ended, and what happens to the lock is told by whoever releases.
	ended atomic.Bool
}

// note tells people what happens. The command's own messages may stand around it.
func (j *job) note(format string, args ...any) {
	if !j.quiet {
		say(j.c, "s3fence: "+format, args...)
	}
}

// run takes the lock, runs the command and gives the lock back.
func (j *job) run(c *cobra.Command) error {
	j.c = c
	// Nobody may be reading our messages any more. Caught, not ignored: that would be
	// inherited.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	var err error
	if j.s, err = remoteAs(c.Context(), ""); err != nil {
		return err
	}
	if j.slotWarning != "" {
		j.note("%s", j.slotWarning)
	}
	before := catch(c.Context())
	defer before.over()
	held, err := j.await(before.ctx)
	if err != nil {
		if before.ctx.Err() != nil {
			err = context.Cause(before.ctx)
		}
		return j.failed(err)
	}
	exit, err := j.under(before, held)
	return j.giveBack(held, exit, err)
}

// interruption is a signal that came before the command ran.
type interruption struct{ sig syscall.Signal }

func (i *interruption) Error() string { return unix.SignalName(i.sig) + " came before the command ran" }

// catcher ends its context with an [interruption] when SIGINT or SIGTERM comes, until
// it is over: once CMD runs they are CMD's.
type catcher struct {
	ctx context.Context //nolint:containedctx // it goes where the context of the call would
	// over returns when no signal will end the context any more.
	over func()
}

func catch(ctx context.Context) catcher {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	end, ended := make(chan struct{}), make(chan struct{})
	interrupt := func(s os.Signal) {
		signal.Stop(signals) // the second one ends things at once
		sig, _ := s.(syscall.Signal)
		cancel(&interruption{sig})
	}
	go func() {
		defer close(ended)
		select {
		case s := <-signals:
			interrupt(s)
		case <-end:
			select {
			case s := <-signals: // it came first
				interrupt(s)
			default:
			}
		}
	}()
	return catcher{ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(end)
		<-ended
	})}
}

// await waits for the lock as long as it was told to.
func (j *job) await(ctx context.Context) (*client.Held, error) {
	// One acquisition over all tries: a grant whose answer was lost is found by the next.
	opts := []client.HoldOption{client.WithTicket(rand.Text()), client.WithOwner(j.owner), client.WithTTL(j.ttl), client.WithObserver(j.observe)}
	if j.force {
		opts = append(opts, client.WithForce(j.reason))
	}
	wait, begun := forever, time.Now()
	if j.wait != nil {
		wait = *j.wait
	}
	left := func() time.Duration { return wait - time.Since(begun) }
	// A first try tells at once who has the lock, or that nobody is there.
	var held *client.Held
	var err error
	var once sync.Once
	for {
		held, err = j.s.Hold(ctx, j.scope, opts...)
		if !mayPass(err) || left() <= 0 || time.Since(begun) > firstTime || ctx.Err() != nil {
			break
		}
		once.Do(func() { j.note("%v; trying again", err) })
		rest(ctx, time.Second/2)
	}
	if !errors.Is(err, client.ErrHeld) || j.force || left() <= 0 {
		return held, err
	}
	if !j.quiet { // who watches asks more often
		opts = append(opts, client.WithWatch(j.sayWaiting))
	}
	for tries := 0; ; tries++ {
		asked := time.Now()
		held, err = j.s.Hold(ctx, j.scope, append(slices.Clip(opts), client.WithWait(max(left(), 0)))...)
		if time.Since(asked) > calm {
			tries = 0
		}
		if !mayPass(err) || left() <= 0 || tries >= outages || ctx.Err() != nil {
			return held, err
		}
	}
}

// sayWaiting tells how the wait goes.
func (j *job) sayWaiting(w client.Wait) {
	if w.Trouble != nil && j.wait == nil {
		j.note("waiting for %s: %v; asking again", w.Scope, w.Trouble)
		return
	}
	j.note("%s", waitText(w))
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// under does what is done under the lock.
func (j *job) under(before catcher, held *client.Held) (lockrun.Exit, error) {
	defer j.ended.Store(true)
	lease := held.Lease()
	j.note("%s is yours under token %d", lease.Scope, lease.Token)
	creds, err := held.Credentials().Retrieve(held.Context())
	if err != nil {
		return lockrun.Exit{}, err
	}
	env := commandEnv(held.Context(), os.Environ(), j.s, lease.Ref(), lease.Token,
		client.Credentials{AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken})
	if err := j.claimSlot(held.Context()); err != nil {
		return lockrun.Exit{}, err
	}
	exit, err := lockrun.Run(&lockrun.Command{
		Path: j.path, Args: j.args, Env: env, Held: held.Context(), Grace: j.grace,
		Begin: func() error {
			before.over()
			if held.Context().Err() != nil {
				return context.Cause(held.Context())
			}
			return nil
		},
		Check: func(ctx context.Context) error { return j.stillOurs(ctx, lease) },
		Tell:  func(e lockrun.Event) { j.tell(e, held) },
	})
	if err != nil && j.claim != "" {
		err = fmt.Errorf("%w\nslot %s of job %s is claimed by this run all the same, and %s did not run", err, j.slot, j.claim, j.args[0])
	}
	return exit, err
}

// claimSlot makes sure that this run of the job has not begun elsewhere.
func (j *job) claimSlot(ctx context.Context) error {
	if j.claim == "" {
		return nil
	}
	got, err := j.s.Claim(ctx, j.claim, j.slot, j.owner)
	switch {
	case mayPass(err):
		if ctx.Err() != nil {
			err = context.Cause(ctx) // which is why there is no answer
		}
		return fmt.Errorf("%w\nslot %s of job %s may be claimed by this run all the same, and %s did not run; look with: s3fence claims %s", err, j.slot, j.claim, j.args[0], j.claim)
	case err != nil:
		return err
	}
	j.note("slot %s of job %s is yours", got.Slot, got.Job)
	return nil
}

// stillOurs asks the service; when it cannot say, the lease's own end will.
func (j *job) stillOurs(ctx context.Context, l client.Lease) error {
	_, err := j.s.Renew(ctx, l.Scope, l.Token, 0)
	var e *client.Error
	if errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrStale) || errors.As(err, &e) && e.Code == "OtherHolder" {
		return err
	}
	return nil
}

// observe tells of renewals that fail.
func (j *job) observe(e client.HoldEvent) {
	switch e.Kind {
	case client.HoldRetrying:
		if j.ended.Load() || time.Since(j.troubled) < sayEvery {
			return
		}
		j.troubled = time.Now()
		j.note("the lock is not renewed: %v; trying again, for %s", e.Err, seconds(e.Left))
	case client.HoldRenewed:
		if !j.troubled.IsZero() {
			j.troubled = time.Time{}
			j.note("the lock is renewed again")
		}
	case client.HoldLost: // lockrun tells what is done about it
	}
}

// tell says what happens to the command.
func (j *job) tell(e lockrun.Event, held *client.Held) {
	name := j.args[0]
	left := time.Until(held.Lease().Deadline)
	switch e.Kind {
	case lockrun.Suspending:
		j.note("stopped, with %s; continue within %s, or others can have %s", name, seconds(left), held.Scope())
	case lockrun.Resumed:
		j.note("continued; %s is still yours", held.Scope())
	case lockrun.Halted:
		j.note("somebody stopped %s; %s is kept for it", name, held.Scope())
	case lockrun.Ending:
		say(j.c, "s3fence: %v", e.Err)
		j.note("ending %s, with all of its processes; after %v they are killed", name, j.grace)
	case lockrun.Killing:
		j.note("%s did not end within %v; killing it", name, j.grace)
	}
}

// giveBack releases the lock and says how it all ended.
func (j *job) giveBack(held *client.Held, exit lockrun.Exit, err error) error {
	ctx := context.WithoutCancel(j.c.Context())
	if errors.Is(context.Cause(held.Context()), client.ErrMaybeLost) {
		// The lease is about to end by itself, and nobody answers.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(held.Lease().Deadline), time.Second))
		defer cancel()
	}
	released := held.Release(ctx)
	lost := exit.Lost != nil || errors.Is(released, client.ErrLost) || errors.Is(err, client.ErrLost) || errors.Is(err, client.ErrMaybeLost)
	switch {
	case errors.Is(released, client.ErrLost) && exit.Lost == nil && err == nil:
		// Nobody noticed while CMD ran.
		err = released
	case released != nil && !lost:
		say(j.c, "s3fence: %v; it is free within %s", released, seconds(time.Until(held.Lease().Deadline)))
	case released == nil:
		j.note("%s is free", held.Scope())
	}
	if exit.Left > 0 {
		j.note("%s left %d of its processes running; their writes are refused once somebody else has the lock", j.args[0], exit.Left)
	}
	switch {
	case lost:
		return &codeError{exitRunLost, err}
	case err != nil:
		return j.failed(err)
	}
	exit.Pass()
	if exit.Code == 0 {
		return nil
	}
	return &codeError{exit.Code, nil}
}

// failed gives an error its exit code.
func (j *job) failed(err error) error {
	var i *interruption
	switch {
	case errors.As(err, &i):
		exit := lockrun.Interrupted(i.sig)
		exit.Pass()
		return &codeError{exit.Code, err}
	case errors.Is(err, client.ErrHeld), errors.Is(err, client.ErrClaimed):
		if j.quiet && j.held == 0 {
			return nil // as it should be, and cron mails every word
		}
		return &codeError{j.held, err}
	case errors.Is(err, client.ErrLost), errors.Is(err, client.ErrMaybeLost), errors.Is(err, client.ErrStale):
		return &codeError{exitRunLost, err}
	case mayPass(err):
		return &codeError{exitRunUnreachable, err}
	}
	return cannotRun(err)
}

// cannotRun gives the failure to start a command the exit code that shells have for it.
func cannotRun(err error) error {
	if failed, ok := errors.AsType[*lockrun.StartError](err); ok {
		return &codeError{failed.Code, err}
	}
	return err
}

// commandEnv is the environment of a command that runs under a lock. What configures
// a proxy on this machine, its secrets among it, is none of the command's business.
func commandEnv(ctx context.Context, base []string, s service, scope string, token int64, c client.Credentials) []string {
	set := fencedEnv(ctx, s.endpoint, s.region, scope, token, c)
	gone := map[string]bool{}
	for _, name := range fencedDrops {
		gone[name] = true
	}
	for _, v := range set {
		name, _, _ := strings.Cut(v, "=")
		gone[name] = true
	}
	env := make([]string, 0, len(base)+len(set))
	for _, v := range base {
		if name, _, _ := strings.Cut(v, "="); !gone[name] && !config.Configures(name) {
			env = append(env, v)
		}
	}
	return append(env, set...)
}
