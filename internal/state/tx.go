package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
)

// Mode is the strength of a lock.
type Mode int

// Shared locks exclude Exclusive ones.
const (
	Shared Mode = iota + 1
	Exclusive
)

// ScopeLock is a scope with the mode it is locked in: Shared for writers,
// Exclusive for whoever changes the scope's row.
type ScopeLock struct {
	Scope fence.Scope
	Mode  Mode
}

// Tx is a transaction: what it locks, and what it decides under the locks.
type Tx struct {
	// ID is unique and time-ordered (UUID version 7), one for each attempt; a
	// transaction that was aborted is never run again under its id.
	ID uuid.UUID
	// GuardList locks the list exclusively, to change it, and reads it.
	GuardList bool
	// Guards are locked in GuardMode (Shared where it is zero) and read.
	Guards    []fence.GuardID
	GuardMode Mode
	// Scopes are locked and read. No scope may be named twice.
	Scopes []ScopeLock
	// Try does not wait for a scope that somebody holds: the scope is reported
	// in View.Missed instead, and nothing about it may be decided.
	Try bool
	// Keys are locked exclusively and their objects read. No key twice.
	Keys []object.Ref
	// Slots are locked exclusively and their claims read. No slot twice.
	Slots []Slot
	// Requests are the named requests that the transaction acts for: locked
	// exclusively. Two of one name that write to different keys have no other lock in
	// common. None twice.
	Requests []Request
	// Uploads and Retries are read; the keys they belong to must be in Keys. Retries
	// older than yesterday may not be found.
	Uploads []string
	Retries []RetryID
	// Attempts asks which of these ids an object or an open upload refers to.
	Attempts []uuid.UUID
	// Lines asks for the first living place of each of these scopes' lines; a
	// proxy that was not seen for Absent has none. Nothing is locked for it: a
	// place may be taken and left while the scope is held.
	Lines  []fence.Scope
	Absent time.Duration
	// EventLog locks the event log, to add to it: rows get their ids under the lock,
	// so that they become visible in that order.
	EventLog bool
	// Wait bounds each wait for a lock; DefaultWait where zero. A wait that is
	// over is ErrBusy.
	Wait time.Duration
	// Decide is called once, with the locks held. It must be quick, do no I/O of
	// its own and keep no reference to the View. An error rolls back and is
	// returned as it is.
	Decide func(*View) (Changes, error)
}

// DefaultWait bounds the wait for a lock where a Tx says nothing.
const DefaultWait = 5 * time.Second

// View is what a transaction, or a read, sees.
type View struct {
	// Now is the database's clock, read after the last lock was taken.
	Now time.Time
	// GuardVersion and GuardList are set where the transaction locked the list.
	GuardVersion int64
	GuardList    []fence.Guard
	// Guards, Scopes, Objects, Claims, Uploads and Retries (those of Requests too)
	// have what was asked for and exists. Use [View.Scope] for a scope that may have
	// no row.
	Guards  map[fence.GuardID]fence.Guard
	Scopes  map[fence.Scope]Scope
	Missed  map[fence.Scope]bool
	Objects map[object.Ref]*Object
	Claims  map[Slot]*Claim
	Uploads map[string]*Upload
	Retries map[RetryID][]byte
	// Referenced are the asked Attempts that something refers to.
	Referenced map[uuid.UUID]bool
	// Heads are the first living places of the asked Lines where there is one.
	Heads map[fence.Scope]Place
	// Draw takes the next token of the deployment's counter. A transaction only;
	// the scope that is granted it must be locked exclusively (F2).
	Draw func() (fence.Token, error)
	// Lift makes the counter continue above a token that an operator or another
	// issuer brought, if it is not above it already. A transaction only.
	Lift func(fence.Token) error
}

// Scope returns a scope's row, or how a scope without one reads.
func (v *View) Scope(s fence.Scope, w fence.Writes) Scope {
	if row, ok := v.Scopes[s]; ok {
		return row
	}
	return NewScope(s, w)
}

// Changes are what a transaction writes. Rows are written whole.
type Changes struct {
	Scopes      []Scope
	PutObjects  []Object
	DropObjects []object.Ref
	// PutParts are the parts of objects among PutObjects, inserted. The parts of an
	// object go with its row, and when the row gets another Attempt.
	PutParts []ObjectParts
	// Parts that were kept for an upload go when it is dropped or completed.
	PutUploads  []Upload
	DropUploads []string
	// Claims and Retries are inserted; where one stands already nothing is written
	// at all.
	Claims  []Claim
	Retries []Retry
	// PutGuards inserts (ID zero: the driver assigns the next and sets it in
	// place) or replaces; any change of guards raises the list's version.
	PutGuards  []*fence.Guard
	DropGuards []fence.GuardID
	// AddGarbage and DropGarbage change the collector's list. Adding what is
	// there already keeps its time.
	AddGarbage  []Garbage
	DropGarbage []Garbage
	// DropPlaces ends places, whoever waits in them; their scopes must be locked
	// exclusively. One that is not there is fine.
	DropPlaces []PlaceID
	// Events are added to the event log in this order, under ids of the driver's
	// (whatever ID says). Tx.EventLog must hold it.
	Events []Event
}

// Empty reports whether there is nothing to write.
func (c *Changes) Empty() bool {
	return len(c.Scopes)+len(c.PutObjects)+len(c.DropObjects)+len(c.PutParts)+len(c.PutUploads)+len(c.DropUploads)+
		len(c.Claims)+len(c.Retries)+len(c.PutGuards)+len(c.DropGuards)+len(c.AddGarbage)+len(c.DropGarbage)+len(c.DropPlaces)+len(c.Events) == 0
}

// Query is what a read asks for. Its view is one moment of committed state that
// lies after the call began.
type Query struct {
	Guards   []fence.GuardID
	Scopes   []fence.Scope
	Objects  []object.Ref
	Slots    []Slot
	Uploads  []string
	Attempts []uuid.UUID
	// Lines and Absent as in a [Tx].
	Lines  []fence.Scope
	Absent time.Duration
}

// Range selects keys of a bucket in byte order: From <= key < To, To empty for
// no end.
type Range struct {
	Bucket   string
	From, To string
}

// Outcome is the final verdict on a transaction.
type Outcome int

// A Committed transaction took effect; an Aborted one never will.
const (
	Committed Outcome = iota + 1
	Aborted
)

// Errors of drivers.
var (
	// ErrUnavailable: the state cannot be asked, or a transaction is known to
	// have been rolled back for reasons of the database. Nothing happened. Fail
	// closed (F9); it may be tried again.
	ErrUnavailable = errors.New("the state database cannot be asked")
	// ErrBusy: a lock was not had in time. Nothing happened.
	ErrBusy = errors.New("the state is busy: a lock was not had in time")
	// ErrUnknown: COMMIT was sent and its answer lost. It may have happened, or
	// may yet.
	ErrUnknown = errors.New("the outcome of the commit is unknown")
	// ErrDecided comes with ErrUnavailable: the answer to COMMIT was lost and the
	// transaction is now decided as aborted, for ever.
	ErrDecided = errors.New("the commit's answer was lost and the transaction is decided as aborted")
	// ErrDiskFull and ErrNoConnection say why, beside ErrUnavailable or ErrUnknown, in
	// the words of whoever has to mend it: it passes without a restart once there is
	// room again.
	ErrDiskFull     = errors.New("the disk of the state database is full: free space there")
	ErrNoConnection = errors.New("the state database takes no more connections: end some of its other clients', or raise its max_connections")
	// ErrSchema: the schema is missing, older or newer than this program.
	ErrSchema = errors.New("the state schema does not fit this program")
	// ErrMarkFalls: a transaction tried to lower or delete a mark (F1). A bug.
	ErrMarkFalls = errors.New("a mark must never fall")
)

// Transactor runs transactions and answers snapshots.
type Transactor interface {
	// Transact runs tx once. It returns nil when tx is committed (or had nothing
	// to write), the error of Decide, or an error that wraps ErrBusy,
	// ErrUnavailable or ErrUnknown. Use [Run].
	Transact(ctx context.Context, tx *Tx) error
	// Resolve decides a transaction whose answer was lost, for ever. It fails
	// with ErrUnavailable or ErrBusy when it cannot tell yet.
	Resolve(ctx context.Context, id uuid.UUID) (Outcome, error)
	// Read answers one Query.
	Read(ctx context.Context, q Query) (*View, error)
}

// State is everything a driver does. Consumers declare the part they use.
// Drivers are safe for concurrent use.
type State interface {
	Transactor

	// Deployment identifies the state.
	Deployment(ctx context.Context) (Deployment, error)
	// ListObjects returns up to limit objects of a range in key order.
	ListObjects(ctx context.Context, r Range, limit int) ([]Object, error)
	// ListUploads returns up to limit open uploads of a range, ordered by key,
	// then by upload id; those of key From only with an id above afterID.
	ListUploads(ctx context.Context, r Range, afterID string, limit int) ([]Upload, error)
	// ListScopes returns up to limit scopes whose written form begins with
	// prefix and lies above after, ordered bytewise by written form.
	ListScopes(ctx context.Context, prefix, after string, limit int) ([]Scope, time.Time, error)
	// ListClaims returns up to limit claims of a job, in descending bytewise order of
	// their slots: those below a slot's name, where before is not empty.
	ListClaims(ctx context.Context, job, before string, limit int) ([]Claim, error)
	// ListGarbage returns up to limit entries of a bucket found before a time of
	// the database's clock, oldest first.
	ListGarbage(ctx context.Context, bucket string, before time.Time, limit int) ([]Garbage, error)
	// ListEvents returns rows of the event log, from one moment after the call
	// began.
	ListEvents(ctx context.Context, q EventQuery) (EventPage, error)

	// KeepPlace takes a place at the end of its scope's line, or keeps the one that
	// its id has and that has not lapsed. It is kept for d from now, under p's
	// Owner, Visit and Proxy, which replace what was there. It returns the place as
	// it stands. Repeating it does no harm.
	KeepPlace(ctx context.Context, p Place, d time.Duration) (Place, error)
	// LeavePlace ends the visit of a place: the place is kept for d from now, or
	// goes at once where d is zero. A place that another visit has is left alone.
	LeavePlace(ctx context.Context, id PlaceID, visit uuid.UUID, d time.Duration) error
	// CountPlaces counts the living places of a scope, and those of them whose turn
	// comes before one; a proxy that was not seen for absent has none.
	CountPlaces(ctx context.Context, s fence.Scope, turn int64, absent time.Duration) (before, all int, err error)
	// ListPlaces returns the lines of some scopes with up to limit places of each;
	// a scope for which nobody waits is left out.
	ListPlaces(ctx context.Context, scopes []fence.Scope, limit int, absent time.Duration) (map[fence.Scope]Line, error)

	// KeepPart records a part that the store has taken, in place of what was
	// recorded under its upload, number and ETag. It fails with
	// object.ErrNoSuchUpload where there is no open upload. Repeating it does no
	// harm.
	KeepPart(ctx context.Context, p UploadPart) error
	// UploadParts returns those of the named parts of an upload that are recorded, by
	// number: how often a number was sent again is of no account, nor what it costs.
	UploadParts(ctx context.Context, upload string, names []PartName) ([]UploadPart, error)
	// ObjectParts returns up to limit parts of the object with an attempt, in order,
	// behind the first so many: none where nothing is recorded, or where the object
	// has been dropped or replaced since.
	ObjectParts(ctx context.Context, attempt uuid.UUID, skip, limit int) ([]object.Part, error)

	// RenewGuards records that a proxy is alive and binds its mutations by
	// version acked, and returns the guard list if its version is not known
	// (nil list and the version otherwise).
	RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (version int64, list []fence.Guard, err error)
	// Proxies lists the proxies with the database's time.
	Proxies(ctx context.Context) ([]Proxy, time.Time, error)
	// ForgetProxy removes a proxy that has stopped for good.
	ForgetProxy(ctx context.Context, proxy uuid.UUID) error
	// Maintain drops outcomes, retries and completed uploads older than keep,
	// proxies not seen for as long, places that have lapsed and claims past their
	// KeepUntil, and prepares partitions. Safe to run anywhere, any time.
	Maintain(ctx context.Context, keep time.Duration) error
	// MaintainEvents drops rows of the event log that were added longer than keep
	// ago, and prepares partitions. Safe to run anywhere, any time.
	MaintainEvents(ctx context.Context, keep time.Duration) error

	// Check fails with ErrSchema, naming the remedy, unless the schema is the one
	// this program knows.
	Check(ctx context.Context) error
	// Close ends the connections.
	Close() error
}

// NewID makes a transaction or attempt id: unique, and ordered by time.
func NewID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		// The source of randomness is gone; nothing here can be safe without it.
		panic(fmt.Sprintf("no random ids: %v", err))
	}
	return id
}

// ResolveWait bounds the wait for the verdict on a lost answer.
const ResolveWait = 15 * time.Second

// Run runs tx and, where the answer to its COMMIT is lost, finds the verdict
// out. It returns nil only if tx is committed; an error that wraps ErrUnknown
// only if that could not be found out within ResolveWait; with every other
// error nothing happened, nor ever will. It gives tx an ID where it has none.
//
// The transaction does not end with ctx once it may have been sent: an
// impatient client must not turn a decided write into an unknown one.
func Run(ctx context.Context, s Transactor, tx *Tx) error {
	if tx.ID == uuid.Nil {
		tx.ID = NewID()
	}
	err := s.Transact(ctx, tx)
	if !errors.Is(err, ErrUnknown) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ResolveWait)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		outcome, rerr := s.Resolve(ctx, tx.ID)
		switch {
		case rerr == nil && outcome == Committed:
			return nil
		case rerr == nil:
			return fmt.Errorf("%w: %w", ErrUnavailable, ErrDecided)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (and not found out since: %w)", err, rerr)
		case <-time.After(pause):
		}
	}
}
