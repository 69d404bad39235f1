package s3api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/upstream"
)

// fakeObjects is a way to write in memory: the rule, no more. Bytes are also
// put into the store under a reserved name, so that copies out have a source.
type fakeObjects struct {
	store *upstream.Client

	mu      sync.Mutex
	marks   map[fence.Scope]fence.Mark
	known   map[fence.Scope]fence.Token // tokens below are known to be stale
	objects map[object.Ref]*fakeObject
	uploads map[string]*fakeUpload
	// last and now are told in refusals that are known.
	last   fence.Grant
	now    time.Time
	serial int
	// fail, where set, is what every write answers.
	fail error
	ops  []guarded.Op
	puts []guarded.Put
}

type fakeObject struct {
	object.Info
	body     []byte
	physical string
	parts    []object.Part
}

type fakeUpload struct {
	guarded.CreateUpload
	parts map[int]*fakeObject
}

func newFake(store *upstream.Client) *fakeObjects {
	return &fakeObjects{
		store: store, marks: map[fence.Scope]fence.Mark{}, known: map[fence.Scope]fence.Token{},
		objects: map[object.Ref]*fakeObject{}, uploads: map[string]*fakeUpload{},
	}
}

// grant raises the mark of a scope and, with known, remembers so.
func (f *fakeObjects) grant(scope string, t fence.Token, known bool) {
	sc, err := fence.ParseScope(scope)
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks[sc] = fence.Mark{Generation: 1, Token: t}
	if known {
		f.known[sc] = t
	}
}

func (f *fakeObjects) judge(op *guarded.Op, access fence.Access) error {
	f.ops = append(f.ops, *op)
	r := op.Request
	r.Access = access
	m := f.marks[op.Scope]
	switch v := fence.Judge(op.Guard, m, r); v {
	case fence.Admitted:
	case fence.Raises:
		f.marks[op.Scope] = fence.Mark{Generation: m.Current(), Token: r.Token}
	default:
		return fence.Refuse(v, op.Scope, op.Guard, m, r)
	}
	return nil
}

func (f *fakeObjects) KnownStale(op *guarded.Op) *fence.Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := op.Request.Token; t != 0 && t < f.known[op.Scope] {
		r := fence.Refuse(fence.Stale, op.Scope, op.Guard, f.marks[op.Scope], op.Request)
		r.Last, r.Now = f.last, f.now
		return r
	}
	return nil
}

func (f *fakeObjects) commit(ctx context.Context, info object.Info, body []byte, cond object.Conditions) (object.Info, error) {
	var old *object.Info
	if o := f.objects[info.Ref]; o != nil {
		old = &o.Info
	}
	if err := cond.CheckWrite(old); err != nil {
		return info, err
	}
	f.serial++
	info.Size, info.Modified = int64(len(body)), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if info.ETag == "" {
		sum := md5.Sum(body)
		info.ETag = hex.EncodeToString(sum[:])
	}
	o := &fakeObject{Info: info, body: body, physical: ".s3fence/objects/" + strconv.Itoa(f.serial)}
	if f.store != nil {
		if _, err := f.store.PutObject(ctx, info.Bucket, o.physical, bytes.NewReader(body), info.Size, upstream.PutOptions{}); err != nil {
			return info, err
		}
	}
	f.objects[info.Ref] = o
	return info, nil
}

func (f *fakeObjects) Put(ctx context.Context, p *guarded.Put) (object.Info, error) {
	body, err := io.ReadAll(p.Body)
	if err != nil {
		return object.Info{}, err
	}
	if p.Size >= 0 && p.Size != int64(len(body)) {
		return object.Info{}, fmt.Errorf("size %d, body %d", p.Size, len(body))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts = append(f.puts, *p)
	if f.fail != nil {
		return object.Info{}, f.fail
	}
	if err := f.judge(&p.Op, fence.Write); err != nil {
		return object.Info{}, err
	}
	a := p.Attributes
	if p.Verified != nil {
		a.Checksums, a.ChecksumType = p.Verified(), "FULL_OBJECT"
	}
	return f.commit(ctx, object.Info{Ref: p.Ref, Attributes: a}, body, p.Conditions)
}

// from reads the source of a copy.
func (f *fakeObjects) from(ctx context.Context, s *guarded.Source) (object.Info, []byte, error) {
	var info object.Info
	var body []byte
	if s.Guard == nil {
		o, err := f.store.GetObject(ctx, s.Bucket, s.Key, "", nil)
		if err != nil {
			if upstream.NotFound(err) {
				err = object.ErrNoSuchKey
			}
			return info, nil, err
		}
		defer o.Body.Close()
		if body, err = io.ReadAll(o.Body); err != nil {
			return info, nil, err
		}
		info = object.Info{Ref: s.Ref, Size: o.Size, ETag: o.ETag, Modified: o.LastModified, Attributes: object.Attributes{Headers: map[string]string{"Content-Type": o.Header.Get("Content-Type")}}}
	} else {
		if err := f.judge(&s.Op, fence.Read); err != nil {
			return info, nil, err
		}
		o := f.objects[s.Ref]
		if o == nil {
			return info, nil, object.ErrNoSuchKey
		}
		info, body = o.Info, o.body
	}
	if err := s.CheckRead(&info); err != nil {
		return info, nil, object.ErrPreconditionFailed
	}
	if r := s.Range; r != nil {
		if r.Offset+r.Length > int64(len(body)) {
			return info, nil, object.ErrInvalidRange
		}
		body = body[r.Offset : r.Offset+r.Length]
	}
	return info, body, nil
}

func (f *fakeObjects) Copy(ctx context.Context, c *guarded.Copy) (object.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.judge(&c.Op, fence.Write); err != nil {
		return object.Info{}, err
	}
	info, body, err := f.from(ctx, &c.Source)
	if err != nil {
		return object.Info{}, err
	}
	a := info.Attributes
	if c.ReplaceMeta {
		a.Headers, a.Meta = c.Headers, c.Meta
	}
	if c.ReplaceTags {
		a.Tags = c.Tags
	}
	return f.commit(ctx, object.Info{Ref: c.Ref, Attributes: a}, body, c.Conditions)
}

func (f *fakeObjects) Delete(_ context.Context, d *guarded.Delete) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := make([]error, len(d.Items))
	refused := f.judge(&d.Op, fence.Write)
	for i, item := range d.Items {
		if errs[i] = refused; refused != nil {
			continue
		}
		var old *object.Info
		if o := f.objects[item.Ref]; o != nil {
			old = &o.Info
		}
		if errs[i] = item.CheckWrite(old); errs[i] == nil {
			delete(f.objects, item.Ref)
		}
	}
	return errs
}

func (f *fakeObjects) SetTags(_ context.Context, t *guarded.Tagging) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.judge(&t.Op, fence.Write); err != nil {
		return err
	}
	o := f.objects[t.Ref]
	if o == nil {
		return object.ErrNoSuchKey
	}
	o.Tags = t.Tags
	return nil
}

func (f *fakeObjects) Admit(_ context.Context, op *guarded.Op, ref object.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.judge(op, fence.Write); err != nil {
		return err
	}
	if f.objects[ref] == nil {
		return object.ErrNoSuchKey
	}
	return nil
}

func (f *fakeObjects) CreateUpload(_ context.Context, c *guarded.CreateUpload) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.judge(&c.Op, fence.Stage); err != nil {
		return "", err
	}
	f.serial++
	id := "upload-" + strconv.Itoa(f.serial)
	f.uploads[id] = &fakeUpload{*c, map[int]*fakeObject{}}
	return id, nil
}

// upload finds an upload and judges the token it was created with.
func (f *fakeObjects) upload(u *guarded.UploadRef, access fence.Access) (*fakeUpload, error) {
	up := f.uploads[u.ID]
	if up == nil || up.Ref != u.Ref {
		return nil, object.ErrNoSuchUpload
	}
	created := up.Op.Request
	if t := u.Request.Token; t != 0 && t != created.Token {
		return nil, fence.Refuse(fence.NeverGranted, u.Scope, u.Guard, f.marks[u.Scope], u.Request)
	}
	op := u.Op
	op.Request.Token = created.Token
	if created.Token != 0 {
		op.Request.Generation, op.Request.Named = created.Generation, true
	}
	return up, f.judge(&op, access)
}

func (f *fakeObjects) UploadPart(_ context.Context, p *guarded.Part) (guarded.PartInfo, error) {
	body, err := io.ReadAll(p.Body)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.part(&p.UploadRef, p.Number, body, p.Checksums)
}

func (f *fakeObjects) part(u *guarded.UploadRef, number int, body []byte, sums map[string]string) (guarded.PartInfo, error) {
	up, err := f.upload(u, fence.Stage)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	sum := md5.Sum(body)
	o := &fakeObject{Info: object.Info{ETag: hex.EncodeToString(sum[:]), Size: int64(len(body)), Attributes: object.Attributes{Checksums: sums}}, body: body}
	up.parts[number] = o
	return guarded.PartInfo{Number: number, ETag: o.ETag, Size: o.Size, Modified: time.Unix(1700000000, 0), Checksums: sums}, nil
}

func (f *fakeObjects) CopyPart(ctx context.Context, p *guarded.PartCopy) (guarded.PartInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, body, err := f.from(ctx, &p.Source)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	return f.part(&p.UploadRef, p.Number, body, nil)
}

func (f *fakeObjects) Complete(ctx context.Context, c *guarded.Complete) (object.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	up, err := f.upload(&c.UploadRef, fence.Write)
	if err != nil {
		return object.Info{}, err
	}
	var body []byte
	var made []object.Part
	last := 0
	for _, p := range c.Parts {
		part := up.parts[p.Number]
		switch {
		case p.Number <= last:
			return object.Info{}, object.ErrInvalidPartOrder
		case part == nil || part.ETag != p.ETag:
			return object.Info{}, object.ErrInvalidPart
		}
		last = p.Number
		made = append(made, object.Part{Number: p.Number, Start: int64(len(body)), Size: part.Size})
		body = append(body, part.body...)
	}
	a := up.Attributes
	a.Parts = len(c.Parts)
	info, err := f.commit(ctx, object.Info{Ref: c.Ref, ETag: "0123-" + strconv.Itoa(a.Parts), Attributes: a}, body, c.Conditions)
	if err == nil {
		f.objects[c.Ref].parts = made
		delete(f.uploads, c.ID)
	}
	return info, err
}

func (f *fakeObjects) Abort(_ context.Context, u *guarded.UploadRef) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uploads[u.ID] == nil {
		return object.ErrNoSuchUpload
	}
	delete(f.uploads, u.ID)
	return nil
}

func (f *fakeObjects) ListParts(_ context.Context, u *guarded.UploadRef, after, limit int) (guarded.Uploaded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	up := f.uploads[u.ID]
	if up == nil {
		return guarded.Uploaded{}, object.ErrNoSuchUpload
	}
	out := guarded.Uploaded{Algorithm: up.Algorithm, ChecksumType: up.ChecksumType, Creator: up.Caller}
	for _, n := range slices.Sorted(maps.Keys(up.parts)) {
		if n <= after {
			continue
		}
		if len(out.Parts) == limit {
			out.More = true
			return out, nil
		}
		out.Parts = append(out.Parts, guarded.PartInfo{Number: n, ETag: up.parts[n].ETag, Size: up.parts[n].Size, Modified: time.Unix(1700000000, 0), Checksums: up.parts[n].Checksums})
	}
	return out, nil
}

func (f *fakeObjects) Pending(_ context.Context, g *fence.Guard) (bool, error) {
	return g.State == fence.Pending, nil
}

func (f *fakeObjects) Stat(_ context.Context, op guarded.Op, ref object.Ref) (object.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return object.Info{}, f.fail
	}
	if err := f.judge(&op, fence.Read); err != nil {
		return object.Info{}, err
	}
	if o := f.objects[ref]; o != nil {
		return o.Info, nil
	}
	return object.Info{}, object.ErrNoSuchKey
}

func (f *fakeObjects) Get(ctx context.Context, op guarded.Op, ref object.Ref, choose guarded.Choose) (object.Info, io.ReadCloser, error) {
	info, err := f.Stat(ctx, op, ref)
	if err != nil {
		return info, nil, err
	}
	r, err := choose(info, func(n int) (object.Part, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n > len(f.objects[ref].parts) {
			return object.Part{}, guarded.ErrPartsUnknown
		}
		return f.objects[ref].parts[n-1], nil
	})
	if err != nil {
		return info, nil, err
	}
	f.mu.Lock()
	body := f.objects[ref].body
	f.mu.Unlock()
	if r != nil {
		body = body[r.Offset : r.Offset+r.Length]
	}
	return info, io.NopCloser(bytes.NewReader(body)), nil
}

func (f *fakeObjects) Parts(ctx context.Context, op guarded.Op, ref object.Ref, skip, limit int) (object.Info, []object.Part, error) {
	info, err := f.Stat(ctx, op, ref)
	if err != nil {
		return info, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	parts := f.objects[ref].parts
	parts = parts[min(skip, len(parts)):]
	return info, slices.Clone(parts[:min(limit, len(parts))]), nil
}

func (f *fakeObjects) Locate(ctx context.Context, op guarded.Op, ref object.Ref) (object.Info, guarded.Location, error) {
	info, err := f.Stat(ctx, op, ref)
	if err != nil {
		return info, guarded.Location{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return info, guarded.Location{Bucket: ref.Bucket, Key: f.objects[ref].physical}, nil
}

func (f *fakeObjects) List(ctx context.Context, gs *fence.Guards, q guarded.ListQuery) (entries []guarded.Entry, next string, more bool, err error) {
	bucket := q.Bucket
	if bucket == "alias" {
		bucket = "realname"
	}
	page, err := f.store.ListObjects(ctx, bucket, upstream.ListQuery{Prefix: q.Prefix})
	if err != nil {
		return nil, "", false, err
	}
	all := map[string]guarded.Entry{}
	for _, e := range page.Entries {
		if _, _, ok := gs.Find(q.Bucket, e.Key); !ok && !fence.IsReserved(e.Key) {
			all[e.Key] = guarded.Entry{Info: object.Info{Ref: object.Ref{Bucket: q.Bucket, Key: e.Key}, Size: e.Size, ETag: e.ETag, Modified: e.LastModified}}
		}
	}
	f.mu.Lock()
	for ref, o := range f.objects {
		if ref.Bucket == q.Bucket && strings.HasPrefix(ref.Key, q.Prefix) {
			all[ref.Key] = guarded.Entry{Info: o.Info}
		}
	}
	f.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		e := all[key]
		if q.Delimiter != "" {
			if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
				e = guarded.Entry{Prefix: true}
				e.Key = key[:len(q.Prefix)+i+len(q.Delimiter)]
			}
		}
		if e.Key < q.From || len(entries) > 0 && entries[len(entries)-1].Key == e.Key {
			continue
		}
		if len(entries) == q.Limit {
			return entries, e.Key, true, nil
		}
		entries = append(entries, e)
	}
	return entries, "", false, nil
}

func (f *fakeObjects) ListUploads(_ context.Context, _ *fence.Guards, bucket, prefix, afterKey, afterID string, limit int) (uploads []guarded.UploadInfo, more bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, u := range f.uploads {
		if u.Bucket == bucket && strings.HasPrefix(u.Key, prefix) && (u.Key > afterKey || u.Key == afterKey && id > afterID) {
			uploads = append(uploads, guarded.UploadInfo{Ref: u.Ref, ID: id, Creator: u.Caller, Initiated: time.Unix(1700000000, 0)})
		}
	}
	slices.SortFunc(uploads, func(a, b guarded.UploadInfo) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.ID, b.ID))
	})
	if len(uploads) > limit {
		return uploads[:limit], true, nil
	}
	return uploads, false, nil
}
