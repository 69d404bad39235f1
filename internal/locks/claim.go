package locks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/state"
)

// Bounds of claims.
const (
	// MaxJob and MaxSlot bound the names of jobs and slots, in printable bytes.
	MaxJob  = 128
	MaxSlot = 128

	// ClaimsKept is how long a claim is kept: from when it was made, or from the time
	// that its slot names where that is later. No setting: proxies that differed in it
	// would forget claims that others still count on.
	ClaimsKept = 400 * 24 * time.Hour
	// claimMargin lies between the last moment at which a slot of some time can be
	// claimed and the first at which its claim may be forgotten. It covers labels
	// whose time zone nobody knows, and a database's clock that was set back.
	claimMargin = 2 * 24 * time.Hour
)

// ClaimRequest asks for one slot of a job.
type ClaimRequest struct {
	// Job and Slot are names of printable characters; see [CanonicalSlot] for times.
	Job, Slot string
	// Holder is the access key that asks. Owner is its label for people, at most
	// MaxOwner printable bytes.
	Holder, Owner string
	// Retry, where not nil, identifies the request over its repetitions: the one that
	// claimed the slot is told so again.
	Retry *idempotency.Request
}

func (r *ClaimRequest) check() error {
	if r.Holder == "" {
		return invalid("no holder is named")
	}
	return errors.Join(checkName("job", r.Job, MaxJob), checkName("slot", r.Slot, MaxSlot), checkText("owner", r.Owner, MaxOwner))
}

// checkName is checkText for a name, which two spellings must not share.
func checkName(name, text string, most int) error {
	switch {
	case text == "":
		return invalid("%s is missing; name it in 1 to %d printable bytes", name, most)
	case strings.TrimSpace(text) != text:
		return invalid("%s %q begins or ends with a space", name, text)
	}
	return checkText(name, text, most)
}

// Claim gives a slot of a job to the first who asks, in the whole deployment and
// once and for all, or fails with [ErrClaimed] and says whose it is. A slot that
// names a time longer ago than [ClaimsKept] is [ErrSlotTooOld]: its claim may have
// been forgotten. Other labels are kept for as long, and can be claimed again
// afterwards.
func (s *Service) Claim(ctx context.Context, r ClaimRequest) (state.Claim, error) {
	if err := r.check(); err != nil {
		return state.Claim{}, err
	}
	name, at := CanonicalSlot(r.Slot)
	slot := state.Slot{Job: r.Job, Name: name}
	doing := fmt.Sprintf("claiming slot %s of job %s", name, r.Job)
	if r.Retry == nil {
		// A look without a lock first: of many schedulers all but one come in vain, and
		// a claim never changes. Whose it is under a key, only the transaction knows.
		v, err := s.state.Read(ctx, state.Query{Slots: []state.Slot{slot}})
		if err != nil {
			return state.Claim{}, fmt.Errorf("%s: %w", doing, err)
		}
		if c := v.Claims[slot]; c != nil {
			return state.Claim{}, &ClaimedError{*c}
		}
	}
	var mine state.Claim
	err := state.Run(ctx, s.state, &state.Tx{
		Slots: []state.Slot{slot}, Requests: requests(r.Retry),
		Decide: func(v *state.View) (state.Changes, error) {
			c := v.Claims[slot]
			_, again, err := before(r.Retry, v)
			switch {
			case err != nil:
				return state.Changes{}, err
			case c != nil && again:
				mine = *c
				return state.Changes{}, nil
			case c != nil:
				return state.Changes{}, &ClaimedError{*c}
			case !at.IsZero() && v.Now.Sub(at) > ClaimsKept:
				return state.Changes{}, &SlotTooOldError{slot}
			case again:
				return state.Changes{}, fmt.Errorf("%w: slot %s of job %s was claimed under this Idempotency-Key and has no claim", ErrInvariant, name, r.Job)
			}
			mine = state.Claim{Slot: slot, Holder: r.Holder, Owner: r.Owner, At: v.Now, KeepUntil: v.Now.Add(ClaimsKept + claimMargin)}
			if at.After(v.Now) {
				mine.KeepUntil = at.Add(ClaimsKept + claimMargin)
			}
			return state.Changes{Claims: []state.Claim{mine}, Retries: remembered(r.Retry, v.Now, "")}, nil
		},
	})
	if err != nil {
		return state.Claim{}, wrap(doing, err)
	}
	return mine, nil
}

// Claims shows up to limit claims of a job, at most MaxPage, in descending order of
// their slots, so of times the latest first: those below before where that is not
// empty. more says that there are further ones.
func (s *Service) Claims(ctx context.Context, job, before string, limit int) (page []state.Claim, more bool, err error) {
	if err := checkName("job", job, MaxJob); err != nil {
		return nil, false, err
	}
	limit = min(max(limit, 1), MaxPage)
	if before != "" {
		before, _ = CanonicalSlot(before)
	}
	page, err = s.state.ListClaims(ctx, job, before, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("listing the claims of job %s: %w", job, err)
	}
	if more = len(page) > limit; more {
		page = page[:limit]
	}
	return page, more, nil
}
