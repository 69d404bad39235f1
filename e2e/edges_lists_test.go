package e2e

import (
	"context"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manyKeys makes 100,000 names: 250 folders with 300 keys each, 5,000 keys with
// folders of their own, and 20,000 in one row.
func manyKeys(below string) []string {
	keys := make([]string, 0, 100_000)
	for i := range 75_000 {
		keys = append(keys, fmt.Sprintf("%sdir-%03d/%05d", below, i%250, i))
	}
	for i := range 5_000 {
		keys = append(keys, fmt.Sprintf("%sone/%d/é", below, i))
	}
	for i := range 20_000 {
		keys = append(keys, fmt.Sprintf("%sz%d", below, i))
	}
	slices.Sort(keys)
	return keys
}

// multiply makes sealed objects of the cluster's bucket out of one that is there,
// each as if its body were its key; all have the bytes of the first. To write
// 100,000 would take minutes.
func (c *Cluster) multiply(one string, keys []string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN)
	require.NoError(c.t, err)
	defer conn.Close(ctx)
	made, err := conn.Exec(ctx, `
INSERT INTO objects (bucket, key, scope, token, attempt, physical, size, etag, modified, attributes)
SELECT o.bucket, convert_to(k, 'UTF8'), o.scope, o.token, gen_random_uuid(), o.physical, octet_length(k), md5(k), o.modified, o.attributes
  FROM objects AS o, unnest($2::text[]) AS k WHERE o.key = convert_to($1, 'UTF8')`, one, keys)
	require.NoError(c.t, err)
	require.Equal(c.t, int64(len(keys)), made.RowsAffected())
	_, err = conn.Exec(ctx, "ANALYZE objects")
	require.NoError(c.t, err)
}

// deleteBatch deletes keys in one request and returns what the answer says of each.
func (p *Proxy) deleteBatch(t testing.TB, keys []string) (deleted, failed []string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("<Delete>")
	for _, key := range keys {
		b.WriteString("<Object><Key>")
		require.NoError(t, xml.EscapeText(&b, []byte(key)))
		b.WriteString("</Key></Object>")
	}
	b.WriteString("</Delete>")
	var out struct {
		Deleted []struct{ Key string }
		Error   []struct{ Key, Code string }
	}
	p.Send(t, Request{Method: "POST", Bucket: p.cluster.Bucket, Query: url.Values{"delete": {""}}, Body: b.String(), Header: map[string]string{"Content-Md5": contentMD5(b.String())}}).Want(t, 200).XML(t, &out)
	for _, d := range out.Deleted {
		deleted = append(deleted, d.Key)
	}
	for _, e := range out.Error {
		failed = append(failed, e.Key+" "+e.Code)
	}
	return deleted, failed
}

// 200,000 keys in one bucket, half of them in a sealed scope and half plain: each
// is listed once, in order, wherever a list begins, also while others come and go.
func TestEdgesHundredThousandKeys(t *testing.T) {
	t.Parallel()
	c, discard := sizes(t, Options{})
	p := c.Proxies[0]
	sealed, plain := manyKeys("sealed/"), manyKeys("plain/")
	p.Put(t, "sealed/", "").Want(t, 200)
	c.multiply("sealed/", sealed)
	p.Send(t, Request{Method: "DELETE", Bucket: c.Bucket, Key: "sealed/"}).Want(t, 204)
	discard.Fill(c.Bucket, plain)
	all := slices.Concat(plain, sealed)

	c.Run(t, "whole, while others write", func(t *testing.T) {
		stop := make(chan struct{})
		var writers sync.WaitGroup
		var left [2][]string
		for w, below := range []string{"sealed/", "plain/"} {
			writers.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(w)))
				for {
					select {
					case <-stop:
						return
					default:
					}
					key := all[random.IntN(len(all))]
					key = below + strings.TrimPrefix(strings.TrimPrefix(key, "sealed/"), "plain/") + "~passing"
					if a, err := p.TrySend(t.Context(), Request{Method: "PUT", Bucket: c.Bucket, Key: key, Body: key}); err != nil || a.Status != 200 {
						t.Errorf("put %q: %v %s", key, err, a)
						return
					}
					if random.IntN(4) == 0 {
						left[w] = append(left[w], key)
						continue
					}
					if a, err := p.TrySend(t.Context(), Request{Method: "DELETE", Bucket: c.Bucket, Key: key}); err != nil || a.Status != 204 {
						t.Errorf("delete %q: %v %s", key, err, a)
						return
					}
				}
			})
		}
		got := listAll(t, p, c.Bucket, listQuery{encoded: true})
		close(stop)
		writers.Wait()
		assert.True(t, slices.IsSorted(got))
		passing := 0
		got = slices.DeleteFunc(got, func(key string) bool {
			if strings.HasSuffix(key, "~passing") {
				passing++
				return true
			}
			return false
		})
		t.Logf("%d keys of writers were seen in passing", passing)
		assert.True(t, slices.Equal(all, got), "%d keys of %d, or in another order", len(got), len(all))
		for some := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(slices.Concat(left[:]...)))), 1000) {
			deleted, failed := p.deleteBatch(t, some)
			assert.Equal(t, some, deleted)
			assert.Empty(t, failed)
		}
	})
	// page is one page of a list of some of the keys that there are.
	page := func(t *testing.T, keys []string, q listQuery) {
		t.Helper()
		before := discard.Requests.Load()
		var l listing
		query := url.Values{"prefix": {q.prefix}, "max-keys": {fmt.Sprint(q.maxKeys)}, "encoding-type": {"url"}}
		if q.v1 {
			query.Set("marker", q.after)
		} else {
			query.Set("list-type", "2")
			query.Set("start-after", q.after)
		}
		p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: query}).Want(t, 200).XML(t, &l)
		asked := discard.Requests.Load() - before
		assert.LessOrEqual(t, asked, int64(2), "questions to the store for one page after %q", q.after)
		var got []string
		for _, e := range l.Contents {
			key, err := url.PathUnescape(e.Key)
			require.NoError(t, err)
			got = append(got, key)
		}
		at, found := slices.BinarySearch(keys, q.after)
		if found {
			at++
		}
		want := keys[at:min(at+q.maxKeys, len(keys))]
		require.True(t, slices.Equal(want, got), "%+v: %d keys, want %d", q, len(got), len(want))
		assert.Equal(t, at+q.maxKeys < len(keys), l.IsTruncated)
	}

	c.Run(t, "from anywhere", func(t *testing.T) {
		random := rand.New(rand.NewPCG(2, 3))
		for i := range 60 {
			keys := [][]string{sealed, plain, all}[i%3]
			q := listQuery{
				v1: i%2 == 0, encoded: true, maxKeys: 1 + random.IntN(1000),
				prefix: []string{"sealed/", "plain/", ""}[i%3], after: keys[random.IntN(len(keys))],
			}
			switch i % 5 {
			case 1:
				q.after = q.after[:len(q.after)-1]
			case 2:
				q.after += "\U0010ffff"
			}
			page(t, keys, q)
		}
	})

	c.Run(t, "folders", func(t *testing.T) {
		for _, q := range []listQuery{
			{prefix: "", delimiter: "/"},
			{prefix: "sealed/", delimiter: "/", after: "sealed/dir-100/"},
			{prefix: "plain/", delimiter: "/", after: "plain/dir-100/01"},
			{prefix: "sealed/one/", delimiter: "/", v1: true},
			{prefix: "plain/dir-249/", delimiter: "9", maxKeys: 7},
		} {
			q.encoded = true
			before := discard.Requests.Load()
			assert.Equal(t, listed(all, q), listAll(t, p, c.Bucket, q), "%+v", q)
			t.Logf("%+v: %d questions to the store", q, discard.Requests.Load()-before)
		}
	})

	c.Run(t, "a batch of 1,000", func(t *testing.T) {
		mixed := slices.Concat(sealed[:500], plain[:500])
		for _, keys := range [][]string{sealed[40_000:41_000], plain[99_000:], mixed} {
			deleted, failed := p.deleteBatch(t, keys)
			assert.Equal(t, keys, deleted)
			assert.Empty(t, failed)
		}
		restOfPlain, restOfSealed := plain[500:99_000], slices.Concat(sealed[500:40_000], sealed[41_000:])
		for _, after := range []string{"", sealed[39_500]} {
			page(t, restOfSealed, listQuery{prefix: "sealed/", after: after, maxKeys: 1000})
		}
		for _, after := range []string{"", plain[98_500]} {
			page(t, restOfPlain, listQuery{prefix: "plain/", after: after, maxKeys: 1000})
		}
		doc := "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>"
		p.Send(t, Request{Method: "POST", Bucket: c.Bucket, Query: url.Values{"delete": {""}}, Body: doc, Header: map[string]string{"Content-Md5": contentMD5(doc)}}).WantCode(t, 400, "MalformedXML")
	})
	p.wantLittleMemory(t)
}
