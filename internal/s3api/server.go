package s3api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Guards is this proxy's copy of the guard list; see [guards.List].
type Guards interface {
	// Current is the list while its lease lasts.
	Current() (*fence.Guards, error)
	// Known is the last list seen, for reads while the lease is over.
	Known() *fence.Guards
	// Begin and BeginBucket register a mutation outside every guard.
	Begin(ctx context.Context, bucket, key string, more ...string) (*guards.Flight, error)
	BeginBucket(ctx context.Context, bucket string) (*guards.Flight, error)
}

// Buckets maps the names of clients to buckets of stores.
type Buckets interface {
	// Bucket finds a bucket. It fails with [ErrNoSuchBucket].
	Bucket(name string) (client *upstream.Client, bucket string, err error)
	// Names lists the buckets that are mapped by name.
	Names() []string
	// Only is the store in which every other bucket lies under its own name; nil
	// where only mapped buckets exist.
	Only() *upstream.Client
}

// Keyring finds who a request acts as; see [auth.Keyring].
type Keyring interface {
	Principal(ctx context.Context, accessKey, sessionToken string) (*auth.Principal, error)
}

// Bounds of a [Server]; zero values of [Limits] stand for these.
const (
	// DefaultConcurrent is how many requests are answered at one time.
	DefaultConcurrent = 1024
	// DefaultDeadline bounds requests that stream nothing.
	DefaultDeadline = 60 * time.Second
	// DefaultSpool bounds a body that must be known whole before it is sent: one
	// whose length the client does not say, or whose checksum comes after it.
	DefaultSpool = 64 << 20
	// DefaultSpoolTotal bounds all of them together.
	DefaultSpoolTotal = 1 << 30

	// maxTarget bounds what is looked at of a request line; headers are bounded by
	// the HTTP server.
	maxTarget = 16 << 10
	// maxDocument bounds XML bodies, but for the two below.
	maxDocument = 256 << 10
	// maxDelete holds 1,000 keys of 1,024 bytes, some of them escaped.
	maxDelete = 2 << 20
	// maxComplete holds 10,000 parts with a checksum each.
	maxComplete = 4 << 20
)

// Limits bound what requests may use.
type Limits struct {
	// Concurrent requests, of all and of one credential with its sessions; one more
	// is answered 503 SlowDown. They count from when their signature is verified to
	// when their answer was handed over. PerCredential is half of Concurrent where
	// zero.
	Concurrent, PerCredential int
	// Deadline bounds each request that streams no object.
	Deadline time.Duration
	// Spool is in bytes, per request, on disk in SpoolDir (the system's directory
	// for temporary files where empty); SpoolTotal is the sum for all requests.
	Spool, SpoolTotal int64
	SpoolDir          string
}

// Options are what a [Server] is made of. All but Domain, Observer, Answered,
// Stranger, Limits and Logger are required.
type Options struct {
	// Region is told to clients that ask where a bucket is.
	Region string
	// Domain makes virtual-hosted-style requests to BUCKET.Domain work.
	Domain   string
	Keyring  Keyring
	Verifier *sigv4.Verifier
	Guards   Guards
	Buckets  Buckets
	// Writers has a way to write for each kind of guard; what has none is 501.
	Writers map[fence.Writes]guarded.Writer
	Reader  guarded.Reader
	Lister  guarded.Lister
	Judge   guarded.Judge
	// Observer is told each refusal of the fence.
	Observer events.Observer
	// Answered is called once for each request after its answer. It must not
	// block.
	Answered func(context.Context, *Record)
	// Stranger, where set, is called before a request is refused whose signature is
	// not verified; the answer waits for it.
	Stranger func(*http.Request)
	Limits   Limits
	Logger   *slog.Logger
}

// Record is what became of one request.
type Record struct {
	RequestID string
	// Operation is S3's name of it; empty where the request is none.
	Operation string
	// Status is 499 where the client was gone before it could be answered.
	Status int
	// Code is the S3 error code; empty for a success.
	Code        string
	Bucket, Key string
	// AccessKey is that of the credential which the request acts for; Session is the
	// temporary access key it was signed with, empty where that is the same.
	AccessKey, Session string
	// Scope, Token and Highest are set for requests inside a scope.
	Scope          fence.Scope
	Token, Highest fence.Token
	// BytesIn and BytesOut are bytes of object data or XML, not of headers.
	BytesIn, BytesOut int64
	Duration          time.Duration
	Remote            string
}

// Server answers S3 requests. It is an [http.Handler], safe for concurrent use,
// and starts no goroutines of its own.
type Server struct {
	region, domain string
	keyring        Keyring
	verifier       *sigv4.Verifier
	guards         Guards
	buckets        Buckets
	writers        map[fence.Writes]guarded.Writer
	reader         guarded.Reader
	lister         guarded.Lister
	judge          guarded.Judge
	observer       events.Observer
	answered       func(context.Context, *Record)
	stranger       func(*http.Request)
	limits         Limits
	log            *slog.Logger
	shares         shares
	spooled        atomic.Int64
	ids            ids
}

// New checks the options.
func New(o Options) (*Server, error) {
	switch {
	case o.Keyring == nil, o.Verifier == nil, o.Guards == nil, o.Buckets == nil, o.Reader == nil, o.Lister == nil, o.Judge == nil:
		return nil, errors.New("s3api: Keyring, Verifier, Guards, Buckets, Reader, Lister and Judge are required")
	case o.Region == "":
		return nil, errors.New("s3api: Region is required")
	}
	if o.Limits.Concurrent <= 0 {
		o.Limits.Concurrent = DefaultConcurrent
	}
	if o.Limits.PerCredential <= 0 {
		o.Limits.PerCredential = max(1, o.Limits.Concurrent/2)
	}
	if o.Limits.SpoolTotal <= 0 {
		o.Limits.SpoolTotal = DefaultSpoolTotal
	}
	if o.Limits.Deadline <= 0 {
		o.Limits.Deadline = DefaultDeadline
	}
	if o.Limits.Spool <= 0 {
		o.Limits.Spool = DefaultSpool
	}
	if o.Observer == nil {
		o.Observer = events.Discard
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		region: o.Region, domain: o.Domain, keyring: o.Keyring, verifier: o.Verifier, guards: o.Guards, buckets: o.Buckets,
		writers: o.Writers, reader: o.Reader, lister: o.Lister, judge: o.Judge, observer: o.Observer, answered: o.Answered, stranger: o.Stranger,
		limits: o.Limits, log: o.Logger, ids: newIDs(),
		shares: shares{most: o.Limits.Concurrent, each: o.Limits.PerCredential, held: map[string]int{}},
	}, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rq := &request{s: s, w: w, r: r, ctx: r.Context(), start: time.Now()}
	rq.record.RequestID = s.ids.next()
	h := w.Header()
	h["X-Amz-Request-Id"] = []string{rq.record.RequestID}
	h["X-Amz-Id-2"] = s.ids.host
	h["Server"] = serverName
	defer func() { rq.finish(recover()) }()

	defer rq.leave()
	if err := rq.serve(); err != nil {
		if rq.who == nil && s.stranger != nil {
			s.stranger(r)
		}
		rq.render(rq.answerTo(err))
	}
}

var serverName = []string{"s3fence"}
