package sealed

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// A request is known again in one of two ways. An id that an SDK chose for it
// (guarded.Op.RetryID) is hashed with credential, operation, key and what is to be
// written there, so another write under the id is just another one; the lock on its
// key is enough. SDKs choose an id for each request: metadata and the like need no
// comparing. A name that people chose (guarded.Op.Named) finds whatever took effect under it, and has
// a lock of its own.

// retryID names a request over its retries by an SDK's id. The digest is part of
// it, so that a client which reuses an id for other bytes gets no foreign answer.
func retryID(op *guarded.Op, what string, ref object.Ref, digest string) *state.RetryID {
	if op.RetryID == "" {
		return nil
	}
	var named []byte
	for _, part := range []string{op.Caller, what, ref.Bucket, ref.Key, op.RetryID, digest} {
		named = fmt.Appendf(named, "%d:%s", len(part), part)
	}
	id := state.RetryID(sha256.Sum256(named))
	return &id
}

// result is the answer of a request that took effect.
type result struct {
	ETag     string    `json:"e,omitempty"`
	Size     int64     `json:"s,omitempty"`
	Modified time.Time `json:"m,omitzero"`
	// Checksums and ChecksumType are those of the object.
	Checksums    map[string]string `json:"c,omitempty"`
	ChecksumType string            `json:"k,omitempty"`
	UploadID     string            `json:"u,omitempty"`
	// Token and Generation are what it was admitted under; Own says that they are
	// those of the upload that it completed, so that the request needs none.
	Token      int64            `json:"t,omitempty"`
	Generation fence.Generation `json:"g,omitempty"`
	Own        bool             `json:"o,omitempty"`
}

func resultOf(i *object.Info) result {
	return result{ETag: i.ETag, Size: i.Size, Modified: i.Modified, Checksums: i.Checksums, ChecksumType: i.ChecksumType}
}

// info is the object as it was answered.
func (r *result) info(ref object.Ref) object.Info {
	return object.Info{Ref: ref, ETag: r.ETag, Size: r.Size, Modified: r.Modified,
		Attributes: object.Attributes{Checksums: r.Checksums, ChecksumType: r.ChecksumType}}
}

func (r *result) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings, numbers and a time always encode
	}
	return b
}

func decodeResult(b []byte) (r result, err error) {
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: the remembered answer cannot be read: %w", state.ErrUnavailable, err)
	}
	return r, nil
}

// under reports whether an answer was given under the token that the request
// presents now.
func (r *result) under(q *fence.Request) bool {
	return r.Own && q.Token == 0 || r.Token == int64(q.Token) && generation(r.Generation) == generation(q.Generation)
}

func generation(g fence.Generation) fence.Generation { return max(g, fence.FirstGeneration) }

// earlier finds what an earlier try of the operation's request did, in what the
// transaction read. begun says that the request took effect, although perhaps not
// this operation, which is one of its many (op.retry is then the record of its own).
func (op *operation) earlier(v *state.View) (answer []byte, found, begun bool, err error) {
	if op.named != nil {
		if answer, begun, err = op.named.Find(v.Retries); err != nil || op.retry == nil {
			return answer, begun, begun, err
		}
	}
	if op.retry != nil {
		answer, found = v.Retries[*op.retry]
	}
	return answer, found, begun, nil
}

// again answers a repetition as the first try was answered: it did take effect,
// whatever happened since (F7). If it comes under another token, that is judged as
// for any request, and raises the mark if it does: what is answered under a token
// must keep out lower ones (F4).
func (op *operation) again(answer []byte, v *state.View, mode state.Mode, ch *state.Changes) error {
	r, err := decodeResult(answer)
	if err != nil {
		return err
	}
	if !r.under(&op.request) {
		if _, err := op.admit(v, mode, ch); err != nil {
			return err
		}
	}
	op.replay(&r)
	return nil
}

// remember adds the records of an operation that is about to take effect: its own,
// and that of its request unless there is one. It is the operation that takes effect
// first that writes that one.
func (op *operation) remember(v *state.View, begun bool, ch *state.Changes) {
	if op.retry == nil && op.named == nil {
		return
	}
	r := op.answer()
	r.Token, r.Generation = int64(op.request.Token), generation(op.request.Generation)
	if op.retry != nil {
		ch.Retries = append(ch.Retries, state.Retry{ID: *op.retry, Result: r.encode()})
	}
	if op.named != nil && !begun {
		ch.Retries = append(ch.Retries, op.named.Record(v.Now, r.encode()))
	}
}

// answered looks, under the lock of a named request, whether it has taken effect
// under the token that it presents, before anything is spent on it. Where another
// one did under its name the error is an [*idempotency.ReusedError]. A request
// without a name is not found.
func (s *Store) answered(ctx context.Context, op *guarded.Op) (r result, found bool, err error) {
	named := op.Named
	if named == nil {
		return r, false, nil
	}
	err = state.Run(ctx, s.state, &state.Tx{
		Requests: []state.Request{named.Locked()}, Wait: lockWait,
		Decide: func(v *state.View) (state.Changes, error) {
			answer, there, err := named.Find(v.Retries)
			if err != nil || !there {
				return state.Changes{}, err
			}
			r, err = decodeResult(answer)
			found = err == nil && r.under(&op.Request)
			return state.Changes{}, err
		},
	})
	if err != nil {
		return r, false, err
	}
	if found && op.Request.Token != 0 {
		// Under which mark the first try stood is of no use to a holder that was passed
		// since: what is read here is what the edge tells it. A failure costs that only.
		_, _ = s.reads.read(ctx, state.Query{Scopes: []fence.Scope{op.Scope}})
	}
	if !found && op.Request.Token != 0 {
		// The edge did not ask: an answer comes before a verdict.
		if refusal := s.KnownStale(op); refusal != nil {
			return r, false, refusal
		}
	}
	return r, found, nil
}

// once runs do unless the named request that it belongs to has taken effect; then
// replay makes the answer. A failure of do may be due to another try of the
// request that took effect meanwhile, which is then the answer.
func once[T any](ctx context.Context, s *Store, op *guarded.Op, do func() (T, error), replay func(*result) T) (out T, err error) {
	r, found, err := s.answered(ctx, op)
	switch {
	case err != nil:
		return out, err
	case found:
		return replay(&r), nil
	}
	out, err = do()
	if err == nil || op.Named == nil || errors.Is(err, state.ErrUnknown) || errors.Is(err, idempotency.ErrReused) {
		return out, err
	}
	if r, found, aerr := s.answered(ctx, op); aerr == nil && found {
		return replay(&r), nil
	}
	return out, err
}

// fingerprint hashes a body that is read through it; nil where the request has no
// name and nobody will ask.
type fingerprint struct {
	io.Reader
	sum hash.Hash
}

func newFingerprint(op *guarded.Op, body io.Reader) *fingerprint {
	if op.Named == nil {
		return nil
	}
	f := &fingerprint{sum: sha256.New()}
	f.Reader = io.TeeReader(body, f.sum)
	return f
}

// ended says that the body was read to its verified end.
func (f *fingerprint) ended(op *guarded.Op) {
	if f != nil {
		op.Named.Body([sha256.Size]byte(f.sum.Sum(nil)))
	}
}
