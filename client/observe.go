package client

import (
	"context"
	"errors"
	"time"
)

// HoldEventKind is what happened to a hold.
type HoldEventKind int

const (
	// HoldRenewed says that the lease was renewed.
	HoldRenewed HoldEventKind = iota + 1
	// HoldRetrying says that a renewal failed and is tried again.
	HoldRetrying
	// HoldLost says that the lock is lost, or may be: the Context has ended with Err.
	HoldLost
)

func (k HoldEventKind) String() string {
	switch k {
	case HoldRenewed:
		return "renewed"
	case HoldRetrying:
		return "retrying"
	case HoldLost:
		return "lost"
	}
	return "unknown"
}

// HoldEvent is something that happened to a hold.
type HoldEvent struct {
	Kind HoldEventKind
	// Lease is the latest one that was answered.
	Lease Lease
	// Err is what a renewal failed with, or, with HoldLost, the [HoldError] that the
	// Context ended with.
	Err error
	// RetryIn is when a failed renewal is tried again, Left how long the Context
	// goes on unless a renewal is answered.
	RetryIn, Left time.Duration
}

// waiting is how many events may wait for an observer that is busy.
const waiting = 32

// observer hands events to a function that may block: on a terminal that the
// user has stopped, say. Nil where nobody observes. Only the goroutine that
// renews sends.
type observer struct {
	events chan HoldEvent
	last   HoldEvent
	done   chan struct{}
}

func newObserver(f func(HoldEvent)) *observer {
	if f == nil {
		return nil
	}
	o := &observer{events: make(chan HoldEvent, waiting), done: make(chan struct{})}
	go func() {
		defer close(o.done)
		for e := range o.events {
			f(e)
		}
		if o.last.Kind != 0 {
			f(o.last)
		}
	}()
	return o
}

func (o *observer) tell(e HoldEvent) {
	if o == nil {
		return
	}
	select {
	case o.events <- e:
	default:
	}
}

// end tells of a loss, if there was one, and that nothing follows.
func (o *observer) end(h *Held) {
	if o == nil {
		return
	}
	if own := h.endedBy(); own != nil && !errors.Is(own.Kind, ErrReleased) {
		o.last = HoldEvent{Kind: HoldLost, Lease: h.Lease(), Err: own}
	}
	close(o.events)
}

// wait returns when all events were told, or when ctx ends.
func (o *observer) wait(ctx context.Context) {
	if o == nil {
		return
	}
	select {
	case <-o.done:
	case <-ctx.Done():
	}
}
