package s3api

import (
	"context"
	"testing"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
)

// slowLister has something happen between the judging of a list and its reading.
type slowLister struct {
	guarded.Lister
	meanwhile func()
}

func (l slowLister) List(ctx context.Context, g *fence.Guards, q guarded.ListQuery) ([]guarded.Entry, string, bool, error) {
	l.meanwhile()
	return l.Lister.List(ctx, g, q)
}

func (l slowLister) ListUploads(ctx context.Context, g *fence.Guards, bucket, prefix, key, id string, limit int) ([]guarded.UploadInfo, bool, error) {
	l.meanwhile()
	return l.Lister.ListUploads(ctx, g, bucket, prefix, key, id, limit)
}

// TestListsAreJudgedToTheirEnd: a list is read in pieces, after its token was judged.
// If somebody else is granted the scope meanwhile it may show what was written under
// the new token, and is not answered under the old one. (F3)
func TestListsAreJudgedToTheirEnd(t *testing.T) {
	t.Parallel()
	meanwhile := func() {}
	b := newGuarded(t, func(o *Options) { o.Lister = slowLister{o.Lister, func() { meanwhile() }} })
	token := fence.Token(34)
	for _, query := range []string{"?list-type=2&prefix=jobs/a/", "?prefix=jobs/a/", "?versions&prefix=jobs/a/", "?uploads&prefix=jobs/a/"} {
		list := call{method: "GET", target: "/data/" + query, header: map[string]string{"X-Fencing-Token": token.String()}}
		meanwhile = func() {}
		if got := b.call(t, list); got.status != 200 {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
		token++
		meanwhile = func() { b.raise("s3://data/jobs/a/", token) }
		if got := b.call(t, list); got.status != 412 || got.code() != codeStale {
			t.Errorf("%s, taken over meanwhile: %d %s", query, got.status, got.body)
		}
		list.header = nil
		if got := b.call(t, list); got.status != 200 {
			t.Errorf("%s without a token: %d %s", query, got.status, got.body)
		}
	}
}
