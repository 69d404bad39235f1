package sealed

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// listPage is how many rows, or keys of the store, one question asks for.
const listPage = 1000

// List merges the rows of a bucket with the plain keys of the store. Two ordered
// streams of entries, each of which can seek, are read side by side.
//
// The rows of a guard go when it was exported and is gone. So the guards that hid
// plain keys, and whose rows were read instead, are looked at once more behind all
// reading: what still exists has had its rows all the time (F6), since ids are never
// used again.
func (s *Store) List(ctx context.Context, guards *fence.Guards, q guarded.ListQuery) (entries []guarded.Entry, next string, more bool, err error) {
	view, err := s.hiding(ctx, guards, q.Bucket)
	if err != nil {
		return nil, "", false, err
	}
	if entries, next, more, err = s.merge(ctx, view, q); err != nil {
		return nil, "", false, err
	}
	return entries, next, more, s.unchanged(ctx, view, q.Bucket, q.Prefix)
}

// unchanged fails with [guarded.ErrGuardGone] where a guard that keys with a prefix
// may lie under is no more.
func (s *Store) unchanged(ctx context.Context, guards *fence.Guards, bucket, prefix string) error {
	if !guards.Guarded(bucket) {
		return nil
	}
	var q state.Query
	for _, g := range guards.All() {
		if g.Pattern.Bucket() == bucket && g.Pattern.Touches(prefix) {
			q.Guards = append(q.Guards, g.ID)
		}
	}
	if len(q.Guards) == 0 {
		return nil
	}
	v, err := s.reads.read(ctx, q)
	if err != nil {
		return err
	}
	for _, id := range q.Guards {
		if _, ok := v.Guards[id]; !ok {
			return fmt.Errorf("%w: a guard of %s", guarded.ErrGuardGone, bucket)
		}
	}
	return nil
}

// merge makes a page.
func (s *Store) merge(ctx context.Context, view *fence.Guards, q guarded.ListQuery) (entries []guarded.Entry, next string, more bool, err error) {
	client, bucket, err := s.buckets.Bucket(q.Bucket)
	if err != nil {
		return nil, "", false, err
	}
	from := max(q.From, q.Prefix)
	size := min(q.Limit+1, listPage)
	plain := &plainStream{ctx: ctx, client: client, bucket: bucket, q: q, guards: view, seek: from, size: size}
	// One more than the page, so that it is seen without asking again whether there
	// is more.
	rows := &rowStream{ctx: ctx, state: s.state, guards: view, q: q, seek: from, size: q.Limit + 1, done: !view.Guarded(q.Bucket)}
	for len(entries) < q.Limit {
		a, err := rows.peek()
		if err != nil {
			return nil, "", false, err
		}
		b, err := plain.peek()
		if err != nil {
			return nil, "", false, err
		}
		switch {
		case a == nil && b == nil:
			return entries, "", false, nil
		case b == nil || a != nil && a.Key <= b.Key:
			entries = append(entries, *a)
		default:
			entries = append(entries, *b)
		}
		last := &entries[len(entries)-1]
		next = after(last)
		rows.skip(next)
		plain.skip(next)
	}
	row, err := rows.peek()
	if err != nil {
		return nil, "", false, err
	}
	more = row != nil
	if !more && plain.more() {
		// What is left of the store's keys may all be hidden. Behind a page that is
		// used up nothing is looked for where no guard hides anything.
		more = len(plain.page) == 0 && !view.Guarded(q.Bucket)
		if !more {
			b, err := plain.peek()
			if err != nil {
				return nil, "", false, err
			}
			more = b != nil
		}
	}
	return entries, next, more, nil
}

// hiding is the guard list as lists see it: a guard that is still being added
// hides no plain keys.
func (s *Store) hiding(ctx context.Context, guards *fence.Guards, bucket string) (*fence.Guards, error) {
	if !guards.Guarded(bucket) {
		return guards, nil
	}
	var keep []fence.Guard
	dropped := false
	for _, g := range guards.All() {
		if g.Pattern.Bucket() != bucket {
			continue
		}
		if g.State == fence.Pending {
			pending, err := s.Pending(ctx, &g)
			if err != nil {
				return nil, err
			}
			if pending {
				dropped = true
				continue
			}
		}
		keep = append(keep, g)
	}
	if !dropped {
		return guards, nil
	}
	return fence.NewGuards(guards.Version(), keep)
}

// after is the first string that can be listed behind an entry.
func after(e *guarded.Entry) string {
	if e.Prefix {
		return successor(e.Key)
	}
	return e.Key + "\x00"
}

// listError is storeError for lists, which may also be of a bucket that the store
// does not have.
func listError(doing string, err error) error {
	if upstream.HasCode(err, "NoSuchBucket") {
		return err
	}
	return storeError(doing, err)
}

// successor is the first string above all that begin with prefix; empty where
// there is none.
func successor(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// fold makes the entry that a key is listed as.
func fold(q *guarded.ListQuery, key string) (name string, prefix bool) {
	if q.Delimiter == "" {
		return key, false
	}
	if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
		return key[:len(q.Prefix)+i+len(q.Delimiter)], true
	}
	return key, false
}

// rowStream lists the rows of a bucket that are objects: not the copies of a guard
// that is being added, nor what is left of one that was exported, whose objects are
// the plain ones.
type rowStream struct {
	ctx    context.Context
	q      guarded.ListQuery
	guards *fence.Guards
	seek   string
	read   string // the key behind the last row that was read
	size   int
	done   bool // nothing behind the buffered rows
	rows   []state.Object

	state State
	entry guarded.Entry
}

func (r *rowStream) peek() (*guarded.Entry, error) {
	for {
		if len(r.rows) == 0 && !r.done {
			if err := r.fetch(); err != nil {
				return nil, err
			}
		}
		if len(r.rows) == 0 {
			if r.done {
				return nil, nil
			}
			continue
		}
		row := &r.rows[0]
		name, isPrefix := fold(&r.q, row.Key)
		switch {
		case isPrefix && name < r.seek:
			// The list begins inside of this directory, which is not shown then.
			r.skip(successor(name))
			continue
		case isPrefix:
			r.entry = guarded.Entry{Info: object.Info{Ref: object.Ref{Bucket: r.q.Bucket, Key: name}}, Prefix: true}
		default:
			r.entry = guarded.Entry{Info: row.Info, StorageClass: row.Info.StorageClass()}
		}
		return &r.entry, nil
	}
}

func (r *rowStream) fetch() error {
	to, from := successor(r.q.Prefix), max(r.seek, r.read)
	if to != "" && from >= to {
		r.done = true
		return nil
	}
	rows, err := r.state.ListObjects(r.ctx, state.Range{Bucket: r.q.Bucket, From: from, To: to}, r.size)
	if err != nil {
		return err
	}
	r.done = len(rows) < r.size
	if len(rows) > 0 {
		r.read = rows[len(rows)-1].Key + "\x00"
	}
	r.rows = slices.DeleteFunc(rows, func(o state.Object) bool {
		_, _, ok := r.guards.Find(o.Bucket, o.Key)
		return !ok
	})
	return nil
}

// skip drops what lies below a key.
func (r *rowStream) skip(to string) {
	if to == "" {
		r.rows, r.done = nil, true
		return
	}
	r.seek = max(r.seek, to)
	n, _ := slices.BinarySearchFunc(r.rows, to, func(o state.Object, k string) int { return strings.Compare(o.Key, k) })
	r.rows = r.rows[n:]
}

// plainStream lists the keys of the store's bucket that clients may see.
type plainStream struct {
	ctx     context.Context
	client  *upstream.Client
	bucket  string
	q       guarded.ListQuery
	guards  *fence.Guards
	seek    string
	size    int
	page    []guarded.Entry
	pageEnd string // the first key that may stand on the page that follows
	next    string // the store's token of that page
	done    bool   // the page is the last one
}

func (p *plainStream) peek() (*guarded.Entry, error) {
	for {
		for len(p.page) > 0 {
			e := &p.page[0]
			hidden, err := p.hidden(e)
			if err != nil {
				return nil, err
			}
			if hidden == nil {
				return e, nil
			}
			p.skip(*hidden)
		}
		if p.done {
			return nil, nil
		}
		if err := p.fetch(); err != nil {
			return nil, err
		}
	}
}

// hidden returns where to go on when an entry may not be shown.
func (p *plainStream) hidden(e *guarded.Entry) (*string, error) {
	to := func(s string) *string { return &s }
	if fence.IsReserved(e.Key) {
		return to(successor(fence.Reserved)), nil
	}
	// Some delimiters cut the reserved prefix itself.
	mixed := e.Prefix && strings.HasPrefix(fence.Reserved, e.Key) //nolint:gocritic // the entry may be a piece of the reserved prefix
	if !mixed && !p.guards.Guarded(p.q.Bucket) {
		return nil, nil
	}
	if _, scope, ok := p.guards.Find(p.q.Bucket, e.Key); ok {
		return to(successor(scope.Prefix())), nil
	}
	if !e.Prefix {
		return nil, nil
	}
	for _, g := range p.guards.All() {
		mixed = mixed || g.Pattern.Bucket() == p.q.Bucket && g.Pattern.Touches(e.Key)
	}
	if !mixed {
		return nil, nil
	}
	// Some keys below the prefix are hidden. It is shown if another is not.
	inner := &plainStream{ctx: p.ctx, client: p.client, bucket: p.bucket, guards: p.guards, size: listPage,
		q: guarded.ListQuery{Bucket: p.q.Bucket, Prefix: e.Key}, seek: e.Key}
	first, err := inner.peek()
	if err != nil || first != nil {
		return nil, err
	}
	return to(successor(e.Key)), nil
}

func (p *plainStream) fetch() error {
	if to := successor(p.q.Prefix); to != "" && p.seek >= to {
		p.done = true
		return nil
	}
	lq := upstream.ListQuery{Prefix: p.q.Prefix, Delimiter: p.q.Delimiter, MaxKeys: p.size}
	switch {
	case p.next != "" && p.seek <= p.pageEnd:
		lq.Continuation = p.next
	case p.seek > p.q.Prefix:
		lq.StartAfter = below(p.seek)
	}
	page, err := p.client.ListObjects(p.ctx, p.bucket, lq)
	if err != nil {
		return listError("listing the bucket", err)
	}
	p.page = make([]guarded.Entry, 0, len(page.Entries)+len(page.Prefixes))
	for _, e := range page.Entries {
		p.page = append(p.page, guarded.Entry{StorageClass: e.StorageClass, ChecksumAlgorithms: e.ChecksumAlgorithms, Info: object.Info{
			Ref: object.Ref{Bucket: p.q.Bucket, Key: e.Key}, Size: e.Size, ETag: e.ETag, Modified: e.LastModified,
			Attributes: object.Attributes{ChecksumType: e.ChecksumType},
		}})
	}
	for _, pre := range page.Prefixes {
		p.page = append(p.page, guarded.Entry{Prefix: true, Info: object.Info{Ref: object.Ref{Bucket: p.q.Bucket, Key: pre}}})
	}
	slices.SortFunc(p.page, func(a, b guarded.Entry) int { return strings.Compare(a.Key, b.Key) })
	p.next, p.done = page.Next, page.Next == ""
	if n := len(p.page); n > 0 {
		p.pageEnd = after(&p.page[n-1])
	} else {
		p.pageEnd = p.seek
	}
	p.drop()
	return nil
}

// drop removes the entries of the page that lie below the place to go on from.
func (p *plainStream) drop() {
	n := 0
	for n < len(p.page) && p.page[n].Key < p.seek {
		n++
	}
	p.page = p.page[n:]
}

// skip goes on from a key; from "" there is nothing to go on to. Where that lies
// behind the page, the store is asked anew from there instead of page by page.
func (p *plainStream) skip(to string) {
	if to == "" {
		p.page, p.done = nil, true
		return
	}
	p.seek = max(p.seek, to)
	p.drop()
}

func (p *plainStream) more() bool { return len(p.page) > 0 || !p.done }

// below is a name under which no key from seek on lies. Keys between it and seek
// are dropped by the caller, so it need not be the closest one; it must be
// UTF-8, since stores take nothing else.
func below(seek string) string {
	if s, ok := strings.CutSuffix(seek, "\x00"); ok {
		return s
	}
	b := []byte(seek)
	b[len(b)-1]--
	return strings.ToValidUTF8(string(b), "") + "\U0010ffff"
}

// ListUploads merges the open uploads of guarded keys with those of plain ones.
func (s *Store) ListUploads(ctx context.Context, guards *fence.Guards, bucket, prefix, afterKey, afterID string, limit int) ([]guarded.UploadInfo, bool, error) {
	client, name, err := s.buckets.Bucket(bucket)
	if err != nil {
		return nil, false, err
	}
	var all []guarded.UploadInfo
	more := false
	if guards.Guarded(bucket) {
		from := max(prefix, afterKey)
		id := ""
		if afterKey >= prefix {
			id = afterID
			if afterID == "" && afterKey != "" {
				from = afterKey + "\x00"
			}
		}
		rows, err := s.state.ListUploads(ctx, state.Range{Bucket: bucket, From: from, To: successor(prefix)}, id, limit+1)
		if err != nil {
			return nil, false, err
		}
		for _, u := range rows {
			all = append(all, guarded.UploadInfo{Ref: u.Ref, ID: u.ID, Initiated: u.Initiated, Creator: u.Creator, Algorithm: u.Algorithm, ChecksumType: u.ChecksumType, StorageClass: u.StorageClass()})
		}
	}
	key, id := afterKey, afterID
	for plain := 0; plain <= limit; {
		page, err := client.ListMultipartUploads(ctx, name, prefix, key, id, listPage)
		if err != nil {
			return nil, false, listError("listing uploads", err)
		}
		for _, u := range page.Uploads {
			if _, _, guarded := guards.Find(bucket, u.Key); guarded || fence.IsReserved(u.Key) {
				continue
			}
			plain++
			all = append(all, guardedUpload(bucket, u))
		}
		if page.NextKey == "" || page.NextKey == key && page.NextID == id {
			break
		}
		key, id = page.NextKey, page.NextID
	}
	slices.SortStableFunc(all, func(a, b guarded.UploadInfo) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	if len(all) > limit {
		all, more = all[:limit], true
	}
	return all, more, nil
}

func guardedUpload(bucket string, u upstream.Upload) guarded.UploadInfo {
	return guarded.UploadInfo{Ref: object.Ref{Bucket: bucket, Key: u.Key}, ID: u.ID, Initiated: u.Initiated}
}
