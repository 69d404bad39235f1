package state

import (
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
)

// Scope is what the state remembers of a scope. A scope that has no row yet is
// read as the zero mark in generation 1, epoch 1, horizon 1.
type Scope struct {
	Scope fence.Scope
	// Mark never falls (F1); drivers refuse to lower or delete it in the schema.
	Mark fence.Mark
	// Writes is the way the scope is written; a commit compares it.
	Writes fence.Writes
	// Epoch goes into the names of new physical objects. Horizon is the lowest
	// epoch whose names may still be committed; Horizon <= Epoch. EpochSince is
	// when the epoch began. Only the collector moves them, never backwards.
	Epoch, Horizon int64
	EpochSince     time.Time
	// Last is the latest grant or, with an external issuer, the latest raise.
	Last fence.Grant
	// LeaseUntil is when the holder's right to renew ends, by the database's
	// clock; zero: nobody holds. TTL is what the holder asked for.
	LeaseUntil time.Time
	TTL        time.Duration
	// Ticket is the ticket that the latest grant was asked for with, behind the
	// token that it yielded: "34 ticket". Empty where there was none. The token is
	// there because a program of an older version grants and leaves this as it is.
	Ticket string
}

// NewScope is how a scope without a row reads.
func NewScope(s fence.Scope, w fence.Writes) Scope {
	return Scope{Scope: s, Mark: fence.Mark{Generation: fence.FirstGeneration}, Writes: w, Epoch: 1, Horizon: 1}
}

// Held reports whether somebody holds the lease at now, the database's time.
func (s *Scope) Held(now time.Time) bool { return s.LeaseUntil.After(now) }

// Object is the row of a sealed object: the row is what makes it exist.
type Object struct {
	object.Info
	Scope fence.Scope
	// Token is the token of the write, zero for writes without one.
	Token fence.Token
	// Attempt is the unique id in the physical key.
	Attempt uuid.UUID
	// Physical is the key of the bytes in the store's bucket.
	Physical string
}

// Upload is a multipart upload into a sealed scope. While its row stands and is
// not Completed it holds its physical key against the collector.
type Upload struct {
	ID string
	object.Ref
	Scope      fence.Scope
	Token      fence.Token
	Generation fence.Generation
	// Creator is the access key that created it.
	Creator   string
	Attempt   uuid.UUID
	Physical  string
	Upstream  string // the store's upload id
	Initiated time.Time
	object.Attributes
	// Completed uploads are kept for a while so that a repeated Complete gets its
	// first answer; Digest identifies the part list, ETag and Size the object. Of an
	// open one Digest tells which list has left for the store, if any.
	Completed bool
	Digest    string
	ETag      string
	Size      int64
}

// UploadPart is a part that the store has of an open upload. Several may have one
// Number: which of them the store keeps is told by the ETag.
type UploadPart struct {
	Upload string
	Number int
	ETag   string // as the store answered, without quotes
	Size   int64
	// Algorithm and Checksum (base64) are what was verified or computed of the
	// part's bytes; empty for none.
	Algorithm, Checksum string
}

// PartName is what a part of an upload is asked for by. The ETag's case is of no
// account.
type PartName struct {
	Number int
	ETag   string
}

// ObjectParts are the parts of the object whose bytes have an attempt's name.
type ObjectParts struct {
	Attempt uuid.UUID
	Parts   []object.Part
}

// Displaced lists the attempts of multipart objects in v whose rows the changes
// drop or give to other bytes: the parts that are recorded of them go, too.
func (c *Changes) Displaced(v *View) []uuid.UUID {
	var gone []uuid.UUID
	for _, ref := range c.DropObjects {
		if old := v.Objects[ref]; old != nil && old.Parts > 0 {
			gone = append(gone, old.Attempt)
		}
	}
	for i := range c.PutObjects {
		o := &c.PutObjects[i]
		if old := v.Objects[o.Ref]; old != nil && old.Parts > 0 && old.Attempt != o.Attempt {
			gone = append(gone, old.Attempt)
		}
	}
	return gone
}

// Ended lists the uploads whose recorded parts the changes drop because they are
// completed.
func (c *Changes) Ended() []string {
	var ids []string
	for i := range c.PutUploads {
		if c.PutUploads[i].Completed {
			ids = append(ids, c.PutUploads[i].ID)
		}
	}
	return ids
}

// RetryID identifies a client's request over its retries, by a hash. It covers
// either credential, operation, key, what is written and the id that an SDK chose
// for the request, or credential and Idempotency-Key alone; then the result says what the request
// was, and the id is locked (Tx.Requests).
type RetryID [32]byte

// Retry remembers the answer of a request that committed.
type Retry struct {
	ID     RetryID
	Result []byte
}

// Request is a request that was named with an Idempotency-Key: ID is of its
// record, Items are of what it does one by one. All are found for as long as they
// are kept.
type Request struct {
	ID    RetryID
	Items []RetryID
}

// RecordsOf lists the records of requests and of their items.
func RecordsOf(requests []Request) []RetryID {
	var ids []RetryID
	for _, r := range requests {
		ids = append(append(ids, r.ID), r.Items...)
	}
	return ids
}

// Slot is one scheduled run of a job.
type Slot struct {
	Job, Name string
}

// Claim says whose a slot is. It never changes.
type Claim struct {
	Slot
	// Holder is the access key that claimed it, Owner the label that it gave.
	Holder, Owner string
	At            time.Time
	// KeepUntil is when it may be forgotten.
	KeepUntil time.Time
}

// Garbage is a physical key that was seen unreferenced below the horizon, so
// that nothing can refer to it any more.
type Garbage struct {
	Bucket   string
	Physical string
	Found    time.Time
}

// Proxy is a proxy's row under the guard list.
type Proxy struct {
	ID uuid.UUID
	// Acked is the guard list version whose guards bind all of its mutations.
	Acked int64
	// Seen is its last renewal by the database's clock. While it is recent the
	// places count in which this proxy's calls wait.
	Seen time.Time
}

// PlaceID names a place in a line. A ticket is chosen by whoever waits and means
// nothing without the access key that it was presented with.
type PlaceID struct {
	Scope          fence.Scope
	Holder, Ticket string
}

// Place is somebody's place in the line of those who wait for a scope. It lives
// until Until, and while a call waits in it only as long as that call's proxy is
// seen: there is no sign of life of its own.
type Place struct {
	PlaceID
	// Turn orders the line: who has the lower one comes first. The state gives it
	// when the place is taken, since the proxies' clocks cannot tell who came first.
	Turn  int64
	Owner string
	// Since is when it was taken, Until how long it is kept, by the database's
	// clock.
	Since, Until time.Time
	// Visit is the call that waits in it, Proxy the proxy where it does. Without a
	// Visit nobody waits: the place is kept for the next call with its ticket. A
	// Visit without a Proxy counts until Until, whatever becomes of its process.
	Visit, Proxy uuid.UUID
}

// Line is those who wait for a scope.
type Line struct {
	// Length is how many there are, First the first of them, in order.
	Length int
	First  []Place
}

// Deployment identifies one state.
type Deployment struct {
	ID          uuid.UUID
	Incarnation int64
}
