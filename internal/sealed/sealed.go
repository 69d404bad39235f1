package sealed

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// State is what this package asks of the state.
type State interface {
	state.Transactor
	Deployment(ctx context.Context) (state.Deployment, error)
	ListObjects(ctx context.Context, r state.Range, limit int) ([]state.Object, error)
	ListUploads(ctx context.Context, r state.Range, afterID string, limit int) ([]state.Upload, error)
	ListScopes(ctx context.Context, prefix, after string, limit int) ([]state.Scope, time.Time, error)
	KeepPart(ctx context.Context, p state.UploadPart) error
	UploadParts(ctx context.Context, upload string, names []state.PartName) ([]state.UploadPart, error)
	ObjectParts(ctx context.Context, attempt uuid.UUID, skip, limit int) ([]object.Part, error)
	ListGarbage(ctx context.Context, bucket string, before time.Time, limit int) ([]state.Garbage, error)
	Maintain(ctx context.Context, keep time.Duration) error
}

// Buckets finds the store of a client's bucket.
type Buckets interface {
	Bucket(name string) (client *upstream.Client, bucket string, err error)
}

// Defaults of Options.
const (
	DefaultLongestUpload = 24 * time.Hour
	DefaultCollectAfter  = 7 * 24 * time.Hour
	DefaultCollectEvery  = time.Hour
)

// Options are the bounds of a Store; zero values stand for the defaults.
type Options struct {
	// LongestUpload bounds a single upload: a name older than this may become
	// impossible to commit.
	LongestUpload time.Duration
	// CollectAfter is how long unreferenced bytes are kept for running reads and
	// for a state that is restored from a backup.
	CollectAfter time.Duration
	// CollectEvery is the pause between two runs of the collector.
	CollectEvery time.Duration
	// SettleBound is how long after it arrived at the store a change can take effect,
	// at most; exporting waits for it.
	SettleBound time.Duration
	// Turn, where set, is called by each request before it joins others in a shared
	// read or transaction, with what it asks for, and may block: a simulation orders
	// requests by it that were woken at the same moment.
	Turn   func(what string)
	Logger *slog.Logger
}

// Store is the sealed way to write and read. It is safe for concurrent use.
type Store struct {
	state   State
	buckets Buckets
	names   names
	known   *recall
	commits *committer
	reads   *reader
	opts    Options
	log     *slog.Logger
	stop    context.CancelFunc
}

var (
	_ guarded.Writer = (*Store)(nil)
	_ guarded.Reader = (*Store)(nil)
	_ guarded.Lister = (*Store)(nil)
	_ guarded.Judge  = (*Store)(nil)
)

// New starts a Store; Close ends it. The collector runs only if the caller calls
// [Store.Collect].
func New(ctx context.Context, st State, buckets Buckets, o Options) (*Store, error) {
	dep, err := st.Deployment(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the deployment's id: %w", err)
	}
	o.LongestUpload = orDefault(o.LongestUpload, DefaultLongestUpload)
	o.CollectAfter = orDefault(o.CollectAfter, DefaultCollectAfter)
	o.CollectEvery = orDefault(o.CollectEvery, DefaultCollectEvery)
	o.SettleBound = orDefault(o.SettleBound, DefaultSettleBound)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	run, stop := context.WithCancel(context.Background())
	known := newRecall()
	return &Store{
		state: st, buckets: buckets, names: names{dep.ID}, known: known,
		commits: newCommitter(run, st, known, o.Turn), reads: newReader(run, st, known, o.Turn),
		opts: o, log: o.Logger, stop: stop,
	}, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Close waits for the transactions that are under way. Later calls of the Store
// fail with state.ErrUnavailable.
func (s *Store) Close() {
	s.stop()
	s.commits.wg.Wait()
	s.reads.wg.Wait()
}

// clientsFault are the store's refusals of bytes that are the request's own
// fault, and so the client's answer; NotImplemented is what it asks of the store and
// the store does not have, encryption above all. BadDigest is none: the digests that the
// store gets are ours, so the bytes were damaged on their way there.
var clientsFault = []string{
	"EntityTooLarge", "EntityTooSmall", "InvalidStorageClass",
	"InvalidArgument", "InvalidPart", "InvalidPartOrder", "InvalidTag", "KMS.NotFoundException",
	"MetadataTooLarge", "InvalidRequest", "QuotaExceeded", "InvalidEncryptionAlgorithmError", "NotImplemented",
}

// storeError says what a failure of the store means before the commit: whatever
// it did, nobody sees it (F7: 503, not 504).
func storeError(doing string, err error) error {
	if err == nil {
		return nil
	}
	if upstream.HasCode(err, clientsFault...) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", guarded.ErrStore, doing, err)
}

// bodyError remembers how a client's body ended: its own failures (a wrong
// checksum, a connection that went away) are the client's, not the store's.
// A Read may still run when the store's answer is there.
type bodyError struct {
	io.Reader
	failed atomic.Pointer[error]
}

func (b *bodyError) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(&err)
	}
	return n, err
}

// err is how the body failed so far; nil if it did not.
func (b *bodyError) err() error {
	if e := b.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// look reads what an operation needs to know before it spends anything: it
// refuses what the commit would refuse, and learns the epoch for new names.
func (s *Store) look(ctx context.Context, op *guarded.Op, access fence.Access, ref object.Ref, upload string) (*state.View, state.Scope, error) {
	q := state.Query{Guards: []fence.GuardID{op.Guard.ID}, Scopes: []fence.Scope{op.Scope}}
	if ref != (object.Ref{}) {
		q.Objects = []object.Ref{ref}
	}
	if upload != "" {
		q.Uploads = []string{upload}
	}
	v, err := s.reads.read(ctx, q)
	if err != nil {
		return nil, state.Scope{}, err
	}
	row := v.Scope(op.Scope, fence.Sealed)
	g, ok := v.Guards[op.Guard.ID]
	if !ok || g.Writes != fence.Sealed || row.Writes != fence.Sealed {
		return nil, row, fmt.Errorf("%w: %s", guarded.ErrGuardGone, op.Scope)
	}
	r := op.Request
	r.Access = access
	switch verdict := fence.Judge(&g, row.Mark, r); verdict {
	case fence.Admitted, fence.Raises:
		if _, exists := v.Scopes[op.Scope]; !exists && access == fence.Write {
			err = s.makeRow(ctx, op.Scope)
		}
		return v, row, err
	default:
		refusal := fence.Refuse(verdict, op.Scope, &g, row.Mark, r)
		refusal.Last, refusal.Now = row.Last, v.Now
		return nil, row, refusal
	}
}

// makeRow gives a scope its row before the first bytes of it are sent: the collector
// looks for bytes where there is a row, and theirs might never be committed.
func (s *Store) makeRow(ctx context.Context, scope fence.Scope) error {
	row := state.NewScope(scope, fence.Sealed)
	return state.Run(ctx, s.state, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Exclusive}}, Wait: lockWait,
		Decide: func(v *state.View) (state.Changes, error) {
			if _, exists := v.Scopes[scope]; exists {
				return state.Changes{}, nil
			}
			row.EpochSince = v.Now
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	})
}

// operation begins the commit of an operation.
func (s *Store) operation(op *guarded.Op, access fence.Access, key object.Ref) *operation {
	o := &operation{guard: op.Guard, scope: op.Scope, request: op.Request, caller: op.Caller, key: key, named: op.Named}
	o.request.Access = access
	if op.Guard.Issuer == fence.External && op.Request.Token != 0 {
		row, _ := s.known.get(op.Scope)
		o.exclusive = op.Request.Token > row.Mark.Token
	}
	return o
}

func infoOf(o *state.Object) *object.Info {
	if o == nil {
		return nil
	}
	return &o.Info
}
