package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// MaxPage is the most rows of one answer, MaxWait the longest wait for them.
const (
	MaxPage = 1000
	MaxWait = 20 * time.Second
)

const (
	// maxPages bounds what is read to fill one page: of very many rows a caller may
	// see few.
	maxPages = 20
)

// Query asks for events.
type Query struct {
	state.EventQuery
	// May says whether the caller may see an event; nil: every one. Those it may not
	// are left out, and are looked at all the same: the page's Next is past them.
	May func(*state.Event) bool
	// Wait is how long to wait for rows to come where there are none, up to MaxWait;
	// not with Latest.
	Wait time.Duration
}

// List answers a query. With Latest the page has the last rows, and Next is where
// the log ended; else it has the first ones above After, and may be empty although
// there are more above its Next.
//
// [ErrCrowded] where too many wait already; an error that wraps
// state.ErrUnavailable where the state cannot be asked.
func (l *Log) List(ctx context.Context, q Query) (state.EventPage, error) {
	q.Limit = min(max(q.Limit, 1), MaxPage)
	if q.Latest {
		return l.latest(ctx, q)
	}
	page, err := l.now(ctx, q)
	if err != nil || len(page.Events) > 0 || q.Wait <= 0 || page.Next < q.After {
		return page, err
	}
	if err := l.tail.join(); err != nil {
		return page, err
	}
	defer l.tail.leave()
	waiting, cancel := context.WithTimeout(ctx, min(q.Wait, MaxWait))
	defer cancel()
	for len(page.Events) == 0 {
		q.After = page.Next
		news, err := l.tail.wait(waiting, q.After)
		switch {
		case err != nil:
			return page, fmt.Errorf("waiting for events: %w", err)
		case news.over:
			return page, nil
		case news.behind:
			if page, err = l.first(ctx, q); err != nil {
				return page, err
			}
		default:
			page = q.pick(news.rows, news.next)
		}
	}
	return page, nil
}

// now answers without waiting; those who would wait, and come back again and
// again, from memory where the rows are there.
func (l *Log) now(ctx context.Context, q Query) (state.EventPage, error) {
	if q.Wait > 0 {
		if rows, next, ok := l.tail.after(q.After); ok {
			return q.pick(rows, next), nil
		}
	}
	return l.first(ctx, q)
}

// first reads the first rows above After.
func (l *Log) first(ctx context.Context, q Query) (page state.EventPage, err error) {
	step := q.EventQuery
	for range maxPages {
		read, err := l.state.ListEvents(ctx, step)
		if err != nil {
			return page, fmt.Errorf("reading events: %w", err)
		}
		if page = q.pick(read.Events, read.Next); len(page.Events) > 0 || len(read.Events) < step.Limit {
			return page, nil
		}
		step.After, step.Limit = read.Next, MaxPage
	}
	return page, nil
}

// latest reads the last rows, from the end backwards.
func (l *Log) latest(ctx context.Context, q Query) (page state.EventPage, err error) {
	step := q.EventQuery
	for n := range maxPages {
		read, err := l.state.ListEvents(ctx, step)
		if err != nil {
			return page, fmt.Errorf("reading events: %w", err)
		}
		if n == 0 {
			page.Next = read.Next
		}
		page.Events = append(q.pick(read.Events, 0).Events, page.Events...)
		if len(page.Events) >= q.Limit || len(read.Events) < step.Limit {
			break
		}
		step.Before, step.Limit = read.Events[0].ID, MaxPage
	}
	page.Events = page.Events[max(0, len(page.Events)-q.Limit):]
	return page, nil
}

// pick leaves out what was not asked for or must not be seen. The rows stay as
// they are: others look at them too.
func (q *Query) pick(rows []state.Event, next int64) state.EventPage {
	page := state.EventPage{Next: next}
	for i := range rows {
		e := &rows[i]
		if !q.Matches(e) || q.May != nil && !q.May(e) {
			continue
		}
		if page.Events = append(page.Events, *e); len(page.Events) == q.Limit && !q.Latest {
			page.Next = e.ID
			break
		}
	}
	return page
}

// StopWaiting ends every wait, now and from now on: a process that is about to end
// does not wait for those who follow.
func (l *Log) StopWaiting() { l.tail.close() }
