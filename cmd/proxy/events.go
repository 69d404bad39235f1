package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/client"
)

const (
	// latestEvents are shown where nobody says how many, lastEvents before those
	// that are followed.
	latestEvents = 50
	lastEvents   = 10
	// maxEvents is the most that one call of the service returns.
	maxEvents = 1000
)

// eventsOptions are the flags of events.
type eventsOptions struct {
	follow, asJSON bool
	since          string
	kinds          []string
	limit          int
}

func newEvents() *cobra.Command {
	var o eventsOptions
	c := &cobra.Command{
		Use:   "events [SCOPE-PREFIX]",
		Short: "Show what happened: grants, losses, takeovers, refused writes",
		Long: `events shows what happened to locks and guards, and what was refused, as far as
the credentials may see it: the latest 50 events, or all since --since, oldest
first. A write that was refused under a stale token would have corrupted data; the
last line counts them.

With --follow it goes on until Ctrl-C, over restarts of the proxy and of its
database, without missing an event.`,
		Example: `  s3fence events --since 1h
  s3fence events s3://data/jobs/ --kind refused --follow
  s3fence events --since 7d --json | jq -r 'select(.kind=="takeover") | .reason'`,
		Args: takes(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c, first(args))
		},
	}
	c.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with what happens")
	c.Flags().StringVar(&o.since, "since", "", "only what happened since: 90s, 1h, 7d, or a time as 2026-01-02T15:04:05Z")
	c.Flags().StringSliceVar(&o.kinds, "kind", nil, "only these kinds: grant, takeover, renew_lost, release, raise, reset, refused, …")
	c.Flags().IntVar(&o.limit, "limit", latestEvents, "the most events of the past; with --follow 10 where not given")
	c.Flags().BoolVar(&o.asJSON, "json", false, "print one JSON object per line")
	return c
}

func (o *eventsOptions) run(c *cobra.Command, prefix string) error {
	limited := c.Flags().Changed("limit")
	switch {
	case !limited && o.follow:
		o.limit = lastEvents
	case o.limit < 0 || o.limit > maxEvents || o.limit == 0 && !o.follow:
		return usage("--limit is %d; it may be from 1 to %d", o.limit, maxEvents)
	}
	q := client.EventQuery{Prefix: prefix, Kinds: o.kinds}
	if o.since != "" {
		var err error
		if q.Since, err = sinceOf(o.since, time.Now()); err != nil {
			return err
		}
	}
	s, err := remote(c.Context())
	if err != nil {
		return err
	}
	p := newEventPrinter(c.OutOrStdout(), o.asJSON)
	if o.follow {
		p.width = followedSubject // those to come are aligned with those of the past
	}
	var next int64
	if o.since != "" && !limited {
		next, err = everything(c.Context(), s, q, p)
	} else {
		next, err = latest(c.Context(), s, q, o.limit, p)
	}
	if err == nil && o.follow {
		err = follow(c, s, q, next, p)
	}
	if err != nil {
		return err
	}
	if len(o.kinds) == 0 || slices.Contains(o.kinds, client.EventRefused) {
		say(c, "%s", p.tally.String())
	} else if p.tally.shown == 0 && !o.follow {
		say(c, "no such events")
	}
	return nil
}

// sinceOf reads a duration before now, days among its units, or a time.
func sinceOf(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	var days int
	rest := text
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.Atoi(before)
		if err != nil {
			return now, badSince(text)
		}
		if days, rest = n, after; rest == "" {
			rest = "0s"
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || days < 0 || days > 36500 {
		return now, badSince(text)
	}
	return now.AddDate(0, 0, -days).Add(-d), nil
}

func badSince(text string) error {
	return usage("--since %q is neither a duration such as 90s, 1h or 7d nor a time such as 2026-01-02T15:04:05Z", text)
}

// latest prints the last events and returns where to go on.
func latest(ctx context.Context, s *client.Client, q client.EventQuery, limit int, p *eventPrinter) (int64, error) {
	q.Latest, q.Limit = true, max(limit, 1)
	list, next, err := s.Events(ctx, q)
	if err != nil || limit == 0 {
		return next, err
	}
	return next, p.print(list)
}

// everything prints all events there are and returns where to go on.
func everything(ctx context.Context, s *client.Client, q client.EventQuery, p *eventPrinter) (int64, error) {
	end := q
	end.Latest, end.Limit = true, 1
	_, last, err := s.Events(ctx, end)
	if err != nil {
		return 0, err
	}
	for q.Limit = maxEvents; q.After < last; {
		list, next, err := s.Events(ctx, q)
		if err != nil {
			return 0, err
		}
		if err := p.print(list); err != nil {
			return 0, err
		}
		if next <= q.After {
			break
		}
		q.After = next
	}
	return max(q.After, last), nil
}

const (
	// firstRetry and lastRetry bound the pause before a proxy that does not answer is
	// asked again.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// follow prints events as they come until the context ends, which is no error.
func follow(c *cobra.Command, s *client.Client, q client.EventQuery, next int64, p *eventPrinter) error {
	ctx := c.Context()
	q.Wait, q.Limit, q.Since = client.MaxEventWait, maxEvents, time.Time{}
	away, pause := false, firstRetry
	for {
		q.After = next
		asked := time.Now()
		list, to, err := s.Events(ctx, q)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // Ctrl-C is how it ends
		case err != nil && !mayPass(err):
			return err
		case err != nil:
			if !away {
				say(c, "%v; trying again until it answers", err)
			}
			away = true
			sleep(ctx, pause)
			pause = min(2*pause, lastRetry)
			continue
		}
		if away {
			say(c, "it answers again; going on where it was")
		}
		away, pause = false, firstRetry
		if to < next {
			say(c, "the event log is an older copy of itself, as after a restore: what it has lost is not shown, and what it has had since then may be missing")
		}
		if err := p.print(list); err != nil {
			return err
		}
		if len(list) == 0 && to == next && time.Since(asked) < time.Second {
			// It did not wait: it is about to end.
			sleep(ctx, lastRetry/10)
		}
		next = to
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
